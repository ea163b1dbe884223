"""QONNX to QCDQ: every Quant becomes QuantizeLinear, Clip and DequantizeLinear.

The rewriting is qonnx's own. Around it stand what it leaves open: the opset is converted, not only
set; parameters that it would misread (zero points and scales of odd shapes, other spellings) are
written as it reads them; unsigned narrow Quants of 8 bits get the Clip that it forgets; and what
stays a Quant, so that plain onnxruntime could not run the file, is refused unless asked for.

Constants of more than 8 bits, such as biases, which nothing need quantize at run time, are int32
initializers, a Clip that says their width, and a DequantizeLinear.

onnxruntime 1.25 with its optimizer on, as it is by default, changes the numbers of QCDQ graphs:

- it makes one quantizer of two in a row, with other steps than either has;
- a product with weights behind a DequantizeLinear becomes MatMulNBits, which rounds its data to 8
  bits, or a product of integers, which on x86 processors without VNNI adds up pairs of uint8 times
  int8 in 16 bits that saturate;
- it takes the scale of an int32 bias to be that of the product which the bias is added to, whatever
  the file says, and rounds a bias in floating point to that scale.

All of that needs a DequantizeLinear right before an operation. So a guard stands between: a Clip of
the real values to the range that they have anyway. Data has its Clip between integers too, be it to
all 8 bits. With ``guard=False`` neither is written; then turn the optimizer off.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.files import write_whole
from fastml_kit.graph import check, verdict
from fastml_kit.graph.checks import shapes
from fastml_kit.graph.formats.conversion import Conversion, Step, require_all
from fastml_kit.graph.formats.legality import Quantizer, examine
from fastml_kit.graph.readers.base import label

#: Clip between integers came with opset 12, scales along an axis with 13.
OPSET = 13
FIX = "use Quant nodes of 2 to 8 bits that round half to even, or keep these with strict=False"


def to_qcdq(path: Path, target: Path, *, strict: bool = True, guard: bool = True) -> Conversion:
    """Write the QONNX file `path` to `target` in QCDQ, with the same values.

    With ``strict=False`` nodes that QCDQ cannot carry stay as they are, and are named in the result
    with the reason. Without `guard` onnxruntime must not optimize the graph.

    Raises:
        RunError: `path` is missing or no ONNX file.
        UnsupportedModel: a node cannot be carried (widths over 8 bits but for constants, one bit,
            zero points, roundings other than half to even), or there is none to convert.
    """
    from onnx import numpy_helper

    proto = check.load(path)
    source = verdict.dialect_of(proto)
    model = _raised(proto)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    known = shapes.known(proto)
    found = {
        node.output[0]: (label(node), examine(node, constants, known))
        for node in model.graph.node
        if node.domain
    }
    stayed = [Step(name, one) for name, one in found.values() if isinstance(one, str)]
    if strict:
        require_all(stayed, "qcdq", FIX)
    legal = {out: one for out, (_, one) in found.items() if isinstance(one, Quantizer)}
    if not legal:
        raise UnsupportedModel(f"{path.name} has no Quant node that QCDQ can carry")
    stored = {out for out, one in legal.items() if one.spec.width > 8}
    for out, one in legal.items():
        _store(model.graph, one) if out in stored else _spell_out(model.graph, one)
    names = {out: one.node.name or out for out, one in legal.items()}
    model = _rewritten(model)
    for out, one in legal.items():
        if out not in stored:
            _finish(model.graph, out, one, names[out], full=guard)
        if guard:
            _guard(model.graph, out, one, names[out])
    _save(model, target, alone=not stayed)
    return Conversion(
        path=target,
        source=source,
        target="qcdq",
        converted=tuple(
            Step(name, _said(one, out in stored))
            for out, (name, one) in found.items()
            if isinstance(one, Quantizer)
        ),
        stayed=tuple(stayed),
        standalone=not stayed,
        notes=_notes(legal, guard=guard),
    )


def _notes(legal: Mapping[str, Quantizer], *, guard: bool) -> tuple[str, ...]:
    notes = []
    if not guard:
        notes.append("turn onnxruntime's optimizer off, which changes the numbers of such graphs")
    odd = [label(one.node) for one in legal.values() if (np.frexp(one.scale)[0] != 0.5).any()]
    if odd:
        notes.append(
            f"{odd[0]}{f' and {len(odd) - 1} more' if odd[1:] else ''} have scales that are no "
            "powers of two, so that sums round in float32, here as in the source"
        )
    return tuple(notes)


def _raised(model: Any) -> Any:
    """Return the model in an opset that has what QCDQ needs."""
    from onnx import version_converter

    version = next(entry.version for entry in model.opset_import if entry.domain == "")
    if version >= OPSET:
        return model
    with check.refusing(f"onnx cannot convert it from opset {version} to {OPSET}"):
        return version_converter.convert_version(model, OPSET)


def _store(graph: Any, one: Quantizer) -> None:
    """Replace the Quant of a constant by its codes, a Clip to its width, and DequantizeLinear."""
    from onnx import helper

    node, at = one.node, list(graph.node).index(one.node)
    out, name = node.output[0], node.name or node.output[0]
    clip = [
        _put(graph, f"{out}/codes", one.codes),
        _put(graph, f"{out}/low", np.int32(one.spec.low)),
        _put(graph, f"{out}/high", np.int32(one.spec.high)),
    ]
    scale = _put(graph, f"{out}/scale", one.scale.ravel() if one.scale.ndim else one.scale)
    axis: dict[str, Any] = {"axis": int(np.argmax(one.scale.shape))} if one.scale.ndim else {}
    del graph.node[at]
    graph.node.insert(at, helper.make_node("Clip", clip, [f"{out}/clipped"], name=f"{name}/Clip"))
    graph.node.insert(
        at + 1,
        helper.make_node("DequantizeLinear", [f"{out}/clipped", scale], [out], name=name, **axis),
    )


def _spell_out(graph: Any, one: Quantizer) -> None:
    """Write a Quant's parameters as qonnx's rewriting reads them, under names of its own."""
    from onnx import helper

    node, out = one.node, one.node.output[0]
    node.op_type = "Quant"
    node.input[1] = _put(graph, f"{out}/scale", one.scale)
    node.input[2] = _put(graph, f"{out}/zero_point", np.float32(0))
    node.input[3] = _put(graph, f"{out}/bits", np.float32(one.spec.width))
    del node.attribute[:]
    node.attribute.extend(
        helper.make_attribute(key, value)
        for key, value in (
            ("narrow", int(one.spec.narrow)),
            ("rounding_mode", "ROUND"),
            ("signed", int(one.spec.signed)),
        )
    )


def _rewritten(model: Any) -> Any:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.qonnx_to_qcdq import QuantToQCDQ

    with warnings.catch_warnings(), check.refusing("qonnx cannot convert it to QCDQ"):
        warnings.simplefilter("ignore")
        return ModelWrapper(model).transform(QuantToQCDQ()).model


def _finish(graph: Any, out: str, one: Quantizer, name: str, *, full: bool) -> None:
    """Name the chain that makes `out` after its Quant, and add the Clip that it lacks.

    Data gets one also where it takes `full` 8 bits.
    """
    from onnx import helper

    makers = {output: node for node in graph.node for output in node.output}
    last = makers[out]
    if last.op_type != "DequantizeLinear":
        raise UnsupportedModel(f"{last.op_type} {name!r} was left as it is by qonnx's conversion")
    before = makers[last.input[0]]
    last.name = f"{name}/DequantizeLinear"
    if before.op_type == "Clip":
        before.name = f"{name}/Clip"
        makers[before.input[0]].name = name
        return
    before.name = name
    if not one.spec.narrow and (one.codes is not None or not full):
        return
    kind = np.int8 if one.spec.signed else np.uint8
    ends = [
        _put(graph, f"{out}/{end}", np.array(value, kind))
        for end, value in (("low", one.spec.low), ("high", one.spec.high))
    ]
    last.input[0] = f"{out}/clipped"
    clip = helper.make_node(
        "Clip", [before.output[0], *ends], [f"{out}/clipped"], name=f"{name}/Clip"
    )
    graph.node.insert(list(graph.node).index(last), clip)


def _guard(graph: Any, out: str, one: Quantizer, name: str) -> None:
    """Put a Clip of the real values, to the range they have anyway, between a chain and its use."""
    from onnx import helper

    ends = [
        _put(graph, f"{out}/least", np.float32((one.spec.low * one.scale).min())),
        _put(graph, f"{out}/most", np.float32((one.spec.high * one.scale).max())),
    ]
    last = next(node for node in graph.node if out in node.output)
    last.output[0] = f"{out}/real"
    guard = helper.make_node("Clip", [last.output[0], *ends], [out], name=f"{name}/guard")
    graph.node.insert(list(graph.node).index(last) + 1, guard)


def _put(graph: Any, name: str, values: Any) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
    return name


def _said(one: Quantizer, stored: bool) -> str:
    if stored:
        return f"int32 codes, Clip to {one.spec.low}..{one.spec.high}, DequantizeLinear"
    kind = "int8" if one.spec.signed else "uint8"
    return f"QuantizeLinear to {kind}, codes {one.spec.low}..{one.spec.high}, DequantizeLinear"


def _save(model: Any, target: Path, *, alone: bool) -> None:
    """Drop what nothing uses, check the model, and write it."""
    import onnx
    import onnxruntime

    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    domains = {node.domain for node in model.graph.node} | {""}
    imports = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    content = model.SerializeToString(deterministic=True)
    with check.refusing("the converted graph does not load"):
        onnx.checker.check_model(model)
        if alone:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    write_whole(target, content)
