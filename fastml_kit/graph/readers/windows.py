"""Readers of what slides over an image or a series: convolutions and pools."""

from math import prod
from typing import Any

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.readers.arithmetic import label_name
from fastml_kit.graph.readers.base import Reading, attributes, label


def conv(reading: Reading, node: Any) -> None:
    """Read a Conv over one or two axes: {strides, pads, dilations, group}; pads begin, then end."""
    attrs, inputs = attributes(node), _inputs(reading, node)
    rank = _rank(reading, inputs[0], node)
    weights = _weights(reading, inputs, node, rank)
    channels, group = reading.shapes[inputs[0]][1], int(attrs.get("group", 1))
    if group < 1 or weights[1] * group != channels or weights[0] % group:
        raise UnsupportedModel(
            f"{label(node)}: weights {weights} and {group} groups do not fit {channels} channels"
        )
    dilations = tuple(attrs.get("dilations", (1,) * rank))
    strides = tuple(attrs.get("strides", (1,) * rank))
    size = [(k - 1) * d + 1 for k, d in zip(weights[2:], dilations, strict=True)]
    pads = _pads(reading, node, attrs, inputs[0], size, strides)
    reading.emit(
        "Conv",
        label_name(node),
        inputs,
        node.output[0],
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
    )


def conv_transpose(reading: Reading, node: Any) -> None:
    """Read a ConvTranspose: {strides, pads, output_padding, dilations, group}."""
    attrs, inputs = attributes(node), _inputs(reading, node)
    rank = _rank(reading, inputs[0], node)
    _weights(reading, inputs, node, rank)
    if attrs.get("auto_pad", "NOTSET") != "NOTSET" or attrs.get("output_shape"):
        raise UnsupportedModel(f"{label(node)} uses auto_pad or output_shape; give explicit pads")
    strides = tuple(attrs.get("strides", (1,) * rank))
    extra = tuple(attrs.get("output_padding", (0,) * rank))
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        # onnxruntime 1.25 leaves those elements uninitialized.
        raise UnsupportedModel(f"{label(node)} has output_padding {extra} for strides {strides}")
    reading.emit(
        "ConvTranspose",
        label_name(node),
        inputs,
        node.output[0],
        strides=strides,
        pads=tuple(attrs.get("pads", (0,) * 2 * rank)),
        output_padding=extra,
        dilations=tuple(attrs.get("dilations", (1,) * rank)),
        group=int(attrs.get("group", 1)),
    )


def max_pool(reading: Reading, node: Any) -> None:
    """Read a MaxPool: {kernel_shape, strides, pads, dilations}."""
    _pool(reading, node, "MaxPool")


def average_pool(reading: Reading, node: Any) -> None:
    """Read an AveragePool as SumPool {kernel_shape, strides, pads, dilations, shift}.

    `shift` is the power of two in the number of elements; the odd rest of it divides in the Quant
    that follows.
    """
    _pool(reading, node, "SumPool")


def global_pool(reading: Reading, node: Any) -> None:
    """Read a GlobalMaxPool, GlobalAveragePool, or ReduceMean or ReduceMax over the image."""
    (source, *_), kind = _inputs(reading, node), node.op_type
    shape = reading.shapes[source]
    if kind.startswith("Reduce"):
        axes = attributes(node).get("axes")
        if axes is None and len(node.input) > 1 and node.input[1]:
            axes = reading.raw(node.input[1], label(node)).tolist()
        rank = len(shape)
        if axes is None or sorted(a % rank for a in axes) != list(range(2, rank)):
            raise UnsupportedModel(
                f"{label(node)} reduces axes {axes}; those of the image are read"
            )
    size = tuple(shape[2:])
    _window_node(
        reading,
        node,
        "MaxPool" if "Max" in kind else "SumPool",
        source,
        size,
        size,
        (0,) * 2 * len(size),
        (1,) * len(size),
    )


def _pool(reading: Reading, node: Any, op: str) -> None:
    attrs, (source, *_) = attributes(node), _inputs(reading, node)
    rank = _rank(reading, source, node)
    size = tuple(attrs.get("kernel_shape", ()))
    if len(size) != rank or attrs.get("ceil_mode", 0) or attrs.get("storage_order", 0):
        raise UnsupportedModel(
            f"{label(node)} needs a kernel_shape of {rank} axes, ceil_mode 0 and storage_order 0"
        )
    strides, dilations = (tuple(attrs.get(k, (1,) * rank)) for k in ("strides", "dilations"))
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    pads = _pads(reading, node, attrs, source, reach, strides)
    if op == "SumPool" and any(pads) and not attrs.get("count_include_pad", 0):
        raise UnsupportedModel(
            f"{label(node)} is padded and counts only real elements, so that its divisor changes; "
            "pad with zeros before it, or use count_include_pad=1"
        )
    if any(p >= k for p, k in zip(pads, 2 * size, strict=True)):
        raise UnsupportedModel(f"{label(node)} is padded by {pads}, a whole window")
    _window_node(reading, node, op, source, size, strides, pads, dilations)


def _window_node(
    reading: Reading, node: Any, op: str, source: str,
    size: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...],
    dilations: tuple[int, ...],
) -> None:  # fmt: skip
    extra: dict[str, Any] = {}
    divisor = reading.divisors.get(source, 1)
    if op == "SumPool":
        count = prod(size)
        extra["shift"] = (count & -count).bit_length() - 1
        divisor *= count >> extra["shift"]
    keep = len(reading.shapes[node.output[0]]) == len(reading.shapes[source])
    target = node.output[0] if keep else f"{node.output[0]}_pooled"
    reading.emit(
        op,
        label_name(node),
        (source,),
        target,
        kernel_shape=size,
        strides=strides,
        pads=pads,
        dilations=dilations,
        **extra,
    )
    if not keep:  # ReduceMean without keepdims
        shape = reading.shapes[node.output[0]][1:]
        reading.emit("Reshape", f"{label_name(node)}_flat", (target,), node.output[0], shape=shape)
    if divisor != 1:
        reading.divisors[node.output[0]] = divisor


def _inputs(reading: Reading, node: Any) -> tuple[str, ...]:
    inputs = tuple(reading.operand(i) for i in node.input if i)
    if inputs[0] in reading.constants:
        raise UnsupportedModel(f"{label(node)} reads a constant, not data")
    if inputs[0] in reading.divisors and "Conv" in node.op_type:
        raise UnsupportedModel(
            f"{label(node)} reads an average over {reading.divisors[inputs[0]]} values or a "
            "multiple, which has no exact binary form; put a Quant between"
        )
    return inputs


def _rank(reading: Reading, tensor: str, node: Any) -> int:
    rank = len(reading.shapes[tensor]) - 2
    if rank not in (1, 2):
        raise UnsupportedModel(f"{label(node)} works on {rank} axes; one or two are read")
    return rank


def _weights(reading: Reading, inputs: tuple[str, ...], node: Any, rank: int) -> tuple[int, ...]:
    for tensor in inputs[1:]:
        if tensor not in reading.constants:
            raise UnsupportedModel(f"{label(node)} has weights that are no constants: {tensor!r}")
    shape: tuple[int, ...] = reading.constants[inputs[1]].codes.shape
    if len(shape) != rank + 2:
        raise UnsupportedModel(f"{label(node)} has weights of shape {shape} for {rank} axes")
    return shape


def _pads(
    reading: Reading, node: Any, attrs: dict[str, Any], source: str,
    size: Any, strides: tuple[int, ...],
) -> tuple[int, ...]:  # fmt: skip
    """Return (begins..., ends...), with auto_pad's rule worked out."""
    rule, rank = attrs.get("auto_pad", "NOTSET"), len(size)
    if rule in ("NOTSET", "VALID"):
        pads = tuple(attrs.get("pads", (0,) * 2 * rank)) if rule == "NOTSET" else (0,) * 2 * rank
        if len(pads) != 2 * rank or min(pads) < 0:
            raise UnsupportedModel(f"{label(node)} has pads {pads}; {2 * rank} from 0 are needed")
        return pads
    if rule not in ("SAME_UPPER", "SAME_LOWER"):
        raise UnsupportedModel(f"{label(node)} has auto_pad {rule!r}; give explicit pads")
    begins, ends = [], []
    for length, reach, step in zip(reading.shapes[source][2:], size, strides, strict=True):
        total = max((-(-length // step) - 1) * step + reach - length, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if rule == "SAME_UPPER" else more)
        ends.append(more if rule == "SAME_UPPER" else less)
    return (*begins, *ends)
