"""Small sound models of every kind, and the published ones: what `mutations` damages."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastml_kit.graph.checks.structure import QONNX
from fastml_kit.tests import networks


def seeds(folder: Path) -> dict[str, bytes]:
    """Return small sound files of every kind, by name, made in `folder`."""
    return {
        "mlp": networks.mlp(folder / "mlp.onnx").read_bytes(),
        "cnn": cnn().SerializeToString(),
        "binary": binary().SerializeToString(),
        "float": plain().SerializeToString(),
        "qdq": qdq().SerializeToString(),
    }


def oracles(folder: Path, largest: int = 300_000) -> dict[str, bytes]:
    """Return the published models under `folder` that have at most `largest` bytes.

    Large images are cut down to 24 by 24, so that a file is done in a moment.
    """
    found = {}
    for path in sorted(folder.rglob("*.onnx")):
        if path.stat().st_size <= largest:
            model = onnx.load(path)
            large = [d for d in model.graph.input[0].type.tensor_type.shape.dim if d.dim_value > 99]
            if large:
                for dim in large:
                    dim.dim_value = 24
                for dim in model.graph.output[0].type.tensor_type.shape.dim:
                    dim.dim_param = "any"
                del model.graph.value_info[:]
            found[path.name] = model.SerializeToString()
    return found


def model_of(nodes: list[Any], stored: dict[str, Any], x: list[Any], opset: int = 13) -> Any:
    """Return a model from ``x`` to ``y`` of `nodes`, with the arrays `stored`."""
    tensor = [
        numpy_helper.from_array(
            np.asarray(v, dtype=np.float32) if np.asarray(v).dtype.kind == "f" else np.asarray(v), k
        )
        for k, v in stored.items()
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "outputs"]),
    ]
    graph = helper.make_graph(nodes, "seed", ends[:1], ends[1:], initializer=tensor)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(QONNX, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def quant(x: str, y: str, scale: str = "scale", **attributes: Any) -> Any:
    """Return a 4-bit Quant node with the initializers `scale`, ``zero`` and ``bits``."""
    settings = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attributes}
    return helper.make_node(
        "Quant", [x, scale, "zero", "bits"], [y], name=y, domain=QONNX, **settings
    )


def cnn() -> Any:
    """Return a convolution with bias, pooling of both kinds, a branch, and a dense layer."""
    rng = np.random.default_rng(1)
    make = helper.make_node
    nodes = [
        quant("x", "q0"),
        quant("w0", "w0q", narrow=1),
        make("Conv", ["q0", "w0q", "b0"], ["c0"], "c0", group=2,
             kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make("Relu", ["c0"], ["r0"], "r0"),
        quant("r0", "q1", signed=0),
        make("MaxPool", ["q1"], ["p0"], "p0", kernel_shape=[2, 2], strides=[2, 2]),
        make("AveragePool", ["q1"], ["p1"], "p1", kernel_shape=[2, 2], strides=[2, 2]),
        quant("p1", "q2", signed=0, rounding_mode="FLOOR"),
        make("Concat", ["p0", "q2"], ["j"], "j", axis=1),
        make("Reshape", ["j", "flat"], ["f"], "f"),
        quant("w1", "w1q", "scales"),
        make("MatMul", ["f", "w1q"], ["m"], "m"),
        make("Add", ["m", "b1"], ["y"], "y"),
    ]  # fmt: skip
    stored = {
        "scale": 0.125, "zero": 0.0, "bits": 4.0, "flat": np.array([1, -1]),
        "scales": np.array([[0.125, 0.25, 0.5]]),
        "w0": rng.normal(0, 0.4, (4, 1, 3, 3)), "b0": rng.integers(-9, 9, 4) / 64,
        "w1": rng.normal(0, 0.6, (32, 3)), "b1": rng.integers(-9, 9, 3) / 32,
    }  # fmt: skip
    return model_of(nodes, stored, [1, 2, 4, 4])


def binary() -> Any:
    """Return a network of signs, with a Trunc and thresholds."""
    rng = np.random.default_rng(2)
    make = helper.make_node
    nodes = [
        make("BipolarQuant", ["x", "scale"], ["s"], "s", domain=QONNX),
        make("BipolarQuant", ["w", "scale"], ["wq"], "wq", domain=QONNX),
        make("MatMul", ["s", "wq"], ["m"], "m"),
        make("Trunc", ["m", "scale", "zero", "bits", "few"], ["t"], "t", domain=QONNX,
             rounding_mode="FLOOR"),
        make("MultiThreshold", ["t", "steps"], ["y"], "y", domain=QONNX, out_dtype="UINT2"),
    ]  # fmt: skip
    stored = {
        "scale": 0.5, "zero": 0.0, "bits": 6.0, "few": 4.0, "w": rng.normal(size=(8, 5)),
        "steps": np.sort(rng.integers(-4, 4, (5, 3)) / 2, axis=1),
    }  # fmt: skip
    return model_of(nodes, stored, [1, 8], opset=11)


def plain() -> Any:
    """Return a float network as PyTorch exports it, its shapes computed in the graph."""
    rng = np.random.default_rng(3)
    make = helper.make_node
    nodes = [
        make("ConvTranspose", ["x", "w"], ["c"], "c", strides=[2, 2], output_padding=[1, 1]),
        make("BatchNormalization", ["c", "gamma", "beta", "beta", "gamma"], ["n"], "n"),
        make("LeakyRelu", ["n"], ["r"], "r", alpha=0.1),
        make("Resize", ["r", "", "scales"], ["u"], "u", mode="nearest"),
        make("Pad", ["u", "pads"], ["e"], "e"),
        make("GlobalAveragePool", ["e"], ["g"], "g"),
        make("Shape", ["g"], ["s"], "s"),
        make("Gather", ["s", "first"], ["b"], "b"),
        make("Unsqueeze", ["b", "axes"], ["b1"], "b1"),
        make("Constant", [], ["rest"], "rest", value=numpy_helper.from_array(np.array([-1]))),
        make("Concat", ["b1", "rest"], ["flat"], "flat", axis=0),
        make("Reshape", ["g", "flat"], ["f"], "f"),
        make("Gemm", ["f", "w1", "b1w"], ["h"], "h", transB=1),
        make("Clip", ["h", "low", "high"], ["k"], "k"),
        make("Softmax", ["k"], ["y"], "y"),
    ]
    stored = {
        "w": rng.normal(size=(2, 3, 2, 2)), "gamma": rng.random(3) + 0.5,
        "beta": rng.normal(size=3),
        "scales": np.array([1.0, 1.0, 2.0, 2.0]), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "first": np.array(0), "axes": np.array([0]), "w1": rng.normal(size=(4, 3)),
        "b1w": rng.normal(size=4), "low": -2.0, "high": np.inf,
    }  # fmt: skip
    return model_of(nodes, stored, ["batch", 2, 3, 3])


def qdq() -> Any:
    """Return a layer between QuantizeLinear, Clip and DequantizeLinear."""
    rng = np.random.default_rng(4)
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "scale", "zero"], ["q"], "q"),
        make("Clip", ["q", "low", "high"], ["k"], "k"),
        make("DequantizeLinear", ["k", "scale", "zero"], ["d"], "d"),
        make("DequantizeLinear", ["w", "scale", "zero"], ["wd"], "wd"),
        make("MatMul", ["d", "wd"], ["y"], "y"),
    ]
    stored = {
        "scale": 0.25, "zero": np.int8(0), "low": np.int8(-8), "high": np.int8(7),
        "w": rng.integers(-8, 8, (6, 4)).astype(np.int8),
    }  # fmt: skip
    return model_of(nodes, stored, [1, 6])
