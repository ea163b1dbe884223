"""QCDQ back to QONNX: chains made by hand, and what qonnx's own way back makes of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import check, execute, formats
from fastml_kit.tests import dialects, networks, onnxgraphs


def qcdq(path: Path, kind, scale, clip=None, *, zero: int = 0, stored=None, axis=None) -> Path:
    """Write one chain of 4 channels, made by hand; `stored` codes take QuantizeLinear's place."""
    values = {"scale": np.asarray(scale, np.float32)}
    values["zero"] = np.full(values["scale"].shape, zero, kind)
    kwargs = {} if axis is None else {"axis": axis}
    nodes, at = [], "codes"
    if stored is None:
        nodes.append(
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], [at], "q", **kwargs)
        )
    else:
        values["codes"] = np.asarray(stored, kind)
    if clip is not None:
        values |= {"low": np.array(clip[0], kind), "high": np.array(clip[1], kind)}
        nodes.append(helper.make_node("Clip", [at, "low", "high"], ["clipped"], "clip"))
        at = "clipped"
    out = "y" if stored is None else "w"
    nodes.append(helper.make_node("DequantizeLinear", [at, "scale", "zero"], [out], "dq", **kwargs))
    if stored is not None:
        nodes.append(helper.make_node("Add", ["x", "w"], ["y"], "add"))
    model = onnxgraphs.model(nodes, {}, (4, 3))
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("kind", "clip", "says"),
    [
        (np.int8, None, (8.0, 1, 0)),
        (np.int8, (-127, 127), (8.0, 1, 1)),
        (np.int8, (-8, 7), (4.0, 1, 0)),
        (np.int8, (-1, 1), (2.0, 1, 1)),
        (np.int8, (0, 7), (3.0, 0, 0)),  # qonnx makes it 3 signed bits
        (np.uint8, None, (8.0, 0, 0)),
        (np.uint8, (0, 254), (8.0, 0, 1)),
        (np.uint8, (0, 14), (4.0, 0, 1)),  # qonnx makes it 4 bits, of which 15 is one
        (np.uint8, (0, 1), (1.0, 0, 0)),
    ],
)
@pytest.mark.parametrize("scale", [0.5, 0.3, [0.5, 0.1, 2.0, 0.7]])
def test_every_range_that_is_a_width_comes_back(kind, clip, says, scale, tmp_path):
    axis = 1 if np.ndim(scale) else None
    path = qcdq(tmp_path / "m.onnx", kind, scale, clip, axis=axis)
    done = formats.from_qcdq(path, tmp_path / "back.onnx")
    ((name, *_, bits, signed, narrow, mode),) = dialects.quantizers(done.path).values()
    assert (name, bits, signed, narrow, mode) == ("q", *says, b"ROUND")
    values = np.random.default_rng(0).normal(0, 60, (80, 4, 3))
    want = dialects.run(path, values)
    np.testing.assert_array_equal(execute.run(done.path, values), want)
    assert len(np.unique(want)) >= 2


@pytest.mark.parametrize(
    ("clip", "zero", "why"),
    [
        ((0, 10), 0, "its codes go from 0 to 10, which is the range of no width"),
        ((-8, 8), 0, "its codes go from -8 to 8"),
        ((-1, 0), 0, "its codes go from -1 to 0"),
        ((-8, 7), 1, "it has zero point 1, with which a Quant rounds ties elsewhere"),
    ],
)
def test_chains_that_are_no_quant_are_refused_or_stay(clip, zero, why, tmp_path):
    path = qcdq(tmp_path / "m.onnx", np.int8, 0.5, clip, zero=zero)
    with pytest.raises(UnsupportedModel, match=f"DequantizeLinear 'dq' cannot become QONNX: {why}"):
        formats.from_qcdq(path, tmp_path / "back.onnx")
    assert not (tmp_path / "back.onnx").exists()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
@pytest.mark.parametrize("zero", [0, 3])
def test_stored_integers_come_back_as_quantized_constants(kind, zero, tmp_path):
    zero = 0 if kind is np.int32 else zero
    codes = np.random.default_rng(1).integers(0, 120, (1, 4, 3))
    path = qcdq(tmp_path / "m.onnx", kind, [0.5, 0.25, 1.0, 3.0], zero=zero, stored=codes, axis=1)
    done = formats.from_qcdq(path, tmp_path / "back.onnx")
    values = np.zeros((1, 4, 3))
    want = dialects.run(path, values)
    np.testing.assert_array_equal(execute.run(done.path, values), want)
    assert len(np.unique(want)) > 6


def test_without_guards_the_form_is_qonnxs_and_its_own_way_back_agrees(tmp_path):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant

    path = networks.mlp(tmp_path / "m.onnx")
    there = formats.to_qcdq(path, tmp_path / "qcdq.onnx", guard=False)
    assert "turn onnxruntime's optimizer off" in str(there)
    assert dialects.operators(there.path).count("QuantizeLinear") == 6
    assert dialects.operators(there.path).count("Clip") == 4  # two biases have 8 bits
    values = np.random.default_rng(0).integers(0, 33, (30, 6)) / 16
    plain = dialects.run(there.path, values, optimized=False)
    np.testing.assert_array_equal(plain, execute.run(path, values))
    ours = formats.from_qcdq(there.path, tmp_path / "ours.onnx")
    theirs = ModelWrapper(check.load(there.path)).transform(InferShapes()).transform(QCDQToQuant())
    theirs.save(str(tmp_path / "theirs.onnx"))
    mine, other = (dialects.quantizers(tmp_path / f"{who}.onnx") for who in ("ours", "theirs"))
    assert {k: v[1:] for k, v in mine.items()} == {k: v[1:] for k, v in other.items()}
    assert len(ours.converted) == len(mine) == 6


def test_integers_that_a_product_reads_are_no_quantized_values(tmp_path):
    """Operators on integers are another form, and do not become QONNX by leaving them there."""
    path = networks.mlp(tmp_path / "m.onnx")
    clipped = formats.to_clipped(path, tmp_path / "clipped.onnx")
    with pytest.raises(UnsupportedModel, match="integers go into MatMulInteger, not back"):
        formats.from_qcdq(clipped.path, tmp_path / "back.onnx")


def test_chains_may_stay_if_asked_for_and_are_named(tmp_path):
    path = qcdq(tmp_path / "m.onnx", np.int8, 0.5, (0, 10))
    good = onnx.load(path)
    before = onnxgraphs.node("Relu", ["x"], "x0")
    chain = [
        helper.make_node("QuantizeLinear", ["x0", "scale", "zero"], ["c1"], "q1"),
        helper.make_node("DequantizeLinear", ["c1", "scale", "zero"], ["x1"], "dq1"),
    ]
    good.graph.node[0].input[0] = "x1"
    nodes = [before, *chain, *good.graph.node]
    del good.graph.node[:]
    good.graph.node.extend(nodes)
    onnx.save(good, path)
    done = formats.from_qcdq(path, tmp_path / "back.onnx", strict=False)
    assert [step.node for step in done.stayed] == ["DequantizeLinear 'dq'"]
    assert [step.what for step in done.converted] == ["Quant of 8 bits, signed"]
    assert dialects.operators(done.path) == [
        "Relu", "Quant", "QuantizeLinear", "Clip", "DequantizeLinear"
    ]  # fmt: skip
    values = np.random.default_rng(0).normal(0, 20, (30, 4, 3))
    np.testing.assert_array_equal(execute.run(done.path, values), dialects.run(path, values))
