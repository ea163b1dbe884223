// A board's whole top behind a pseudo-terminal: the host's bytes go bit by bit onto the pin rx,
// and what comes out of the pin tx goes back. A host sets its rate there as on a real port, and a
// wrong rate gives garbage here too.
//
//   simulator clock_hz=25000000 seed=0
//
// It prints the terminal's name, ends when its standard input does, and then leaves board.json with
// the cycles that it simulated. Time stands still while the line is quiet and nothing runs, so that
// an idle board costs nothing; cycles, and no seconds, are what it measures.

#include <asm/termbits.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr uint64_t LINGER = 1 << 16;   // quiet cycles before time stands still
constexpr uint64_t LOOK = 1 << 10;     // cycles between two looks at the terminal
constexpr size_t HELD = 1 << 20;       // bytes kept for a host that does not read; then they are lost

[[noreturn]] void refuse(const std::string& reason) {
    std::fprintf(stderr, "%s: %s\n", reason.c_str(), std::strerror(errno));
    std::exit(2);
}

double argument(int argc, char** argv, const std::string& name) {
    for (int i = 1; i < argc; ++i)
        if (std::string(argv[i]).rfind(name + "=", 0) == 0)
            return std::strtod(argv[i] + name.size() + 1, nullptr);
    std::fprintf(stderr, "no argument %s=\n", name.c_str());
    std::exit(2);
}

// A top without lights does not tell whether it runs: then only a quiet line stops time.
template <class Top>
auto running(const Top& top, int) -> decltype(bool(top.led)) {
    return top.led >> 1 & 1;
}
template <class Top>
bool running(const Top&, long) {
    return false;
}

class Terminal {
  public:
    Terminal() {
        master_ = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
        if (master_ < 0 || grantpt(master_) || unlockpt(master_)) refuse("no pseudo-terminal");
        const char* name = ptsname(master_);
        slave_ = name ? open(name, O_RDWR | O_NOCTTY) : -1;  // so that a host may come and go
        termios2 raw{};
        if (slave_ < 0 || ioctl(slave_, TCGETS2, &raw)) refuse("no pseudo-terminal");
        raw.c_iflag = raw.c_oflag = raw.c_lflag = 0;
        raw.c_cflag = (raw.c_cflag & ~(CSIZE | PARENB)) | CS8;
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        if (ioctl(slave_, TCSETS2, &raw)) refuse("no pseudo-terminal");
        std::printf("%s\n", name);
        std::fflush(stdout);
    }

    // Exchange bytes with the host; wait for some if `idle`. False when this program should end.
    bool exchange(bool idle) {
        pollfd fds[2] = {{master_, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        if (!out.empty()) fds[0].events |= POLLOUT;
        if (poll(fds, 2, idle ? -1 : 0) < 0 && errno != EINTR) refuse("poll");
        if (fds[1].revents) {
            char byte;
            if (read(STDIN_FILENO, &byte, 1) <= 0) return false;
        }
        if (fds[0].revents & POLLIN) {
            uint8_t block[4096];
            const ssize_t n = read(master_, block, sizeof block);
            if (n > 0) in.insert(in.end(), block, block + n);
            termios2 set{};
            if (ioctl(slave_, TCGETS2, &set)) refuse("the terminal's rate");
            baud = set.c_ospeed;
        }
        while (!out.empty()) {
            const uint8_t byte = out.front();
            if (write(master_, &byte, 1) != 1) break;
            out.pop_front();
        }
        while (out.size() > HELD) out.pop_front();
        return true;
    }

    std::deque<uint8_t> in, out;
    double baud = 9600;

  private:
    int master_, slave_;
};

}  // namespace

int main(int argc, char** argv) {
    const double clock_hz = argument(argc, argv, "clock_hz");
    VerilatedContext context;
    context.randReset(2);
    context.randSeed(1 + static_cast<int>(argument(argc, argv, "seed")));
    Vtop top{&context};
    Terminal terminal;
    const auto began = std::chrono::steady_clock::now();

    uint64_t cycle = 0, quiet = 0;
    // Bits that go to the board, the lowest first, and when the next one begins.
    unsigned to_board = 0, to_board_left = 0;
    double to_board_next = 0;
    // Bits that come from it: how many of ten are in, and when the next one is at its middle.
    unsigned from_board = 0, from_board_bits = 10;
    double from_board_next = 0;
    top.rx = 1;

    for (bool going = true; going;) {
        const bool idle = quiet > LINGER && terminal.out.empty() && terminal.in.empty() &&
                          !running(top, 0);
        // The first look comes after the board's reset, as a plugged board has long had its own.
        if (idle || (cycle + 1) % LOOK == 0) going = terminal.exchange(idle);
        const double bit = clock_hz / terminal.baud;
        const double now = static_cast<double>(cycle);
        ++quiet;

        if (!to_board_left && !terminal.in.empty()) {
            to_board = 0x200u | static_cast<unsigned>(terminal.in.front()) << 1;
            terminal.in.pop_front();
            to_board_left = 11;
            to_board_next = now;
        }
        if (to_board_left) {
            quiet = 0;
            if (now >= to_board_next) {
                if (--to_board_left) {
                    top.rx = to_board & 1;
                    to_board >>= 1;
                    to_board_next += bit;
                }
            }
        }

        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
        ++cycle;

        if (from_board_bits == 10 && !top.tx) {
            from_board_bits = 0;
            from_board_next = now + bit / 2;
        }
        if (from_board_bits < 10) {
            quiet = 0;
            if (now >= from_board_next) {
                from_board = from_board >> 1 | static_cast<unsigned>(top.tx & 1) << 9;
                from_board_next += bit;
                // The stop bit is at the top: without it, the byte is lost.
                if (++from_board_bits == 10 && from_board >> 9 & 1)
                    terminal.out.push_back(from_board >> 1 & 0xff);
            }
        }
    }
    top.final();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    FILE* file = std::fopen("board.json", "w");
    if (!file) refuse("board.json");
    std::fprintf(file, "{\"cycles\": %llu, \"seconds\": %.3f}\n",
                 static_cast<unsigned long long>(cycle), seconds.count());
    return std::fclose(file) ? 1 : 0;
}
