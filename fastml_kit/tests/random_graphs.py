"""Random QONNX graphs of what the three formats share: products, sums, pools, quantizers."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import program, reference
from fastml_kit.graph.writer import Writer


@dataclass
class Growing:
    """A graph in the making, every choice drawn from `rng`.

    `size` is about how large values are, so that quantizers neither saturate all nor see zeros.
    """

    rng: np.random.Generator
    graph: Writer
    size: float = 1.0
    named: int = 0

    def name(self, kind: str) -> str:
        self.named += 1
        return f"{kind}{self.named}"

    def spec(self, *, signed: bool | None = None) -> FixedSpec:
        """Return a random format of 2 to 8 bits, often of 8, that suits values of `size`."""
        rng = self.rng
        width = int(rng.choice([2, 3, 4, 5, 6, 7, 8, 8, 8]))
        signed = bool(rng.integers(2)) if signed is None else signed
        integer = round(float(np.log2(self.size))) + 1 + signed + int(rng.integers(-1, 2))
        return FixedSpec(width, integer, signed, bool(rng.integers(2)))

    def weight(self, shape: tuple[int, ...], spec: FixedSpec | None = None) -> str:
        """Add weights that take all codes of their format."""
        rng = self.rng
        width = int(rng.choice([2, 3, 4, 6, 8, 8]))
        spec = spec or FixedSpec(width, 1, narrow=bool(rng.integers(2)))
        codes = self.rng.integers(spec.low, spec.high + 1, shape)
        return self.graph.weight(self.name("weights"), spec.to_values(codes), spec)

    def bias(self, count: int) -> str:
        wide = FixedSpec(int(self.rng.integers(9, 14)), 3)
        return self.weight((count,), wide if self.rng.integers(2) else None)

    def quantize(self, source: str | None = None) -> str:
        """Quantize, sometimes twice in a row, or after a Relu."""
        if self.rng.integers(3) == 0:
            source = self.graph.node("Relu", self.name("relu"), source=source)
        source = self.graph.quantize(self.name("quant"), self.spec(), source=source)
        if self.rng.integers(8) == 0:
            source = self.graph.quantize(self.name("again"), self.spec(), source=source)
        return source

    def dense(self) -> None:
        (inputs,), outputs = self.graph.shape, int(self.rng.integers(2, 40))
        self.size *= inputs**0.5 / 2
        self.graph.node(
            "MatMul", self.name("dense"), self.weight((inputs, outputs)), shape=(outputs,)
        )
        if self.rng.integers(2):
            self.graph.node("Add", self.name("add"), self.bias(outputs))

    def conv(self) -> None:
        channels, *image = self.graph.shape
        group = channels if self.rng.integers(3) == 0 else 1
        filters = (
            group * int(self.rng.integers(1, 3)) if group > 1 else int(self.rng.integers(2, 9))
        )
        pad, stride = int(self.rng.integers(2)), int(self.rng.integers(1, 3))
        size = [(n + 2 * pad - 3) // stride + 1 for n in image]
        self.size *= (9 * channels // group) ** 0.5 / 2
        parameters = [self.weight((filters, channels // group, 3, 3))]
        if self.rng.integers(2):
            parameters.append(self.bias(filters))
        self.graph.node(
            "Conv", self.name("conv"), *parameters, shape=(filters, *size), group=group,
            kernel_shape=[3, 3], pads=[pad] * 4, strides=[stride] * 2,
        )  # fmt: skip

    def residual(self) -> None:
        """Add two quantizers of one tensor."""
        trunk = self.graph.tensor
        left, right = self.quantize(trunk), self.quantize(trunk)
        self.graph.node("Add", self.name("sum"), right, source=left)

    def pool(self) -> None:
        channels, height, width = self.graph.shape
        if min(height, width) < 2:
            return
        self.graph.node(
            str(self.rng.choice(["MaxPool", "AveragePool"])), self.name("pool"),
            shape=(channels, height // 2, width // 2), kernel_shape=[2, 2], strides=[2, 2],
        )  # fmt: skip


def write(path: Path, seed: int) -> Path:
    """Write the random graph number `seed`, drawn anew until it tells most samples apart."""
    for attempt in count():
        draw(path, np.random.default_rng([seed, attempt]))
        graph = program.read(path)
        out = reference.run(graph, inputs(graph.input_shape, 40, seed))
        if len(np.unique(out, axis=0)) > 20:
            return path
    raise AssertionError  # pragma: no cover


def draw(path: Path, rng: np.random.Generator) -> None:
    """Write a random graph: an MLP or a CNN."""
    image = bool(rng.integers(2))
    shape = (int(rng.integers(1, 5)), 7, 7) if image else (int(rng.integers(4, 90)),)
    made = Growing(rng, Writer(shape=shape))
    made.graph.quantize("input", made.spec())
    if image:
        for _ in range(rng.integers(1, 3)):
            if min(made.graph.shape[1:]) >= 3:
                made.conv()
                made.quantize()
            if rng.integers(2):
                made.pool()
                if rng.integers(2):
                    made.quantize()
        made.quantize()
        made.graph.node("Flatten", "flatten", shape=(int(np.prod(made.graph.shape)),))
    for _ in range(rng.integers(1, 4)):
        made.dense()
        if rng.integers(3) == 0:
            made.residual()
        made.quantize()
    made.dense()
    if rng.integers(2):
        made.graph.quantize("output", FixedSpec(8, round(float(np.log2(made.size))) + 2))
    made.graph.save(path, "random")


def inputs(shape: tuple[int, ...], samples: int, seed: int) -> NDArray[np.float32]:
    """Return random inputs on a fine grid, some of them far beyond any format."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (samples, *shape))
    values[0] *= 100
    return (np.round(values * 256) / 256).astype(np.float32)
