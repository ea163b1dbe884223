"""Which shapes a tensor of a foreign model may have: known, positive, and small enough to hold."""

from collections.abc import Mapping
from math import prod
from typing import Any

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.checks.structure import dynamic_inputs, label

#: Elements that a tensor may have for one sample: a 4096 by 4096 image.
MAX_ELEMENTS = 2**24
#: Numbers that all windows of a convolution or a pool may hold together, for one sample: twice
#: those of a 3 by 3 convolution of 64 channels on a 512 by 512 image.
MAX_WINDOWS = 2**28
MAX_RANK = 8


def known(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a model that `check.load` returned, by name."""
    graph = model.graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        found[value.name] = of_type(value.type)
    return found


def of_type(kind: Any) -> tuple[int, ...]:
    """Return the shape in a TypeProto, with 0 for what it leaves open."""
    return tuple(int(dim.dim_value) for dim in kind.tensor_type.shape.dim)


def batch_of(model: Any) -> int | str:
    """Return the batch that a model's file gives: a number, or the name of a symbol."""
    dims = dynamic_inputs(model.graph)[0].type.tensor_type.shape.dim
    if not dims:
        return "?"
    return int(dims[0].dim_value) if dims[0].HasField("dim_value") else dims[0].dim_param or "?"


def check_input(model: Any) -> None:
    """Check that the input is a tensor of numbers whose shape, all but the batch, is fixed."""
    value = dynamic_inputs(model.graph)[0]
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise UnsupportedModel(f"input {value.name!r} has no shape; export it with a fixed one")
    if len(kind.shape.dim) < 2:
        raise UnsupportedModel(
            f"input {value.name!r} has {len(kind.shape.dim)} axes; a batch axis and one more are "
            "needed"
        )
    for axis, dim in enumerate(kind.shape.dim):
        fixed = dim.HasField("dim_value") and dim.dim_value > 0
        if not fixed and (axis or dim.HasField("dim_value")):
            what = dim.dim_value if dim.HasField("dim_value") else repr(dim.dim_param or "?")
            raise UnsupportedModel(
                f"axis {axis} of input {value.name!r} has size {what}; only the batch may be left "
                "open, export it with a fixed shape"
            )
    _check(f"input {value.name!r}", value.type, (1, *of_type(value.type)[1:]), MAX_ELEMENTS)


def set_batch(model: Any) -> None:
    """Set the batch to 1, in the constant shapes of Reshape nodes too, and forget old shapes."""
    from onnx import numpy_helper

    batch = batch_of(model)
    if batch == 1:
        return
    graph = model.graph
    dynamic_inputs(graph)[0].type.tensor_type.shape.dim[0].dim_value = 1
    del graph.value_info[:]
    graph.output[0].type.tensor_type.ClearField("shape")
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] in stored or node.input[1] not in stored:
            continue
        shape = numpy_helper.to_array(stored[node.input[1]]).copy()
        if shape.ndim == 1 and len(shape) and shape[0] == batch:
            shape[0] = 1
            name = f"{node.input[1]}/batch1/{node.output[0]}"
            graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name


def check_type(where: str, kind: Any, most: int) -> None:
    """Check that a TypeProto is a tensor of numbers, its shape fixed, of at most `most` elements.

    Raises:
        UnsupportedModel: it is not; the message calls it `where`.
    """
    dims = kind.tensor_type.shape.dim
    if not kind.tensor_type.HasField("shape") or not all(d.HasField("dim_value") for d in dims):
        raise UnsupportedModel(
            f"{where} has a shape that depends on data; fold its constants (qonnx's cleanup does) "
            "or export it with fixed shapes"
        )
    _check(where, kind, of_type(kind), most)


def _check(where: str, kind: Any, shape: tuple[int, ...], most: int) -> None:
    from onnx import TensorProto

    strange = (TensorProto.UNDEFINED, TensorProto.STRING, TensorProto.COMPLEX64,
               TensorProto.COMPLEX128)  # fmt: skip
    number = kind.tensor_type.elem_type
    if number not in TensorProto.DataType.values() or number in strange:
        raise UnsupportedModel(f"{where} has element type {number}; only numbers are read")
    if any(size < 1 for size in shape) or len(shape) > MAX_RANK or prod(shape) > most:
        raise UnsupportedModel(
            f"{where} has shape {list(shape)}; sizes must be 1 or more, at most {MAX_RANK} axes "
            f"and {most:,} elements in all"
        )


def check_windows(node: Any, known: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the windows of a Conv, ConvTranspose or pool are not too many or too large.

    Raises:
        UnsupportedModel: together they hold more than `MAX_WINDOWS` numbers.
    """
    if node.op_type in ("Conv", "ConvTranspose"):
        kernel = known[node.input[1]][2:]
    elif node.op_type in ("AveragePool", "MaxPool"):
        kernel = next(tuple(one.ints) for one in node.attribute if one.name == "kernel_shape")
    else:
        return
    channels, positions = known[node.input[0]][1], known[node.output[0]][2:]
    total = channels * prod(positions) * prod(kernel)
    if total > MAX_WINDOWS:
        raise UnsupportedModel(
            f"{label(node)} looks at {total:,} numbers for one sample; at most {MAX_WINDOWS:,}, "
            "choose smaller images"
        )
