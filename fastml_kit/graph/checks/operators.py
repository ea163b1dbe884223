"""Which operators an ONNX file may use, with how many inputs and which attributes.

ONNX's own operators are as onnx's schemas say; QONNX's are as its registry says, with the counts
of inputs that its executor reads. Nothing here depends on shapes.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from fastml_kit.errors import UnsupportedModel, nearest
from fastml_kit.graph.checks.structure import ALIASES, CHANNELS_LAST, QONNX, STANDARD, label

#: QONNX's operators and how many inputs each may have.
QONNX_INPUTS = {
    "BipolarQuant": (2, 2),
    "FloatQuant": (6, 6),
    "IntQuant": (4, 4),
    "MultiThreshold": (2, 2),
    "Quant": (4, 4),
    "QuantAvgPool2d": (1, 1),
    "Trunc": (5, 6),
}
CHANNELS_LAST_INPUTS = {"BatchNormalization": (5, 5), "Conv": (2, 3), "MaxPool": (1, 1)}

#: Attributes that count something, and the least each may be. The most is far beyond any use.
LEAST = {"strides": 1, "dilations": 1, "kernel_shape": 1, "group": 1, "pads": 0,
         "output_padding": 0, "output_shape": 1, "blocksize": 1}  # fmt: skip
MOST = 2**20


def versions(model: Any) -> dict[str, int]:
    """Return the version of every domain that a model imports."""
    return {
        "" if entry.domain in STANDARD else str(entry.domain): int(entry.version)
        for entry in model.opset_import
    }


def canonicalise(model: Any) -> None:
    """Give QONNX's operators their one domain, and import what the nodes use.

    Several exporters wrote files that use the domain without importing it; it has one meaning
    but for Trunc, which `structure` refuses without an import.
    """
    imports = versions(model)
    given = [imports.pop(domain) for domain in ALIASES if domain in imports]
    for node in model.graph.node:
        if node.domain in ALIASES:
            node.domain = QONNX
        elif node.domain in STANDARD:
            node.domain = ""
    used = {node.domain for node in model.graph.node}
    imports = {domain: version for domain, version in imports.items() if domain in used | {""}}
    for domain in used & {QONNX, CHANNELS_LAST}:
        imports[domain] = given[0] if given and domain == QONNX else 1
    del model.opset_import[:]
    for domain, version in imports.items():
        model.opset_import.add(domain=domain, version=version)


def check_node(node: Any, imports: Mapping[str, int]) -> None:
    """Check that `node` is an operator known here, with inputs and attributes that it may have.

    `imports` holds the version of each domain, as `versions` returns them.

    Raises:
        UnsupportedModel: it is not; the message names the node.
    """
    for attribute in node.attribute:
        _check_contents(node, attribute)
    if node.domain == "":
        _check_standard(node, imports[""])
    elif node.domain in (QONNX, CHANNELS_LAST):
        _check_qonnx(node, imports[node.domain])
    else:
        raise UnsupportedModel(
            f"{label(node)} is of domain {node.domain!r}; known domains: ONNX's own, "
            f"{', '.join(ALIASES)}, {CHANNELS_LAST}"
        )


def _check_standard(node: Any, version: int) -> None:
    from onnx import AttributeProto, defs

    try:
        schema = defs.get_schema(node.op_type, version, "")
    except defs.SchemaError as error:
        known = {one.name for one in defs.get_all_schemas()}
        raise UnsupportedModel(
            f"{label(node)} is no operator of ONNX opset {version}.{nearest(node.op_type, known)}"
        ) from error
    if schema.deprecated:
        raise UnsupportedModel(f"{label(node)} is no longer an operator in opset {version}")
    _check_count(node, "inputs", node.input, schema.min_input, schema.max_input)
    _check_count(node, "outputs", node.output, schema.min_output, schema.max_output)
    kinds = {
        name: (AttributeProto.AttributeType.Value(str(one.type).rpartition(".")[2]), one.required)
        for name, one in schema.attributes.items()
    }
    _check_attributes(node, kinds)


def _check_qonnx(node: Any, version: int) -> None:
    from onnx import AttributeProto, helper
    from qonnx.custom_op.registry import getCustomOp

    counts = QONNX_INPUTS if node.domain == QONNX else CHANNELS_LAST_INPUTS
    if node.op_type not in counts:
        raise UnsupportedModel(
            f"{label(node)} is no operator of {node.domain}.{nearest(node.op_type, counts)} "
            f"Choices: {', '.join(sorted(counts))}"
        )
    count = counts[node.op_type]
    if node.op_type == "Trunc":  # version 2 added the scale of the output
        count = (5, 5) if version == 1 else (6, 6)
    _check_count(node, "inputs", node.input, *count)
    _check_count(node, "outputs", node.output, 1, 1)
    letters = {"i": "INT", "f": "FLOAT", "s": "STRING", "ints": "INTS", "floats": "FLOATS",
               "strings": "STRINGS", "t": "TENSOR"}  # fmt: skip
    declared = getCustomOp(node, version).get_nodeattr_types()
    kinds = {
        name: (AttributeProto.AttributeType.Value(letters[kind[0]]), bool(kind[1]))
        for name, kind in declared.items()
    }
    _check_attributes(node, kinds)
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    for name, (_, _, _, *choices) in declared.items():
        value = given[name].decode() if isinstance(given.get(name), bytes) else given.get(name)
        if choices and value is not None and value not in choices[0]:
            raise UnsupportedModel(
                f"{label(node)} has {name}={value!r}; choices: "
                f"{', '.join(map(repr, sorted(choices[0])))}"
            )


def _check_count(node: Any, what: str, names: Any, least: int, most: int) -> None:
    given = len(names)
    if not least <= given <= most or not all(names[:least]):
        raise UnsupportedModel(
            f"{label(node)} has {sum(map(bool, names))} {what}; it needs {least}"
            + (f" to {most}" if most != least else "")
        )


def _check_attributes(node: Any, kinds: dict[str, tuple[int, bool]]) -> None:
    """Check the attributes' names and types against `kinds`: type and whether it must be there."""
    from onnx import AttributeProto

    seen: set[str] = set()
    for attribute in node.attribute:
        name = attribute.name
        if attribute.HasField("g") or attribute.graphs:
            raise UnsupportedModel(
                f"{label(node)} holds a graph of its own; a straight graph without If, Loop or "
                "Scan is supported"
            )
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise UnsupportedModel(f"{label(node)} holds a sparse tensor; store it as a dense one")
        if name not in kinds:
            raise UnsupportedModel(
                f"{label(node)} has an unknown attribute {name!r}.{nearest(name, kinds)}"
            )
        if name in seen:
            raise UnsupportedModel(f"{label(node)} has the attribute {name!r} twice")
        seen.add(name)
        if attribute.ref_attr_name or attribute.type != kinds[name][0]:
            types = AttributeProto.AttributeType
            got = types.Name(attribute.type) if attribute.type in types.values() else "unknown"
            raise UnsupportedModel(
                f"{label(node)}'s attribute {name!r} is of type {got}; it must be "
                f"{types.Name(kinds[name][0])}"
            )
    if missing := sorted(name for name, (_, must) in kinds.items() if must and name not in seen):
        raise UnsupportedModel(f"{label(node)} lacks the attribute {missing[0]!r}")


def _check_contents(node: Any, attribute: Any) -> None:
    """Check that counts count, text is text, and floats are finite where they are no open bound."""
    name = attribute.name
    if name in LEAST:
        numbers = [attribute.i] if attribute.type == attribute.INT else list(attribute.ints)
        if not all(LEAST[name] <= number <= MOST for number in numbers):
            raise UnsupportedModel(
                f"{label(node)} has {name}={numbers}; each must be {LEAST[name]} to {MOST}"
            )
    for text in (attribute.s, *attribute.strings):
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise UnsupportedModel(
                f"{label(node)}'s attribute {name!r} is no UTF-8 text; the file is damaged"
            ) from error
    floats = [*attribute.floats, *([attribute.f] if attribute.type == attribute.FLOAT else [])]
    unbounded = node.op_type in ("Clip", "Pad") and not any(f != f for f in floats)
    if not unbounded and not all(isfinite(f) for f in floats):
        raise UnsupportedModel(f"{label(node)}'s attribute {name!r} is NaN or infinite")
