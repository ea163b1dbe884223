"""Whether a node's attributes and parameters fit the shapes it works on.

onnx's shape inference leaves these out, and engines differ in what they make of them.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.checks.structure import QONNX, label

Shape = tuple[int, ...]


def check_node(node: Any, shapes: Mapping[str, Shape], stored: Mapping[str, Any]) -> None:
    """Check one node, given every tensor's shape and the values of those that are `stored`.

    Raises:
        UnsupportedModel: a parameter has another shape or value than the operation needs.
    """
    from onnx import helper

    if (checker := CHECKERS.get((node.domain, node.op_type))) is None:
        return
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    inputs = [shapes.get(name) if name else None for name in node.input]
    values = [stored.get(name) for name in node.input]
    if problem := checker(attributes, inputs, values):
        raise UnsupportedModel(f"{label(node)} {problem}")


def _lists(attributes: Mapping[str, Any], rank: int) -> str:
    """Say which list of a window's attributes has not one number for each of `rank` axes."""
    for name, times in {"strides": 1, "dilations": 1, "kernel_shape": 1, "pads": 2,
                        "output_padding": 1, "output_shape": 1}.items():  # fmt: skip
        found = attributes.get(name)
        if found is not None and len(found) != times * rank:
            return f"has {name}={list(found)}; {times * rank} numbers are needed"
    return ""


def _conv(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    x, w, group = inputs[0], inputs[1], attributes.get("group", 1)
    if len(x) < 3 or len(w) != len(x):
        return f"joins data of shape {list(x)} with a kernel of shape {list(w)}"
    if problem := _lists(attributes, len(x) - 2):
        return problem
    if x[1] != w[1] * group or w[0] % group:
        return (
            f"has {x[1]} channels, group={group} and a kernel of shape {list(w)}; channels must be "
            f"{w[1]} x group, and group divide the {w[0]} filters"
        )
    return _kernel(attributes, w) or _bias(inputs, w[0])


def _conv_transpose(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    x, w, group = inputs[0], inputs[1], attributes.get("group", 1)
    if len(x) < 3 or len(w) != len(x):
        return f"joins data of shape {list(x)} with a kernel of shape {list(w)}"
    if problem := _lists(attributes, len(x) - 2):
        return problem
    if x[1] != w[0] or w[0] % group:
        return f"has {x[1]} channels, group={group} and a kernel of shape {list(w)}"
    return _kernel(attributes, w) or _bias(inputs, w[1] * group)


def _kernel(attributes: Mapping[str, Any], w: Shape) -> str:
    size = attributes.get("kernel_shape")
    if size is not None and tuple(size) != tuple(w[2:]):
        return f"has kernel_shape={list(size)} and a kernel of shape {list(w)}"
    return ""


def _bias(inputs: list[Any], channels: int) -> str:
    if len(inputs) > 2 and inputs[2] is not None and inputs[2] != (channels,):
        return f"has a bias of shape {list(inputs[2])}; it must be [{channels}]"
    return ""


def _pool(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    rank = len(inputs[0]) - 2
    if rank < 1:
        return f"has data of shape {list(inputs[0])}; batch, channels and an image are needed"
    if problem := _lists(attributes, rank):
        return problem
    size, pads = attributes["kernel_shape"], attributes.get("pads", (0,) * 2 * rank)
    if any(pad >= size[axis % rank] for axis, pad in enumerate(pads)):
        return f"has pads={list(pads)}, no smaller than its window {list(size)}"
    return ""


def _batch_norm(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    x = inputs[0]
    if len(x) < 2 or any(shape != (x[1],) for shape in inputs[1:5]):
        return f"has data of shape {list(x)} and parameters of {[list(s) for s in inputs[1:5]]}"
    if values[4] is not None and np.any(values[4] < 0):
        return "has a negative variance"
    return ""


def _gemm(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    a, b = inputs[:2]
    if len(a) != 2 or len(b) != 2:
        return f"multiplies {list(a)} with {list(b)}; two axes each are needed"
    out = (a[bool(attributes.get("transA", 0))], b[not attributes.get("transB", 0)])
    if a[not attributes.get("transA", 0)] != b[bool(attributes.get("transB", 0))]:
        return f"multiplies {list(a)} with {list(b)}, which do not fit"
    if len(inputs) > 2 and inputs[2] is not None and not _broadcasts(inputs[2], out):
        return f"adds a term of shape {list(inputs[2])} to a product of shape {list(out)}"
    return ""


def _quant(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    """Check the parameters of any of QONNX's quantizers: shapes broadcast, scales positive."""
    for shape in inputs[1:]:
        if not _broadcasts(shape, inputs[0]):
            return f"has a parameter of shape {list(shape)}, which is not that of {list(inputs[0])}"
    if values[1] is not None and not np.all(values[1] > 0):
        return "has a scale that is not positive"
    return ""


def _int_quant(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    return _quant(attributes, inputs, values) or _width(inputs[3], values[3], "width")


def _trunc(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    problem = _quant(attributes, inputs, values) or _width(inputs[3], values[3], "width")
    if len(inputs) == 6 and values[4] is not None and not np.all(values[4] > 0):
        return "has an output scale that is not positive"
    return problem or _width(inputs[-1], values[-1], "output width")


def _width(shape: Shape, values: Any, what: str) -> str:
    if prod(shape) != 1:
        return f"has {prod(shape)} numbers as its {what}; one is needed"
    if values is not None and not (1 <= (bits := float(values.item())) <= 64 and bits % 1 == 0):
        return f"has a {what} of {bits:g} bits; a whole number from 1 to 64 is needed"
    return ""


def _multi_threshold(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    x, steps = inputs
    if len(x) < 2 or len(steps) != 2:
        return f"has data of shape {list(x)} and thresholds of shape {list(steps)}"
    # Without a layout, qonnx goes by the rank, and of three axes takes the last for the channels.
    guess = {2: "NC", 3: "NWC", 4: "NCHW"}.get(len(x), "NC" + "D" * (len(x) - 2))
    layout = attributes.get("data_layout", b"").decode() or guess
    if len(layout) != len(x) or "C" not in layout:
        return f"has data_layout {layout!r} for data of shape {list(x)}"
    channels = x[layout.index("C")]
    if steps[0] not in (1, channels):
        return f"has thresholds of shape {list(steps)} for {channels} channels"
    if values[1] is not None and np.any(np.diff(values[1], axis=1) < 0):
        return "has thresholds that do not rise; sort each row"
    return ""


def _broadcasts(shape: Shape, onto: Shape) -> bool:
    """Tell whether `shape` can be stretched to `onto`, without stretching `onto` itself."""
    if len(shape) > len(onto):
        return False
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(onto), strict=False))


def _global_pool(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    if len(inputs[0]) < 3:
        return f"has data of shape {list(inputs[0])}; batch, channels and an image are needed"
    return ""


def _reshape(attributes: Mapping[str, Any], inputs: list[Any], values: list[Any]) -> str:
    if len(inputs[1]) != 1:
        return f"has a target shape with {len(inputs[1])} axes; one is needed"
    return ""


CHECKERS = {
    ("", "AveragePool"): _pool,
    ("", "BatchNormalization"): _batch_norm,
    ("", "Conv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "Gemm"): _gemm,
    ("", "GlobalAveragePool"): _global_pool,
    ("", "GlobalMaxPool"): _global_pool,
    ("", "MaxPool"): _pool,
    ("", "Reshape"): _reshape,
    (QONNX, "BipolarQuant"): _quant,
    (QONNX, "FloatQuant"): _quant,
    (QONNX, "IntQuant"): _int_quant,
    (QONNX, "MultiThreshold"): _multi_threshold,
    (QONNX, "Quant"): _int_quant,
    (QONNX, "Trunc"): _trunc,
}
