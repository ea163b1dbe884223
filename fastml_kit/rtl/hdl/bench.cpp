// Streams words through a design with the ports clk, rst, valid_in, data_in, valid_out, data_out,
// and measures when the answers come.
//
//   bench IN OUT IN_BYTES OUT_BYTES GAP SEED
//
// IN and OUT hold one packed word a sample, bit 0 first. In a fraction GAP of the cycles no word is
// offered. Whenever none is, data_in carries noise, and registers wake up with noise too: a design
// that answers a cycle early or late, or lacks a reset, then gives wrong codes rather than lucky
// ones. Prints one JSON object. Its cycles are rising edges: an answer that a register would catch
// at edge t + 5 to a question caught at edge t has a latency of 5.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr uint64_t RESET_CYCLES = 4;
constexpr uint64_t PATIENCE = 100000;  // cycles without an answer before giving up
constexpr uint64_t LINGER = 64;        // cycles to watch for answers that nobody asked for

std::vector<uint8_t> read_file(const char* path) {
    FILE* file = std::fopen(path, "rb");
    if (!file) {
        std::perror(path);
        std::exit(1);
    }
    std::vector<uint8_t> bytes;
    uint8_t block[1 << 16];
    for (size_t n; (n = std::fread(block, 1, sizeof block, file)) > 0;)
        bytes.insert(bytes.end(), block, block + n);
    std::fclose(file);
    return bytes;
}

void write_file(const char* path, const std::vector<uint8_t>& bytes) {
    FILE* file = std::fopen(path, "wb");
    if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() ||
        std::fclose(file) != 0) {
        std::perror(path);
        std::exit(1);
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 7) {
        std::fprintf(stderr, "usage: bench IN OUT IN_BYTES OUT_BYTES GAP SEED\n");
        return 2;
    }
    const size_t in_bytes = std::strtoull(argv[3], nullptr, 10);
    const size_t out_bytes = std::strtoull(argv[4], nullptr, 10);
    const double gap = std::strtod(argv[5], nullptr);
    const int seed = std::atoi(argv[6]);

    VerilatedContext context;
    context.randReset(2);
    context.randSeed(seed + 1);
    Vtop top{&context};
    std::mt19937 random(seed);
    std::bernoulli_distribution idle(gap);

    const std::vector<uint8_t> in = read_file(argv[1]);
    const size_t samples = in.size() / in_bytes;
    std::vector<uint8_t> out;
    out.reserve(samples * out_bytes);
    std::vector<uint8_t> noise(in_bytes);
    std::vector<uint64_t> asked;
    asked.reserve(samples);

    // Verilator keeps a word of any width with its lowest byte first, and wants the bits above the
    // port's width to be zero. So noise is mixed from the bytes of real words.
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed words are little-endian");
    const auto offer_noise = [&] {
        for (size_t i = 0; i < in_bytes; ++i)
            noise[i] = in[(random() % samples) * in_bytes + i];
        std::memcpy(&top.data_in, noise.data(), in_bytes);
    };

    size_t answered = 0, surplus = 0;
    uint64_t cycle = 0, quiet = 0, last_answer = 0;
    uint64_t latency_min = UINT64_MAX, latency_max = 0, interval_min = UINT64_MAX;
    while (answered < samples ? quiet < PATIENCE : quiet < LINGER) {
        top.rst = cycle < RESET_CYCLES;
        top.valid_in = !top.rst && asked.size() < samples && !idle(random);
        if (top.valid_in) {
            std::memcpy(&top.data_in, &in[asked.size() * in_bytes], in_bytes);
            asked.push_back(cycle);
        } else {
            offer_noise();
        }
        top.clk = 0;
        top.eval();
        ++quiet;
        if (top.valid_out && !top.rst) {
            quiet = 0;
            if (answered >= asked.size() || answered == samples) {
                ++surplus;
            } else {
                const auto* word = reinterpret_cast<const uint8_t*>(&top.data_out);
                out.insert(out.end(), word, word + out_bytes);
                const uint64_t latency = cycle - asked[answered];
                if (latency < latency_min) latency_min = latency;
                if (latency > latency_max) latency_max = latency;
                if (answered && cycle - last_answer < interval_min)
                    interval_min = cycle - last_answer;
                last_answer = cycle;
                ++answered;
            }
            if (surplus > samples) break;
        }
        top.clk = 1;
        top.eval();
        ++cycle;
    }
    top.final();
    write_file(argv[2], out);
    std::printf(
        "{\"samples\": %zu, \"answered\": %zu, \"surplus\": %zu, \"cycles\": %llu, "
        "\"latency_min\": %llu, \"latency_max\": %llu, \"interval_min\": %llu}\n",
        samples, answered, surplus, static_cast<unsigned long long>(cycle),
        static_cast<unsigned long long>(answered ? latency_min : 0),
        static_cast<unsigned long long>(latency_max),
        static_cast<unsigned long long>(answered > 1 ? interval_min : 0));
    return 0;
}
