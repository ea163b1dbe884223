"""Damaged ONNX files, made on purpose and again at will: each is a seed file and a number.

`mutate(data, seed)` returns the bytes of one: a quarter of them damaged as bytes, as a disk or a
network might, the others as graphs, as a faulty exporter might.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastml_kit.graph.checks.structure import QONNX

Rng = np.random.Generator
NUMBERS = [-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 7, 64, 1000, 2**20, 2**31 - 1, 2**62, 2**63 - 1]
FLOATS = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-45, 1e30, 3.4e38, 0.1, -0.0]
WORDS = ["", "x", "If", "Loop", "Relu", "Conv", "MatMul", "Quant", "Trunc", "Softmax", "Abs\0",
         "été", "名前", "a" * 300, "../../etc", "MaxPool", "Identity", "TopK", "Expand",
         "ConstantOfShape", "Range", "Tile", "Mod", "Div", "NonZero"]  # fmt: skip
DOMAINS = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", QONNX, "onnx.brevitas",
           "finn.custom_op.general", "qonnx.custom_op.channels_last", "os", "antigravity",
           "qonnx", ".", "no such domain"]  # fmt: skip


def mutate(data: bytes, seed: int) -> bytes:
    """Return `data`, an ONNX file, damaged in one to four ways."""
    rng = np.random.default_rng(seed)
    times = pick(rng, [1, 1, 1, 2, 2, 4])
    if rng.random() < 0.25:
        for _ in range(times):
            data = pick(rng, BYTES)(data, rng)
        return data
    model = onnx.ModelProto.FromString(data)
    for _ in range(times):
        change = pick(rng, GRAPHS)
        try:
            with np.errstate(all="ignore"):  # NaN has no meaning as an integer, and is put there
                change(model, rng)
        except (ValueError, TypeError, IndexError):
            continue  # an earlier change left nothing to do this one on
    return bytes(model.SerializeToString())


def pick(rng: Rng, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def array(tensor: Any) -> Any:
    """Return a tensor's values; an earlier change may have left it without."""
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise ValueError("a tensor that cannot be read") from error


# Bytes.


def flip(data: bytes, rng: Rng) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    return bytes(out) or b"\0"


def truncate(data: bytes, rng: Rng) -> bytes:
    return data[: max(1, int(rng.integers(len(data))))]


def splice(data: bytes, rng: Rng) -> bytes:
    a, b, size = (int(rng.integers(len(data))) for _ in range(3))
    return data[:a] + data[b : b + size % 200] + data[a:]


def insert(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 20))) + data[at:]


def zero(data: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 40))
    return data[:at] + bytes(min(size, len(data) - at)) + data[at + size :]


def cut(data: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 40))
    return data[:at] + data[at + size :] or b"\0"


BYTES: list[Callable[[bytes, Rng], bytes]] = [flip, truncate, splice, insert, zero, cut]

# Graphs.


def drop_node(model: Any, rng: Rng) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def double_node(model: Any, rng: Rng) -> None:
    nodes = model.graph.node
    nodes.insert(int(rng.integers(len(nodes) + 1)), pick(rng, nodes))


def swap_nodes(model: Any, rng: Rng) -> None:
    nodes = list(model.graph.node)
    a, b = (int(rng.integers(len(nodes))) for _ in range(2))
    nodes[a], nodes[b] = nodes[b], nodes[a]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def rename_operator(model: Any, rng: Rng) -> None:
    others = [node.op_type for node in model.graph.node]
    pick(rng, model.graph.node).op_type = pick(rng, WORDS + others)


def rename_node(model: Any, rng: Rng) -> None:
    pick(rng, model.graph.node).name = pick(rng, WORDS)


def change_domain(model: Any, rng: Rng) -> None:
    pick(rng, model.graph.node).domain = pick(rng, DOMAINS)


def tensors(model: Any) -> list[str]:
    made = [name for node in model.graph.node for name in (*node.input, *node.output)]
    return [*made, *(t.name for t in model.graph.initializer), "", "nobody"]


def rewire(model: Any, rng: Rng) -> None:
    """Let a node read some other tensor, or its own output, or one made later."""
    node = pick(rng, model.graph.node)
    node.input[int(rng.integers(len(node.input)))] = pick(rng, tensors(model))


def retarget(model: Any, rng: Rng) -> None:
    node = pick(rng, model.graph.node)
    node.output[int(rng.integers(len(node.output)))] = pick(rng, tensors(model))


def fewer_inputs(model: Any, rng: Rng) -> None:
    del pick(rng, model.graph.node).input[-1]


def more_inputs(model: Any, rng: Rng) -> None:
    pick(rng, model.graph.node).input.append(pick(rng, tensors(model)))


def change_shape(model: Any, rng: Rng) -> None:
    graph = model.graph
    value = pick(rng, [*graph.input, *graph.output, *graph.value_info])
    dims = value.type.tensor_type.shape.dim
    way = int(rng.integers(5))
    if way == 0:
        del dims[int(rng.integers(len(dims)))]
    elif way == 1:
        dims.add().dim_value = pick(rng, NUMBERS)
    elif way == 2:
        pick(rng, dims).dim_param = pick(rng, WORDS)
    elif way == 3:
        value.type.tensor_type.ClearField("shape")
    else:
        pick(rng, dims).dim_value = pick(rng, NUMBERS)


def change_type(model: Any, rng: Rng) -> None:
    graph = model.graph
    value = pick(rng, [*graph.input, *graph.output, *graph.value_info])
    value.type.tensor_type.elem_type = int(rng.integers(0, 30))


def change_attribute(model: Any, rng: Rng) -> None:
    node = pick(rng, [node for node in model.graph.node if node.attribute])
    attribute = pick(rng, node.attribute)
    way = int(rng.integers(4))
    if way == 0:
        node.attribute.remove(attribute)
    elif way == 1:
        attribute.name = pick(rng, ["axis", "group", "perm", *WORDS])
    elif way == 2:
        attribute.type = int(rng.integers(0, 15))
    elif attribute.ints:
        if rng.random() < 0.3:
            attribute.ints.append(pick(rng, NUMBERS))
        attribute.ints[int(rng.integers(len(attribute.ints)))] = pick(rng, NUMBERS)
    elif attribute.s:
        attribute.s = pick(rng, [b"", b"\xff\xfe", b"FLOOR", b"CEIL", b"HALF_DOWN", b"wrong"])
    elif attribute.HasField("f"):
        attribute.f = pick(rng, FLOATS)
    else:
        attribute.i = pick(rng, NUMBERS)


def add_attribute(model: Any, rng: Rng) -> None:
    names = ["strides", "pads", "dilations", "kernel_shape", "group", "axis", "auto_pad", "perm",
             "to", "alpha", "ceil_mode", "transB", "transA", "count_include_pad", "then_branch",
             "keepdims", "allowzero", "data_layout", "out_bias", "storage_order"]  # fmt: skip
    values = [pick(rng, NUMBERS), [pick(rng, NUMBERS)] * int(rng.integers(1, 5)), [1, 1], [2, 2],
              [0, 1, 1, 0], 1, pick(rng, FLOATS), "SAME_UPPER", "NHWC", model.graph]  # fmt: skip
    node = pick(rng, model.graph.node)
    node.attribute.append(helper.make_attribute(pick(rng, names), pick(rng, values)))


def change_opset(model: Any, rng: Rng) -> None:
    way = int(rng.integers(4))
    if way == 0:
        del model.opset_import[int(rng.integers(len(model.opset_import)))]
    elif way == 1:
        model.opset_import.add(domain=pick(rng, DOMAINS), version=pick(rng, NUMBERS))
    elif way == 2:
        pick(rng, model.opset_import).version = int(rng.integers(-1, 40))
    else:
        model.ir_version = int(rng.integers(-1, 20))


def change_values(model: Any, rng: Rng) -> None:
    """Put one strange number, or all of one kind, in an initializer."""
    tensor = pick(rng, model.graph.initializer)
    values = array(tensor).copy()
    strange = pick(rng, FLOATS if values.dtype.kind == "f" else NUMBERS)
    strange = np.asarray(strange).astype(values.dtype)
    if values.ndim == 0 or rng.random() < 0.3:
        values[...] = strange
    else:
        values.flat[int(rng.integers(values.size))] = strange
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def change_dims(model: Any, rng: Rng) -> None:
    dims = pick(rng, model.graph.initializer).dims
    way = int(rng.integers(3))
    if way == 0:
        dims.append(pick(rng, NUMBERS))
    elif way == 1:
        dims[int(rng.integers(len(dims)))] = pick(rng, NUMBERS)
    else:
        del dims[int(rng.integers(len(dims)))]


def reshape_values(model: Any, rng: Rng) -> None:
    """Give an initializer another shape that its data do fill."""
    tensor = pick(rng, model.graph.initializer)
    values = array(tensor)
    way = int(rng.integers(4))
    if way == 0:
        values = values.reshape(-1)
    elif way == 1:
        values = values[None]
    elif way == 2:
        values = values.T
    else:
        values = np.resize(values, [int(rng.integers(0, 5)) for _ in range(rng.integers(0, 5))])
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def change_tensor_type(model: Any, rng: Rng) -> None:
    tensor = pick(rng, model.graph.initializer)
    if rng.random() < 0.5:
        tensor.data_type = int(rng.integers(-1, 30))
    else:
        kind = pick(rng, [np.float16, np.float64, np.int64, np.int8, np.uint8, np.bool_])
        values = array(tensor).astype(kind)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def drop_values(model: Any, rng: Rng) -> None:
    del model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def double_values(model: Any, rng: Rng) -> None:
    model.graph.initializer.append(pick(rng, model.graph.initializer))


def rename_tensor(model: Any, rng: Rng) -> None:
    pick(rng, model.graph.initializer).name = pick(rng, [*WORDS, *tensors(model)])


def make_external(model: Any, rng: Rng) -> None:
    tensor = pick(rng, model.graph.initializer)
    places = ["", "missing.bin", "../../../../etc/passwd", "/etc/passwd", ".", "a\0b", "x" * 5000]
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": pick(rng, places), "offset": str(pick(rng, NUMBERS)), "length": "junk"}
    for key, value in entries.items():
        if rng.random() < 0.7:
            tensor.external_data.add(key=key, value=value)


def add_sparse(model: Any, rng: Rng) -> None:
    model.graph.sparse_initializer.add().dims.append(pick(rng, NUMBERS))


def change_ends(model: Any, rng: Rng) -> None:
    graph = model.graph
    ends = pick(rng, [graph.input, graph.output])
    way = int(rng.integers(4))
    if way == 0:
        del ends[int(rng.integers(len(ends)))]
    elif way == 1:
        ends.append(pick(rng, [*graph.input, *graph.output]))
    elif way == 2:
        pick(rng, ends).name = pick(rng, tensors(model))
    else:
        ends.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 3]))


def add_note(model: Any, rng: Rng) -> None:
    """Claim a wrong shape for a tensor inside."""
    shape = [pick(rng, NUMBERS) for _ in range(rng.integers(0, 4))]
    kind = int(rng.integers(0, 17))
    model.graph.value_info.append(
        helper.make_tensor_value_info(pick(rng, tensors(model)), kind, shape)
    )


def add_operator(model: Any, rng: Rng) -> None:
    """Put an operator, sensible or not, in front of a node's first input."""
    nodes = model.graph.node
    at = int(rng.integers(len(nodes)))
    operators: list[tuple[str, dict[str, Any]]] = [
        ("Relu", {}), ("Neg", {}), ("Abs", {}), ("Identity", {}), ("Sqrt", {}), ("Log", {}),
        ("Flatten", {}), ("Softmax", {}), ("Shape", {}), ("Size", {}), ("NonZero", {}),
        ("Transpose", {}), ("Transpose", {"perm": [1, 0]}), ("Transpose", {"perm": [0, 2, 1]}),
        ("Squeeze", {}), ("Cast", {"to": int(rng.integers(0, 17))}), ("LeakyRelu", {"alpha": 0.25}),
        ("LeakyRelu", {"alpha": pick(rng, FLOATS)}), ("GlobalAveragePool", {}),
        ("AveragePool", {"kernel_shape": [3, 3]}), ("MaxPool", {"kernel_shape": [2, 2]}),
        ("MaxPool", {"kernel_shape": [pick(rng, NUMBERS), 2]}), ("Clip", {}), ("Dropout", {}),
        ("DepthToSpace", {"blocksize": pick(rng, NUMBERS)}), ("ReduceMean", {"keepdims": 0}),
        ("ArgMax", {"axis": 1}), ("Reciprocal", {}), ("Exp", {}), ("Floor", {}), ("Not", {}),
    ]  # fmt: skip
    op, attributes = pick(rng, operators)
    name = f"more{len(nodes)}_{rng.integers(1000)}"
    node = helper.make_node(op, [nodes[at].input[0]], [name], name=name, **attributes)
    nodes[at].input[0] = name
    nodes.insert(at, node)


def add_sum(model: Any, rng: Rng) -> None:
    """Put a binary operator of two tensors in front of a node's first input."""
    nodes = model.graph.node
    at = int(rng.integers(len(nodes)))
    name = f"sum{len(nodes)}_{rng.integers(1000)}"
    op = pick(rng, ["Add", "Sub", "Mul", "Div", "MatMul", "Concat", "Max", "Mod", "Pow", "Expand",
                    "Reshape", "Tile", "Gather", "PRelu", "Equal"])  # fmt: skip
    attributes: dict[str, Any] = {}
    if op in ("Concat", "Gather"):
        attributes["axis"] = int(rng.integers(-2, 3))
    pair = [nodes[at].input[0], pick(rng, tensors(model))]
    nodes[at].input[0] = name
    nodes.insert(at, helper.make_node(op, pair, [name], name=name, **attributes))


GRAPHS: list[Callable[[Any, Rng], None]] = [
    drop_node, double_node, swap_nodes, rename_operator, rename_node, change_domain, rewire, rewire,
    retarget, fewer_inputs, more_inputs, change_shape, change_shape, change_type, change_attribute,
    change_attribute, change_attribute, add_attribute, add_attribute, change_opset, change_values,
    change_values, change_values, change_dims, reshape_values, reshape_values, change_tensor_type,
    drop_values, double_values, rename_tensor, make_external, add_sparse, change_ends, add_note,
    add_operator, add_operator, add_sum, add_sum,
]  # fmt: skip
