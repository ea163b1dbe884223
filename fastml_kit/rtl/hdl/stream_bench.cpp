// Streams frames of words through a design with valid/ready streams, stalls both sides at random,
// and measures. The design's ports: clk, rst, in_data, in_valid, in_ready, out_data, out_valid,
// out_ready; and, if it has FIFOs to watch, high_water (16 bits a FIFO) and blocked (2 bits each).
//
//   bench name=value ...       the names that `number` below is asked for, in any order
//
// It runs in a folder with input.bin, packed words, bit 0 first, and leaves there output.bin,
// times.bin (of each frame, the cycles of its first word in and its last word out), bench.json,
// and where asked handshakes.csv and waves.vcd. A word that was offered stays offered until it is
// taken, as AXI-stream asks; while none is, in_data carries noise, and registers wake up with noise
// too: a design that looks at data that nobody offered, or lacks a reset, then gives wrong codes
// rather than lucky ones. Cycles are rising edges, counted from the first one after the reset: a
// word taken at edge t + 5 in answer to a word taken at edge t came after 5 cycles.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr uint64_t RESET_CYCLES = 8;
constexpr uint64_t LINGER = 1024;  // cycles to watch for words that nobody asked for

using Bytes = std::vector<uint8_t>;

[[noreturn]] void refuse(const std::string& reason) {
    std::fprintf(stderr, "%s\n", reason.c_str());
    std::exit(2);
}

Bytes read_file(const std::string& path) {
    FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) refuse("cannot read " + path);
    Bytes bytes;
    uint8_t block[1 << 16];
    for (size_t n; (n = std::fread(block, 1, sizeof block, file)) > 0;)
        bytes.insert(bytes.end(), block, block + n);
    std::fclose(file);
    return bytes;
}

void write_file(const std::string& path, const void* bytes, size_t size) {
    FILE* file = std::fopen(path.c_str(), "wb");
    if (!file || std::fwrite(bytes, 1, size, file) != size || std::fclose(file) != 0)
        refuse("cannot write " + path);
}

struct Arguments {
    std::map<std::string, std::string> given;
    Arguments(int argc, char** argv) {
        for (int i = 1; i < argc; ++i) {
            const std::string word = argv[i];
            const size_t at = word.find('=');
            if (at == std::string::npos) refuse("an argument is name=value, not " + word);
            given[word.substr(0, at)] = word.substr(at + 1);
        }
    }
    double number(const std::string& name) const {
        if (!given.count(name)) refuse("no argument " + name + "=");
        return std::strtod(given.at(name).c_str(), nullptr);
    }
};

// The monitor ports are optional: where the top lacks one, the second of each pair is chosen.
struct View {
    const uint8_t* bytes;
    size_t size;
    bool bit(size_t i) const { return bytes[i / 8] >> (i % 8) & 1; }
    unsigned field(size_t i) const { return bytes[2 * i] | bytes[2 * i + 1] << 8; }
};
template <class Port>
View view(const Port& port) {
    return {reinterpret_cast<const uint8_t*>(&port), sizeof port};
}
template <class Top>
auto high_water(const Top& top, int) -> decltype(view(top.high_water)) {
    return view(top.high_water);
}
template <class Top>
View high_water(const Top&, long) {
    return {nullptr, 0};
}
template <class Top>
auto blocked(const Top& top, int) -> decltype(view(top.blocked)) {
    return view(top.blocked);
}
template <class Top>
View blocked(const Top&, long) {
    return {nullptr, 0};
}

// Bytes in which Verilator keeps a port of so many bits.
size_t container(size_t bits) {
    return bits <= 8 ? 1 : bits <= 16 ? 2 : bits <= 32 ? 4 : bits <= 64 ? 8 : (bits + 31) / 32 * 4;
}

std::string list(const std::vector<unsigned>& numbers) {
    std::string text;
    for (const unsigned number : numbers)
        text += (text.empty() ? "" : ", ") + std::to_string(number);
    return "[" + text + "]";
}

}  // namespace

int main(int argc, char** argv) {
    const Arguments arguments(argc, argv);
    const size_t in_bytes = arguments.number("in_bytes"), out_bytes = arguments.number("out_bytes");
    const size_t in_words = arguments.number("in_words"), out_words = arguments.number("out_words");
    const size_t fifos = arguments.number("fifos");
    const bool single = arguments.number("single") != 0;
    const uint64_t patience = std::max(arguments.number("patience"), 2.0);
    const uint64_t traced = arguments.number("trace");
    const int seed = arguments.number("seed");
    const Bytes in = read_file("input.bin");
    const size_t offers = in.size() / in_bytes, frames = offers / in_words;
    const size_t wanted = frames * out_words;

    VerilatedContext context;
    context.randReset(2);
    context.randSeed(seed + 1);
#if VM_TRACE
    context.traceEverOn(true);
#endif
    Vtop top{&context};
    // Both sides draw from generators of their own, so that stalls on one leave the other's alone.
    std::mt19937 in_random(seed), out_random(seed + 0x9e3779b9u), noise_random(seed + 1u);
    std::bernoulli_distribution idle(arguments.number("stall_in"));
    std::bernoulli_distribution busy(arguments.number("stall_out"));

    // Verilator keeps a word of any width with its lowest byte first, and wants the bits above the
    // port's width to be zero. So noise is mixed from the bytes of real words.
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed words are little-endian");
    if (in_bytes > sizeof top.in_data || out_bytes > sizeof top.out_data)
        refuse("in_data or out_data is narrower than the interface's words");
    const View water = high_water(top, 0), block = blocked(top, 0);
    if (fifos && (water.size != container(16 * fifos) || block.size != container(2 * fifos)))
        refuse("the interface names " + std::to_string(fifos) +
               " FIFOs; high_water or blocked is missing or has another width");

    FILE* csv = traced ? std::fopen("handshakes.csv", "w") : nullptr;
    if (csv) {
        std::fprintf(csv, "cycle,in_valid,in_ready,out_valid,out_ready");
        for (size_t i = 0; i < fifos; ++i) std::fprintf(csv, ",full%zu,waiting%zu", i, i);
        std::fputc('\n', csv);
    }
#if VM_TRACE
    VerilatedVcdC waves;
    if (traced) {
        top.trace(&waves, 99);
        waves.open("waves.vcd");
    }
#endif

    Bytes out, held(out_bytes), stuck_bits;
    out.reserve(wanted * out_bytes);
    std::vector<uint64_t> times(2 * frames);  // first word in, last word out, for each frame
    size_t sent = 0, got = 0;
    std::string fault;  // what the design did wrong; after it, nothing else means anything
    uint64_t quiet = 0, cycle = 0;
    int64_t last = -1;
    bool offering = false, waiting = false, stuck = false;
    const auto now = [&] { return " in cycle " + std::to_string(cycle); };
    const auto moved = [&] {
        return std::to_string(sent) + " of " + std::to_string(offers) +
               " input words were taken and " + std::to_string(got) + " of " +
               std::to_string(wanted) + " output words given";
    };
    for (uint64_t tick = 0; fault.empty() && !stuck; ++tick) {
        const bool reset = tick < RESET_CYCLES;
        cycle = reset ? 0 : tick - RESET_CYCLES;
        top.rst = reset;
        const bool turn = !single || sent % in_words || got == sent / in_words * out_words;
        if (!offering && !reset && sent < offers && turn) offering = !idle(in_random);
        top.in_valid = offering;
        top.out_ready = !busy(out_random);
        for (size_t i = 0; i < in_bytes; ++i)
            reinterpret_cast<uint8_t*>(&top.in_data)[i] =
                in[(offering ? sent : noise_random() % offers) * in_bytes + i];
        top.clk = 0;
        top.eval();
#if VM_TRACE
        if (cycle < traced) waves.dump(2 * tick);
#endif
        if (!reset) {
            const auto* word = reinterpret_cast<const uint8_t*>(&top.out_data);
            if (waiting && !top.out_valid)
                fault = "out_valid fell" + now() + " before its word was taken; it must stay high";
            else if (waiting && std::memcmp(word, held.data(), out_bytes))
                fault = "out_data changed" + now() + " before its word was taken; it must stay";
            waiting = top.out_valid && !top.out_ready;
            if (waiting) std::memcpy(held.data(), word, out_bytes);
            if (csv && cycle < traced) {
                std::fprintf(csv, "%llu,%d,%d,%d,%d", static_cast<unsigned long long>(cycle),
                             top.in_valid, top.in_ready, top.out_valid, top.out_ready);
                for (size_t i = 0; i < 2 * fifos; ++i) std::fprintf(csv, ",%d", block.bit(i));
                std::fputc('\n', csv);
            }
            ++quiet;
            if (offering && top.in_ready) {
                if (sent % in_words == 0) times[2 * (sent / in_words)] = cycle;
                ++sent;
                offering = false;
                quiet = 0;
            }
            if (top.out_valid && top.out_ready) {
                quiet = 0;
                if (got == wanted) {
                    fault = "one output word too many came" + now() + ", after " + moved();
                } else if (sent <= got / out_words * in_words) {
                    fault = "an answer came" + now() + " before its frame's first word was taken, "
                            "when " + moved() + "; look at how many words make a frame, and at "
                            "out_valid after the reset";
                } else {
                    out.insert(out.end(), word, word + out_bytes);
                    if (++got % out_words == 0) times[2 * (got / out_words) - 1] = cycle;
                    last = cycle;
                }
            }
            // What holds still through the later half of the wait is what the design is stuck in.
            if (quiet == patience / 2) stuck_bits.assign(block.bytes, block.bytes + block.size);
            if (quiet > patience / 2)
                for (size_t i = 0; i < stuck_bits.size(); ++i) stuck_bits[i] &= block.bytes[i];
            const bool done = got == wanted && sent == offers;
            if (done && quiet >= LINGER) break;
            stuck = !done && quiet >= patience;
        }
        if (context.gotFinish()) {
            fault = "the design called $finish" + now() + ", when " + moved();
            break;
        }
        top.clk = 1;
        top.eval();
#if VM_TRACE
        if (cycle < traced) waves.dump(2 * tick + 1);
#endif
    }
    std::vector<unsigned> marks, full, wait;
    for (size_t i = 0; i < fifos; ++i) {
        const View bits{stuck_bits.data(), stuck_bits.size()};
        marks.push_back(water.field(i));
        if (stuck && bits.bit(2 * i)) full.push_back(i);
        if (stuck && bits.bit(2 * i + 1)) wait.push_back(i);
    }
    if (stuck) {
        fault = "the design is stuck: nothing moved for " + std::to_string(patience) +
                " cycles, after " + moved();
        if (!full.empty()) {
            // Whatever lies before a full FIFO fills up too: the last in the stream is where it
            // began. {3!r} stands for the name of FIFO 3.
            const unsigned last = full.back();
            fault += ". Deadlock: FIFO {" + std::to_string(last) + "!r} of depth " +
                     std::to_string(marks[last]) + " is full and holds its producer back";
            for (size_t i = 0; i + 1 < full.size(); ++i)
                fault += (i ? ", {" : " (and behind it {") + std::to_string(full[i]) + "!r}";
            fault += full.size() > 1 ? ")" : "";
            fault += "; raise its depth, or, if it fills up whatever its depth, look at the node "
                     "that it feeds";
        } else if (sent < offers && !top.in_ready) {
            fault += ". in_ready stays low, and no watched FIFO is full; look at the first node";
        } else {
            fault += ". A word was lost or is still owed; look at out_valid, and at how many "
                     "words make a frame";
        }
    }
    top.final();
#if VM_TRACE
    if (traced) waves.close();
#endif
    if (csv) std::fclose(csv);
    write_file("output.bin", out.data(), out.size());
    write_file("times.bin", times.data(), times.size() * sizeof times[0]);
    const std::string text =
        "{\"fault\": \"" + fault + "\", \"sent\": " + std::to_string(sent) + ", \"got\": " +
        std::to_string(got) + ", \"cycles\": " + std::to_string(last + 1) + ", \"high_water\": " +
        list(marks) + ", \"full\": " + list(full) + ", \"waiting\": " + list(wait) + "}\n";
    write_file("bench.json", text.data(), text.size());
    return 0;
}
