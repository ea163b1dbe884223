"""Random integer programs over every operation: what the backends are held against."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from fastml_kit.fixedpoint import FixedSpec, Rounding
from fastml_kit.graph import ranges
from fastml_kit.graph.ir import Constant, Node, Program

ROUNDINGS = tuple(name for name in get_args(Rounding) if name != "HALF_CEIL")


@dataclass
class Mixture:
    """A program that grows node by node; the shape of its current tensor is known."""

    rng: np.random.Generator
    shape: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    at: str = "x"
    input_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.input_shape = self.shape
        self.quant(FixedSpec(4, 2, bool(self.draw(0, 2))))

    def draw(self, low: int, high: int) -> int:
        """Return a random integer from `low` to `high - 1`."""
        return int(self.rng.integers(low, high))

    def put(self, op: str, *more: str, source: str = "", **attrs: Any) -> str:
        """Append a node that reads the current tensor (or `source`) and `more`."""
        output = f"t{len(self.nodes)}"
        inputs = (source or self.at, *more)
        self.nodes.append(Node(op, f"{op.lower()}{len(self.nodes)}", inputs, output, attrs))
        self.at = output
        self.shape = self.program(self.shape).measure(self.nodes[-1])
        return output

    def constant(self, *shape: int, top: int = 5, frac: int = 2) -> str:
        """Add random constants."""
        name = f"c{len(self.constants)}"
        self.constants[name] = Constant(self.rng.integers(-top, top + 1, shape), frac)
        return name

    def quant(self, spec: FixedSpec | None = None, rounding: str = "ROUND", **attrs: Any) -> None:
        """Append a plain Quant, by default of 3 to 5 bits."""
        spec = spec or FixedSpec(self.draw(3, 6), self.draw(1, 4), bool(self.draw(0, 3)))
        self.put("Quant", spec=spec, rounding=rounding, overflow="SAT", **attrs)

    def program(self, output_shape: tuple[int, ...]) -> "Measured":
        """Return the program as it is now."""
        return Measured(
            tuple(self.nodes), self.constants, "x", self.input_shape, self.at, output_shape
        )


class Measured(Program):
    """A program that knows the shapes of its tensors."""

    def measure(self, node: Node) -> tuple[int, ...]:
        """Return the shape of the output of `node`, the last one."""
        shape: tuple[int, ...] = ranges.analyse(self)[node.output].low.shape[1:]
        return shape


def _slide(m: Mixture) -> dict[str, Any]:
    rank = len(m.shape) - 1
    return {
        "strides": tuple(m.draw(1, 3) for _ in range(rank)),
        "pads": tuple(m.draw(0, 2) for _ in range(2 * rank)),
        "dilations": tuple(m.draw(1, 3) for _ in range(rank)),
    }


def _conv(m: Mixture) -> None:
    channels, rank = m.shape[0], len(m.shape) - 1
    group = channels if m.draw(0, 2) else 1
    outputs = group * m.draw(1, 3)
    kernel = m.constant(outputs, channels // group, *(2,) * rank)
    m.put("Conv", kernel, m.constant(outputs), **_slide(m), group=group)


def _conv_transpose(m: Mixture) -> None:
    channels, rank = m.shape[0], len(m.shape) - 1
    group = channels if m.draw(0, 2) else 1
    kernel = m.constant(channels, m.draw(1, 3), *(3,) * rank)
    attrs = _slide(m)
    extra = tuple(m.draw(0, step) for step in attrs["strides"])
    m.put("ConvTranspose", kernel, **attrs, group=group, output_padding=extra)


def _pool(m: Mixture) -> None:
    rank = len(m.shape) - 1
    attrs = {**_slide(m), "kernel_shape": (2,) * rank, "dilations": (1,) * rank}
    if m.draw(0, 2):
        m.put("MaxPool", **attrs)
        return
    size = (3, 2)[:rank] if min(m.shape[1:]) > 2 else (2, 2)[:rank]
    count = int(np.prod(size))
    shift = (count & -count).bit_length() - 1
    m.put("SumPool", **{**attrs, "kernel_shape": size}, shift=shift)
    m.quant(rounding=ROUNDINGS[m.draw(0, len(ROUNDINGS))], divisor=count >> shift)


def _join(m: Mixture) -> None:
    """Branch, and join the branches by a sum, a difference or side by side."""
    before, shape = m.at, m.shape
    kernel = m.constant(shape[0], shape[0], *(1,) * (len(shape) - 1))
    rank = len(shape) - 1
    m.put("Conv", kernel, strides=(1,) * rank, pads=(0,) * 2 * rank, dilations=(1,) * rank, group=1)
    op = ("Add", "Sub", "Concat")[m.draw(0, 3)]
    attrs: dict[str, Any] = {"axis": m.draw(1, len(shape) + 1)} if op == "Concat" else {}
    m.put(op, before, **attrs)


def _arithmetic(m: Mixture) -> None:
    shape = (m.shape[0], *(1,) * (len(m.shape) - 1)) if m.draw(0, 2) else m.shape
    m.put("Mul", m.constant(*shape))
    m.put(("Add", "Sub")[m.draw(0, 2)], m.constant(*shape))
    m.put("Sub", m.at, source=m.constant(1))


def _activation(m: Mixture) -> None:
    kind = m.draw(0, 4)
    if kind == 0:
        m.put("Relu")
    elif kind == 1:
        m.put("LeakyRelu", alpha=m.draw(0, 4), alpha_frac=3)
    elif kind == 2:
        m.put("Clip", low=-m.draw(0, 3), high=m.draw(1, 4), frac=1)
    else:
        m.put("BipolarQuant", frac=1, steps=np.array(m.draw(1, 3)))


def _quantizer(m: Mixture) -> None:
    m.put("Mul", m.constant(1))
    kind, rounding = m.draw(0, 4), ROUNDINGS[m.draw(0, len(ROUNDINGS))]
    spec = FixedSpec(m.draw(2, 5), m.draw(1, 4), bool(m.draw(0, 2)), bool(m.draw(0, 2)))
    if kind == 0:
        m.quant(spec, rounding, zero_point=m.draw(-2, 3))
    elif kind == 1:
        fracs = spec.frac - m.rng.integers(0, 3, (1, m.shape[0], *(1,) * (len(m.shape) - 1)))
        fracs.flat[0] = spec.frac
        m.quant(spec, rounding, fracs=fracs)
    elif kind == 2:
        rows = np.sort(m.rng.integers(-12, 12, (m.shape[0], 3)) / 4 + 0.1, axis=1)
        m.put("MultiThreshold", thresholds=rows, base=m.draw(-3, 1), step=m.draw(1, 3), frac=1)
    else:
        out = (None, FixedSpec(4, 4 - 1 + m.draw(0, 2)))[m.draw(0, 2)]
        drop = m.draw(0, 3) if out is None else 2 - out.frac
        m.put("Trunc", frac=2, zero_point=m.draw(-1, 2), drop=drop, rounding=rounding, spec=out)


def _move(m: Mixture) -> None:
    kind, rank = m.draw(0, 4), len(m.shape)
    if kind == 0:
        m.put("Pad", pads=((0, 0), *((m.draw(0, 2), m.draw(0, 2)) for _ in range(rank - 1))))
    elif kind == 1:
        m.put("Upsample", scales=tuple(m.draw(1, 3) for _ in range(rank - 1)))
    elif kind == 2:
        m.put("Transpose", perm=(0, *(1 + m.rng.permutation(rank)).tolist()))
    else:
        m.put("Reshape", shape=(m.shape[-1], *m.shape[:-1]))


MOVES: dict[str, Callable[[Mixture], None]] = {
    "activation": _activation, "arithmetic": _arithmetic, "conv": _conv,
    "conv_transpose": _conv_transpose, "join": _join, "move": _move, "pool": _pool,
    "quantizer": _quantizer,
}  # fmt: skip


def mixture(seed: int, depth: int = 3, rank: int = 2, only: tuple[str, ...] = ()) -> Program:
    """Return a random program of `depth` random operations over an image (or series)."""
    rng = np.random.default_rng(seed)
    m = Mixture(rng, (2, 4, 3)[: rank + 1])
    names = only or tuple(MOVES)
    for _ in range(depth):
        before = (len(m.nodes), m.at, m.shape, dict(m.constants))
        try:
            MOVES[names[m.draw(0, len(names))]](m)
            if np.prod(m.shape) > 60 or min(m.shape) < 1:
                raise ValueError("too large, or nothing left")
        except ValueError:  # a window larger than the image, say: leave this operation out
            m.nodes, m.at, m.shape, m.constants = m.nodes[: before[0]], *before[1:]
            continue
        spec = ranges.analyse(m.program(m.shape))[m.at].spec
        if spec.width > 7:
            m.quant(FixedSpec(5, 3, spec.signed))
    m.put("Flatten")
    m.put("MatMul", m.constant(m.shape[0], 3))
    return m.program(m.shape)


def kinds(program: Program) -> set[str]:
    """Return the operations in `program`."""
    return {node.op for node in program.nodes}


def side_by_side(programs: dict[str, Program], width: int = 12) -> tuple[Program, dict[str, slice]]:
    """Join programs into one, so that one compilation tests them all.

    Each reads its inputs, some negated, out of a common vector of `width` elements of fixed<6,4>.
    Also return where in the output vector each one's lies.
    """
    rng = np.random.default_rng(0)
    spec = {"spec": FixedSpec(6, 4), "rounding": "ROUND", "overflow": "SAT"}
    nodes, constants = [Node("Quant", "in", ("x",), "start", spec)], {}
    outputs, places, at = [], {}, 0
    for name, program in programs.items():
        size = int(np.prod(program.input_shape))
        chosen = np.zeros((width, size), dtype=np.int64)
        chosen[rng.integers(0, width, size), np.arange(size)] = rng.choice([1, -1], size)
        constants[f"{name}_chosen"] = Constant(chosen, 0)
        nodes += [
            Node("MatMul", f"{name}_choose", ("start", f"{name}_chosen"), f"{name}_row", {}),
            Node(
                "Reshape", f"{name}_shape", (f"{name}_row",), f"{name}_start",
                {"shape": program.input_shape},
            ),
        ]  # fmt: skip
        names = {program.input: f"{name}_start"}
        for node in program.nodes:
            inputs = tuple(names.get(i, f"{name}_{i}") for i in node.inputs)
            label, output = f"{name}_{node.name}", f"{name}_{node.output}"
            nodes.append(Node(node.op, label, inputs, output, node.attrs))
        constants |= {f"{name}_{key}": value for key, value in program.constants.items()}
        nodes.append(
            Node("Flatten", f"{name}_flat", (f"{name}_{program.output}",), f"{name}_y", {})
        )
        outputs.append(f"{name}_y")
        places[name] = slice(at, at + int(np.prod(program.output_shape)))
        at = places[name].stop
    nodes.append(Node("Concat", "all", tuple(outputs), "y", {"axis": 1}))
    return Program(tuple(nodes), constants, "x", (width,), "y", (at,)), places
