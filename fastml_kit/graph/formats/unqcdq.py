"""QCDQ back to QONNX: every chain that ends in a DequantizeLinear becomes one Quant.

A chain is QuantizeLinear, perhaps a Clip, and DequantizeLinear; a constant may also be stored as
integers, with a Clip or without. The range that its Clip and its type leave must be that of a
width, signed or not, narrow or not; otherwise the chain has no Quant that means the same. A Clip of
the real values that cuts nothing off, such as `to_qcdq` puts behind a chain, goes.

qonnx's own `QCDQToQuant` guesses where this refuses: a Clip to 0..14 becomes 4 bits, of which 15
is a code, a Clip of int8 to 0..7 three signed bits, and two quantizers of one tensor share the
width of the later one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.files import write_whole
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import check, verdict
from fastml_kit.graph.checks import shapes
from fastml_kit.graph.checks.structure import QONNX
from fastml_kit.graph.formats.conversion import Conversion, Step, require_all
from fastml_kit.graph.readers.base import attributes, label

FIX = "clip to the range of a width (such as -8..7 or 0..15), or keep these with strict=False"


@dataclass(frozen=True)
class Chain:
    """Nodes that together are one Quant of the tensor `source`, or of the codes `codes`."""

    nodes: tuple[Any, ...]  # the last is the DequantizeLinear
    source: str
    codes: NDArray[Any] | None
    scale: NDArray[np.float32]  # broadcasts against the tensor
    zero: int
    spec: FixedSpec

    @property
    def name(self) -> str:
        """The name that the Quant gets: its QuantizeLinear's, or else its DequantizeLinear's."""
        first = self.nodes[0] if self.codes is None else self.nodes[-1]
        return str(first.name or self.nodes[-1].output[0])


def from_qcdq(path: Path, target: Path, *, strict: bool = True) -> Conversion:
    """Write the QCDQ file `path` to `target` in QONNX, with the same values.

    With ``strict=False`` chains that no Quant means stay, and are named in the result.

    Raises:
        RunError: `path` is missing or no ONNX file.
        UnsupportedModel: a chain has no Quant that means the same, or there is no chain.
    """
    import onnx

    model = check.load(path)
    source = verdict.dialect_of(model)
    reader = _Reader(model)
    found = {
        node.output[0]: (label(node), reader.chain(node))
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    chains = [one for _, one in found.values() if isinstance(one, Chain)]
    stayed = [Step(name, one) for name, one in found.values() if isinstance(one, str)]
    stayed += reader.loose()
    if strict:
        require_all(stayed, "qonnx", FIX)
    if not chains:
        raise UnsupportedModel(f"{path.name} has no chain of QuantizeLinear and DequantizeLinear")
    for chain in chains:
        _drop_guard(model.graph, chain, reader)
        _replace(model.graph, chain)
    _drop_unused(model.graph)
    if QONNX not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(QONNX, 1))
    with check.refusing("onnx's checker refuses the converted graph"):
        onnx.checker.check_model(model)
    write_whole(target, model.SerializeToString(deterministic=True))
    return Conversion(
        path=target,
        source=source,
        target="qonnx",
        converted=tuple(
            Step(name, f"Quant of {_said(one.spec)}")
            for name, one in found.values()
            if isinstance(one, Chain)
        ),
        stayed=tuple(stayed),
        standalone=False,
    )


class _Reader:
    """Finds the chains of a checked model."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.shapes = shapes.known(model)

    def chain(self, last: Any) -> Chain | str:
        """Return the chain that ends in `last`, or why it is no Quant."""
        shape = self.shapes[last.output[0]]
        grid = self._grid(last, shape)
        if isinstance(grid, str):
            return grid
        nodes, at = [last], last.input[0]
        bounds = None
        if (maker := self.makers.get(at)) is not None and maker.op_type == "Clip":
            given = self.bounds(maker)
            if given is None:
                return f"{label(maker)} has bounds that are no two constants"
            bounds = int(given[0]), int(given[1])
            nodes.insert(0, maker)
            at = maker.input[0]
        (scale, zero, kind), codes = grid, self.constants.get(at)
        if codes is not None:
            kind = codes.dtype
        else:
            first = self.makers.get(at)
            if first is None or first.op_type != "QuantizeLinear":
                return "it reads integers that no QuantizeLinear made"
            nodes.insert(0, first)
            at, begun = first.input[0], self._grid(first, shape)
            if isinstance(begun, str) or not np.array_equal(begun[0], scale) or begun[1] != zero:
                return f"{label(first)} has another scale or zero point"
            if zero:
                return f"it has zero point {zero}, with which a Quant rounds ties elsewhere"
            kind = begun[2]
        if kind.kind not in "iu" or kind.itemsize > 4:
            return f"its integers are {kind}"
        low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
        if bounds is not None:
            low, high = max(bounds[0], low), min(bounds[1], high)
        spec = _spec(low, high)
        if spec is None:
            return f"its codes go from {low} to {high}, which is the range of no width"
        return Chain(tuple(nodes), at, codes, scale, zero, spec)

    def bounds(self, clip: Any) -> tuple[float, float] | None:
        """Return the two bounds of a Clip, if they are constants."""
        ends = [self.constants.get(name) for name in clip.input[1:]]
        if len(ends) != 2:
            return None
        low, high = ends
        if low is None or high is None or low.size != 1 or high.size != 1:
            return None
        return float(low.reshape(())), float(high.reshape(()))

    def _grid(
        self, node: Any, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], int, np.dtype[Any]] | str:
        """Return the scale, zero point and integer type of a QuantizeLinear or its opposite."""
        given = attributes(node)
        if given.get("block_size", 0) or given.get("output_dtype", 0):
            return f"{label(node)} has a scale for each block, or names its type itself"
        scale = self.constants.get(node.input[1])
        named = node.input[2] if len(node.input) > 2 else ""
        zeros = self.constants.get(named) if named else np.zeros((), np.uint8)
        if scale is None or zeros is None:
            return f"{label(node)} has a scale or zero point that is computed at run time"
        if np.unique(zeros).size != 1 or scale.dtype != np.float32:
            return f"{label(node)} has several zero points, or a scale that is no float32"
        if scale.size > 1:
            sizes = [1] * len(shape)
            sizes[given.get("axis", 1)] = scale.size
            scale = scale.reshape(sizes)
        return _plain(scale, len(shape)), int(zeros.ravel()[0]), zeros.dtype

    def loose(self) -> list[Step]:
        """Return the QuantizeLinear nodes whose integers some node computes with."""
        readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)

        def ends(name: str) -> set[str]:
            found = readers.get(name, [])
            return {
                end
                for node in found
                for end in (ends(node.output[0]) if node.op_type == "Clip" else {node.op_type})
            } or {"nothing"}

        return [
            Step(label(node), f"its integers go into {', '.join(others)}, not back to real values")
            for node in self.graph.node
            if node.op_type == "QuantizeLinear"
            and (others := sorted(ends(node.output[0]) - {"DequantizeLinear"}))
        ]


def _plain(scale: NDArray[Any], rank: int) -> NDArray[Any]:
    """Return a scale of one value in the shape that its readers like best.

    hls4ml reads scalars; FINN finds a bias by its scale of shape (1,).
    """
    return scale if scale.size > 1 else scale.reshape((1,) if rank == 1 else ())


def _spec(low: int, high: int) -> FixedSpec | None:
    """Return the format whose codes are exactly `low` to `high`, if there is one."""
    for width in range(1, 33):
        for signed, narrow in ((False, False), (False, True), (True, False), (True, True)):
            if width < 1 + (signed or narrow):  # one signed bit is bipolar; 0 to 0 is nothing
                continue
            spec = FixedSpec(width, width, signed, narrow)
            if (spec.low, spec.high) == (low, high):
                return spec
    return None


def _said(spec: FixedSpec) -> str:
    words = [f"{spec.width} bits", "signed" if spec.signed else "unsigned"]
    return ", ".join([*words, "narrow"] if spec.narrow else words)


def _drop_guard(graph: Any, chain: Chain, reader: _Reader) -> None:
    """Take out a Clip that alone reads the chain's real values and leaves them as they are."""
    out = chain.nodes[-1].output[0]
    users = [node for node in graph.node if out in node.input]
    if len(users) != 1 or users[0].op_type != "Clip" or out in {v.name for v in graph.output}:
        return
    bounds = reader.bounds(users[0])
    ends = [(end - chain.zero) * chain.scale for end in (chain.spec.low, chain.spec.high)]
    if bounds is not None and bounds[0] <= ends[0].min() and bounds[1] >= ends[1].max():
        graph.node.remove(users[0])
        chain.nodes[-1].output[0] = users[0].output[0]


def _replace(graph: Any, chain: Chain) -> None:
    """Put a Quant in the place of the chain's DequantizeLinear; the rest may still be in use."""
    from onnx import helper, numpy_helper

    last = chain.nodes[-1]
    out, source = last.output[0], chain.source
    new: Mapping[str, Any] = {
        f"{out}/scale_value": chain.scale,
        f"{out}/zero_value": np.full(chain.scale.shape, chain.zero, np.float32),
        f"{out}/bit_width": np.float32(chain.spec.width),
    }
    if chain.codes is not None:
        source = f"{out}/values"
        within = np.clip(chain.codes, chain.spec.low, chain.spec.high).astype(np.int64)
        values = (within - chain.zero).astype(np.float32) * chain.scale
        graph.initializer.append(numpy_helper.from_array(values, source))
    for name, value in new.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    quant = helper.make_node(
        "Quant", [source, *new], [out], name=chain.name, domain=QONNX,
        signed=int(chain.spec.signed), narrow=int(chain.spec.narrow), rounding_mode="ROUND",
    )  # fmt: skip
    at = list(graph.node).index(last)
    del graph.node[at]
    graph.node.insert(at, quant)


def _drop_unused(graph: Any) -> None:
    """Remove nodes of former chains, and constants, that nothing reads any more."""
    ends = {value.name for value in graph.output}
    used = ends | {name for node in graph.node for name in node.input}
    for node in reversed(list(graph.node)):
        if node.op_type in ("Clip", "QuantizeLinear") and not used.intersection(node.output):
            graph.node.remove(node)
            used = ends | {name for one in graph.node for name in one.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    made = {name for node in graph.node for name in node.output}
    values = [value for value in graph.value_info if value.name in made]
    del graph.value_info[:]
    graph.value_info.extend(values)
