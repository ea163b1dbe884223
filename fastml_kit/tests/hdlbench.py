"""Many stream modules in one simulation: random stalls on every stream, and the handshake's rules.

Compiling takes most of a simulation's time, so that one top module holds every module under test,
each with streams of its own. The rules are checked in every cycle, on every stream that comes out:
a word that is offered stays, unchanged, until it is taken; and neither `valid` nor the word depends
on `ready` within a cycle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastml_kit import tools
from fastml_kit.rtl.process import run_logged

SLOT_BITS = 256  # a stream's place in the top module's ports
STREAMS = 64  # the most of either kind

DRIVER = r"""
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>
#include "Vtop.h"
#include "verilated.h"

constexpr int SLOT = SLOT_BITS / 32;  // 32-bit words
constexpr uint64_t PATIENCE = 1000, LINGER = 100, LONGEST = 1000000;

struct Stream {
    uint64_t stall, count, endless;  // stall in 1/2**32
    std::vector<uint32_t> words;
    std::vector<uint64_t> cycles;
    bool offered = false;
    uint32_t held[SLOT] = {};
};

uint64_t take(FILE* file) {
    uint64_t x;
    if (std::fread(&x, 8, 1, file) != 1) std::exit(2);
    return x;
}

int main(int argc, char** argv) {
    VerilatedContext context;
    context.randReset(2);  // registers that no reset reaches wake up as noise
    context.randSeed(static_cast<int>(std::strtoul(argv[3], nullptr, 10)) + 1);
    Vtop top{&context};
    std::mt19937 random(static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10)));
    FILE* file = std::fopen(argv[1], "rb");
    std::vector<Stream> in(take(file)), out(take(file));
    for (auto* side : {&in, &out})
        for (Stream& s : *side) {
            s.stall = take(file);
            s.count = take(file);
            s.endless = take(file);
        }
    for (Stream& s : in) {
        s.words.resize(s.count * SLOT);
        if (std::fread(s.words.data(), 4, s.words.size(), file) != s.words.size()) return 2;
    }
    std::fclose(file);

    uint64_t idle = 0, linger = 0;
    for (uint64_t cycle = 0; linger < LINGER; cycle++) {
        const bool reset = cycle < 4;
        uint64_t valid = 0, ready = 0;
        for (size_t i = 0; i < in.size(); i++) {
            Stream& s = in[i];
            if (!s.count) continue;
            if (s.cycles.size() < s.count && !s.offered) s.offered = random() >= s.stall;
            if (reset) s.offered = false;
            const size_t at = s.cycles.size() * SLOT;
            const uint32_t noise = random();  // what is not offered must not matter
            for (int k = 0; k < SLOT; k++)
                top.in_data[i * SLOT + k] = s.offered ? s.words[at + k] : noise * (2 * k + 1);
            valid |= uint64_t{s.offered} << i;
        }
        for (size_t i = 0; i < out.size(); i++) {
            const bool full = out[i].endless && out[i].cycles.size() == out[i].count;
            ready |= uint64_t{!reset && !full && random() >= out[i].stall} << i;
        }
        top.clk = 0;
        top.rst = reset;
        top.in_valid = valid;
        top.out_ready = ~ready;
        top.eval();
        const uint64_t other_valid = top.out_valid;
        std::vector<uint32_t> other(&top.out_data[0], &top.out_data[0] + out.size() * SLOT);
        top.out_ready = ready;
        top.eval();
        if (!reset) {
            bool moved = false;
            for (size_t i = 0; i < in.size(); i++)
                if (in[i].offered && top.in_ready >> i & 1) {
                    in[i].offered = false;
                    in[i].cycles.push_back(cycle);
                    moved = true;
                }
            for (size_t i = 0; i < out.size(); i++) {
                Stream& s = out[i];
                const uint32_t* word = &top.out_data[i * SLOT];
                const bool now = top.out_valid >> i & 1;
                const char* broken = nullptr;
                if (now != (other_valid >> i & 1)) broken = "valid depends on ready";
                else if (now && std::memcmp(word, &other[i * SLOT], 4 * SLOT))
                    broken = "data depends on ready";
                else if (s.offered && !now) broken = "valid dropped before the word was taken";
                else if (s.offered && std::memcmp(word, s.held, 4 * SLOT))
                    broken = "data changed before the word was taken";
                if (broken) {
                    std::printf("output stream %zu, cycle %llu: %s\n", i,
                                static_cast<unsigned long long>(cycle), broken);
                    return 1;
                }
                s.offered = now && !(ready >> i & 1);
                if (s.offered) std::memcpy(s.held, word, 4 * SLOT);
                if (now && (ready >> i & 1)) {
                    s.words.insert(s.words.end(), word, word + SLOT);
                    s.cycles.push_back(cycle);
                    moved = true;
                }
            }
            bool done = true;
            for (auto* side : {&in, &out})
                for (Stream& s : *side) done = done && s.cycles.size() >= s.count;
            if (done) linger++;
            idle = moved ? 0 : idle + 1;
            if (cycle > LONGEST) return 3;
            if (!done && idle > PATIENCE) {
                for (size_t i = 0; i < in.size(); i++)
                    std::printf("in %zu: %zu of %zu\n", i, in[i].cycles.size(), in[i].count);
                for (size_t i = 0; i < out.size(); i++)
                    std::printf("out %zu: %zu of %zu\n", i, out[i].cycles.size(), out[i].count);
                std::printf("nothing moved for %zu cycles\n", size_t{PATIENCE});
                return 1;
            }
        }
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
    }
    file = std::fopen(argv[2], "wb");
    for (auto* side : {&in, &out})
        for (Stream& s : *side) {
            const uint64_t n = s.cycles.size();
            std::fwrite(&n, 8, 1, file);
            std::fwrite(s.cycles.data(), 8, n, file);
            if (side == &out) std::fwrite(s.words.data(), 4, s.words.size(), file);
        }
    for (int k = 0; k < 16; k++) {
        const uint32_t x = top.probe[k];
        std::fwrite(&x, 4, 1, file);
    }
    return std::fclose(file) != 0;
}
"""


@dataclass(frozen=True)
class Run:
    """What came out, and in which cycle each word moved."""

    words: dict[str, list[int]]  # of each stream that comes out
    cycles: dict[str, NDArray[np.int64]]  # of every stream
    probe: list[int]

    def largest_fill(self, before: str, after: str) -> int:
        """Return the most words that were ever between two streams, counted by their handshakes."""
        came, went = self.cycles[before], self.cycles[after]
        moves = np.concatenate([came, went])
        steps = np.repeat([1, -1], [len(came), len(went)])
        order = np.lexsort((steps, moves))  # what leaves in a cycle counts before what comes
        return int(np.cumsum(steps[order]).max())


@dataclass
class Bench:
    """A top module under construction: named streams, and the instances that use them."""

    inputs: dict[str, int] = field(default_factory=dict)  # name -> bits
    outputs: dict[str, int] = field(default_factory=dict)
    instances: list[str] = field(default_factory=list)
    probes: list[int] = field(default_factory=list)  # bits

    def source(self, name: str, bits: int) -> str:
        """Add an input stream; return the connections of the ports `in_*`."""
        data, valid, ready = self._ports("in", name, self.inputs, bits)
        return f".in_data({data}), .in_valid({valid}), .in_ready({ready})"

    def sink(self, name: str, bits: int) -> str:
        """Add an output stream; return the connections of the ports `out_*`."""
        data, valid, ready = self._ports("out", name, self.outputs, bits)
        return f".out_data({data}), .out_valid({valid}), .out_ready({ready})"

    def probe(self, bits: int) -> str:
        """Add a number that is read once, at the end; return what to connect."""
        self.probes.append(bits)
        return f"probe[{32 * (len(self.probes) - 1)}+:{bits}]"

    def instance(
        self,
        module: str,
        parameters: Mapping[str, object],
        *ports: str,
        clocking: str = ".clk, .rst",
    ) -> None:
        """Add an instance with the ports `clocking`, and those given."""
        given = ", ".join(f".{name}({value})" for name, value in parameters.items())
        name = f"u{len(self.instances)}"
        self.instances.append(f"{module} #({given}) {name} ({clocking}, {', '.join(ports)});")

    def verilog(self) -> str:
        """Return the top module."""
        wide = SLOT_BITS * STREAMS - 1
        body = "\n    ".join(self.instances)
        return f"""module bench_top (
    input logic clk, input logic rst,
    input logic [{wide}:0] in_data, input logic [63:0] in_valid, output logic [63:0] in_ready,
    output logic [{wide}:0] out_data, output logic [63:0] out_valid, input logic [63:0] out_ready,
    output logic [511:0] probe
);
    {body}
endmodule
"""

    def build(self, sources: Sequence[Path], folder: Path) -> Path:
        """Compile the top module with `sources`; return the program."""
        verilator, environment = tools.verilator()
        (folder / "bench_top.sv").write_text(self.verilog(), encoding="utf-8")
        driver = DRIVER.replace("SLOT_BITS", str(SLOT_BITS))
        (folder / "driver.cpp").write_text(driver, encoding="utf-8")
        run_logged(
            [
                *(verilator, "--cc", "--exe", "--build", "-j", "1", "--assert", "-Wno-fatal"),
                *("--top-module", "bench_top", "--prefix", "Vtop", "--Mdir", "objects"),
                *("--x-initial", "unique", "--x-assign", "unique", "-CFLAGS", "-O0"),
                *("-MAKEFLAGS", "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"),
                *(source.resolve() for source in sources),
                *("bench_top.sv", "driver.cpp"),
            ],
            folder=folder,
            log=folder / "verilator.log",
            environment=environment,
        )
        return folder / "objects" / "Vtop"

    def run(
        self,
        binary: Path,
        words: Mapping[str, Sequence[int]],
        counts: Mapping[str, int],
        *,
        stall_in: float = 0.0,
        stall_out: float = 0.0,
        never_stalled: Sequence[str] = (),
        endless: Sequence[str] = (),
        seed: int = 0,
    ) -> Run:
        """Send `words` and wait for `counts` words; streams that are in neither stay quiet.

        Stalls are the chance, in each cycle, that a stream that could move holds back. What comes
        beyond the count is kept too, except on an `endless` stream, which is held there.
        """
        folder = binary.parent.parent  # where $readmemh's relative paths begin
        streams = [(name, stall_in, len(words.get(name, ()))) for name in self.inputs]
        streams += [(name, stall_out, counts.get(name, 0)) for name in self.outputs]
        header = [len(self.inputs), len(self.outputs)]
        for name, stall, count in streams:
            chance = 0 if name in never_stalled else int(stall * 2**32)
            quiet = name in self.outputs and name not in counts
            header += [chance, count, int(quiet or name in endless)]
        request = np.array(header, dtype=np.uint64).tobytes() + b"".join(
            word.to_bytes(SLOT_BITS // 8, "little")
            for name in self.inputs
            for word in words.get(name, ())
        )
        (folder / "request.bin").write_bytes(request)
        run_logged(
            [binary.resolve(), "request.bin", "answer.bin", seed],
            folder=folder,
            log=folder / "run.log",
        )
        return self._read((folder / "answer.bin").read_bytes())

    def _read(self, answer: bytes) -> Run:
        at, slot = 0, SLOT_BITS // 8
        words: dict[str, list[int]] = {}
        cycles: dict[str, NDArray[np.int64]] = {}
        for name in (*self.inputs, *self.outputs):
            count = int.from_bytes(answer[at : at + 8], "little")
            cycles[name] = np.frombuffer(answer, np.int64, count, at + 8)
            at += 8 * (1 + count)
            if name in self.outputs:
                mask = (1 << self.outputs[name]) - 1  # the rest of the slot is driven by nobody
                words[name] = [
                    int.from_bytes(answer[at + slot * i : at + slot * (i + 1)], "little") & mask
                    for i in range(count)
                ]
                at += slot * count
        numbers = np.frombuffer(answer, np.uint32, 16, at)
        probe = [int(x) & ((1 << bits) - 1) for x, bits in zip(numbers, self.probes, strict=False)]
        return Run(words=words, cycles=cycles, probe=probe)

    @staticmethod
    def _ports(side: str, name: str, names: dict[str, int], bits: int) -> tuple[str, str, str]:
        index = len(names)
        if bits > SLOT_BITS or index == STREAMS:
            raise ValueError(f"stream {name!r}: {bits} bits, number {index}; enlarge the bench")
        names[name] = bits
        return (
            f"{side}_data[{SLOT_BITS * index}+:{bits}]",
            f"{side}_valid[{index}]",
            f"{side}_ready[{index}]",
        )
