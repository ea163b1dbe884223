"""A QONNX file read as a list of integer operations: the form that engines and backends walk.

Reading resolves what ONNX spreads over nodes: a Quant of an initializer becomes a `Constant` of
integer codes, the scale and width inputs of a Quant on data become a `FixedSpec`, averages become
sums that the next Quant divides. Nothing is fused; what has no exact integer form is refused by
name, and `graph.importing` may still find one.
"""

from pathlib import Path
from typing import Any

from fastml_kit.errors import FastmlError, UnsupportedModel
from fastml_kit.graph.ir import Constant, Node, Program
from fastml_kit.graph.readers import READERS, Reading, channels
from fastml_kit.graph.readers.base import label

__all__ = ["Constant", "Node", "Program", "finish", "of_model", "read", "read_node"]

#: What only the host computes; a graph may end in it before it is imported.
HOST = ("ArgMax", "LogSoftmax", "Sigmoid", "Softmax", "TopK")


def read(path: Path) -> Program:
    """Read the QONNX file at `path`.

    Raises:
        RunError: the file is missing or no ONNX file.
        UnsupportedModel: a node, quantizer or constant has no exact integer form here.
    """
    from fastml_kit.graph import check

    return of_model(check.load(path))


def of_model(proto: Any) -> Program:
    """Read an ONNX model that `graph.check.load` accepted."""
    from onnx import numpy_helper

    from fastml_kit.graph.checks import shapes

    graph = proto.graph
    reading = Reading(
        {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer},
        dict(shapes.known(proto)),
    )
    for node in graph.node:
        read_node(reading, node)
    return finish(reading, graph.input[0].name, graph.output[0].name)


def read_node(reading: Reading, node: Any) -> None:
    """Add one ONNX node to `reading`.

    Raises:
        UnsupportedModel: it has no exact integer form.
    """
    reader = READERS.get(node.op_type)
    if reader is None:
        hint = "; that is the host's work: import the graph" if node.op_type in HOST else ""
        raise UnsupportedModel(
            f"node {node.name or node.output[0]!r} is a {node.op_type}{hint}; supported: "
            + ", ".join(sorted(READERS))
        )
    try:
        if node.domain == channels.DOMAIN:
            channels.channels_last(reading, node, reader)
        else:
            reader(reading, node)
    except FastmlError:
        raise
    except (ValueError, IndexError, KeyError, OverflowError, TypeError) as error:
        raise UnsupportedModel(
            f"{label(node)} has shapes or attributes that contradict each other: {error}"
        ) from error


def finish(reading: Reading, start: str, end: str) -> Program:
    """Return the program from the tensor `start` to the tensor `end` of all that was read."""
    output = reading.names.get(end, end)
    if output in reading.divisors:
        raise UnsupportedModel(
            f"the graph ends in an average over {reading.divisors[output]} values or a multiple, "
            "which has no exact binary form; end it with a Quant"
        )
    if output == start or reading.is_constant(output):
        raise UnsupportedModel("the output does not depend on any node that reads the input")
    wanted, nodes = {output}, []
    for node in reversed(reading.nodes):
        if node.output in wanted:
            wanted |= set(node.inputs)
            nodes.append(node)
    return Program(
        nodes=tuple(nodes[::-1]),
        constants={name: c for name, c in reading.constants.items() if name in wanted},
        input=start,
        input_shape=reading.shapes[start][1:],
        output=output,
        output_shape=reading.shapes[end][1:],
    )
