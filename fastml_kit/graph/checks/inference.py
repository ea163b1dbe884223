"""Shapes inferred node by node: each node is checked in Python before onnx's own code sees it.

onnx can infer a whole graph at once, but then a node whose attributes do not fit its data, deep
inside, ends the process. One at a time, the shapes before a node are known when it is its turn.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.checks import folding, geometry, shapes
from fastml_kit.graph.checks.structure import QONNX, arrays, dynamic_inputs, label

#: Operators of QONNX whose output has the shape of their first input.
SHAPELESS = ("BipolarQuant", "FloatQuant", "IntQuant", "MultiThreshold", "Quant", "Trunc")
#: Larger constants are no shapes, pads or scales that another shape could depend on.
SMALL = 1024


def infer(model: Any) -> Any:
    """Return a copy of `model` for batch 1 with the shape of every tensor in its `value_info`.

    Nodes that only compute shapes are worked out on the way and become initializers.

    Raises:
        UnsupportedModel: a node does not fit what it reads, a shape depends on data, or contradicts
            what the file says, or is absurdly large.
    """
    import onnx
    from onnx import numpy_helper

    single = onnx.ModelProto()
    single.CopyFrom(model)
    shapes.check_input(single)
    shapes.set_batch(single)
    graph = single.graph
    _drop_unread(graph, single.opset_import)
    walk = _Walk(single)
    kept = []
    for node in graph.node:
        if (values := walk.folded(node)) is not None:
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            walk.through(node)
            kept.append(node)
    walk.check_claims()
    output = graph.output[0].name
    if output not in walk.data:
        raise UnsupportedModel(f"output {output!r} does not depend on the input")
    if walk.shapes[output][:1] != (1,):
        raise UnsupportedModel(
            f"output {output!r} has shape {list(walk.shapes[output])} for one sample; its first "
            "axis must be the batch"
        )
    notes = [
        onnx.helper.make_value_info(name, walk.types[name])
        for node in kept
        for name in node.output
        if name and name != output
    ]
    inputs = dynamic_inputs(graph)
    del graph.node[:], graph.value_info[:], graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    single.ir_version = max(single.ir_version, 4)  # before, initializers had to be inputs as well
    graph.node.extend(kept)
    graph.value_info.extend(notes)
    graph.output.append(onnx.helper.make_value_info(output, walk.types[output]))
    return single


def _drop_unread(graph: Any, imports: Any) -> None:
    """Take off optional outputs that nothing reads: the mask of a Dropout, for one."""
    from onnx import defs

    read = {name for node in graph.node for name in node.input} | {graph.output[0].name}
    version = next((entry.version for entry in imports if entry.domain == ""), 0)
    for node in graph.node:
        least = 1 if node.domain else defs.get_schema(node.op_type, version, "").min_output
        while len(node.output) > least and node.output[-1] not in read:
            del node.output[-1]


class _Walk:
    """What is known of a graph's tensors on the way through its nodes."""

    def __init__(self, model: Any) -> None:
        from onnx import helper

        self.model = model
        self.stored = arrays(model)
        self.tensors = {t.name: t for t in model.graph.initializer if prod(t.dims) <= SMALL}
        self.types: dict[str, Any] = {
            tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            for tensor in model.graph.initializer
        }
        self.data = {value.name for value in dynamic_inputs(model.graph)}
        for value in dynamic_inputs(model.graph):
            self.types[value.name] = value.type
        self.shapes = {name: shapes.of_type(kind) for name, kind in self.types.items()}

    def folded(self, node: Any) -> NDArray[Any] | None:
        """Return what `node` gives if it is a constant that a shape could depend on."""
        from onnx import numpy_helper

        values = folding.value(self.model, node, self.stored, self.shapes)
        if values is not None:
            name = node.output[0]
            tensor = numpy_helper.from_array(values, name)
            self.stored[name], self.tensors[name] = values, tensor
            self._know(name, _type_of(tensor))
        return values

    def through(self, node: Any) -> None:
        """Check `node` and note the shapes of its outputs."""
        for part in stand_in(node, self.shapes):
            geometry.check_node(part, self.shapes, self.stored)
            found = self._outputs(part)
            from_data = not self.data.isdisjoint(part.input)
            for name in filter(None, part.output):
                where = f"output {name!r} of {label(node)}"
                if name not in found:
                    raise UnsupportedModel(f"{where} has no shape before the graph runs")
                # Weights may be as large as the file, but no larger than what they are made of.
                given = [] if from_data else [prod(self.shapes[i]) for i in part.input if i]
                shapes.check_type(where, found[name], max(shapes.MAX_ELEMENTS, *given, 0))
                self._know(name, found[name])
                if from_data:
                    self.data.add(name)
            shapes.check_windows(part, self.shapes)

    def check_claims(self) -> None:
        """Compare with what the file says about tensors inside and its output."""
        graph = self.model.graph
        for claim in (*graph.value_info, *graph.output):
            if claim.name not in self.types:
                continue
            said, found = claim.type.tensor_type, self.types[claim.name].tensor_type
            dims = [dim.dim_value or None for dim in said.shape.dim]
            real = self.shapes[claim.name]
            if said.elem_type not in (0, found.elem_type) or (
                said.HasField("shape")
                and (
                    len(dims) != len(real)
                    or any(a not in (None, b) for a, b in zip(dims, real, strict=True))
                )
            ):
                raise UnsupportedModel(
                    f"the file says that tensor {claim.name!r} has shape {dims} and type "
                    f"{said.elem_type}; it has shape {list(real)} and type {found.elem_type}"
                )

    def _know(self, name: str, kind: Any) -> None:
        self.types[name] = kind
        self.shapes[name] = shapes.of_type(kind)

    def _outputs(self, node: Any) -> dict[str, Any]:
        """Return the types of a node's outputs; QONNX's quantizers keep that of their input."""
        from onnx import defs
        from onnx.shape_inference import infer_node_outputs

        if node.domain:
            _check_parameters(node, self.types)
            return {node.output[0]: self.types[node.input[0]]}
        imports = self.model.opset_import
        version = next(entry.version for entry in imports if entry.domain == "")
        schema = defs.get_schema(node.op_type, version, "")
        inputs = {name: self.types[name] for name in node.input if name}
        _check_types(node, schema, inputs)
        known = {name: self.tensors[name] for name in inputs if name in self.tensors}
        try:
            return infer_node_outputs(
                schema, node, inputs, known, opset_imports=imports,
                ir_version=self.model.ir_version,
            )  # fmt: skip
        except Exception as error:  # onnx raises InferenceError, and plain errors besides
            line = " ".join(str(error).split())[:300]
            raise UnsupportedModel(f"{label(node)} does not fit what it reads: {line}") from error


def _type_of(tensor: Any) -> Any:
    from onnx import helper

    return helper.make_tensor_type_proto(tensor.data_type, tensor.dims)


def _check_types(node: Any, schema: Any, inputs: Mapping[str, Any]) -> None:
    """Check that a node's inputs have types that its operator takes."""
    from onnx import TensorProto

    allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
    bound: dict[str, str] = {}
    for place, name in enumerate(node.input):
        if not name:
            continue
        formal = schema.inputs[min(place, len(schema.inputs) - 1)]
        number = inputs[name].tensor_type.elem_type
        kind = f"tensor({TensorProto.DataType.Name(number).lower()})"
        if kind not in allowed.get(formal.type_str, [formal.type_str]):
            raise UnsupportedModel(f"{label(node)} reads {name!r} of type {kind}, which it cannot")
        if formal.is_homogeneous and bound.setdefault(formal.type_str, kind) != kind:
            raise UnsupportedModel(
                f"{label(node)} joins {bound[formal.type_str]} with {name!r} of type {kind}; cast "
                "one"
            )


def _check_parameters(node: Any, types: Mapping[str, Any]) -> None:
    """Check that a quantizer of QONNX reads floats; its executor wraps around in small integers.

    Some exporters write the width, and others the zero point, as a wide integer.
    """
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    for place, name in enumerate(node.input):
        number = types[name].tensor_type.elem_type
        wide = place > 1 and number in (TensorProto.INT32, TensorProto.INT64)
        if number not in floats and not wide:
            raise UnsupportedModel(
                f"{label(node)} reads {name!r} of type {TensorProto.DataType.Name(number)}; floats "
                "are needed"
            )


def stand_in(node: Any, known: Mapping[str, tuple[int, ...]]) -> list[Any]:
    """Return `node`, or nodes of ONNX's own that change shapes as this one of QONNX's does."""
    from onnx import helper

    if not node.domain or (node.domain == QONNX and node.op_type in SHAPELESS):
        return [node]
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "QuantAvgPool2d":
        size, step = (attributes.get(name, 1) for name in ("kernel", "stride"))
        operator, last = "AveragePool", attributes.get("data_layout", b"NCHW") == b"NHWC"
        attributes = {"kernel_shape": [size] * 2, "strides": [step] * 2}
    else:
        operator, last = node.op_type, True
    if not last:
        return [helper.make_node(operator, node.input, node.output, name=node.name, **attributes)]
    rank = len(known[node.input[0]])
    x, y, w = (f"{node.output[0]}/{end}" for end in ("first", "last", "weights"))
    parameters = list(node.input[1:])
    first, back = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    before = [helper.make_node("Transpose", node.input[:1], [x], perm=first)]
    if operator == "Conv":  # its weights have their channels last as well
        before.append(helper.make_node("Transpose", node.input[1:2], [w], perm=first))
        parameters[0] = w
    return [
        *before,
        helper.make_node(operator, [x, *parameters], [y], name=node.name, **attributes),
        helper.make_node("Transpose", [y], node.output, perm=back),
    ]
