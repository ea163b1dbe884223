"""QONNX to QCDQ and back: equal values in plain onnxruntime, or a refusal that names the node."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import check, execute, export, formats, program
from fastml_kit.graph.readers.quantizers import ROUNDING
from fastml_kit.graph.writer import Writer
from fastml_kit.tests import dialects, networks, onnxgraphs, random_graphs


def zoo(name: str) -> Path:
    return Path(os.environ["FASTML_DATA"]) / "oracles" / "qonnx_zoo" / name


def steps(scale: float, count: int = 320) -> np.ndarray:
    """Return values around every code of 8 bits and every tie, far outliers, and -0.0."""
    halves = np.arange(-count, count) / 2 * np.float32(scale)
    near = [np.nextafter(halves.astype(np.float32), side) for side in (-np.inf, np.inf)]
    ends = [-1e30, 1e30, -0.0, 1e-30]
    return np.concatenate([halves, *near, ends]).astype(np.float32)


quants = st.fixed_dictionaries(
    {
        "bits": st.integers(2, 8),
        "signed": st.integers(0, 1),
        "narrow": st.integers(0, 1),
        "scale": st.one_of(
            st.integers(-12, 6).map(lambda e: 2.0**e),
            st.floats(2**-10, 10, width=32),
            st.lists(st.floats(2**-10, 10, width=32), min_size=3, max_size=3),
        ),
        "rounding_mode": st.sampled_from(["ROUND", "HALF_EVEN", "round"]),
    }
)


def one_quant(path: Path, shape: tuple[int, ...], **says) -> Path:
    constants: dict = {}
    scale = np.asarray(says.pop("scale"), dtype=np.float32)
    if scale.ndim:
        scale = scale.reshape(1, 3, 1)
    node = onnxgraphs.quant("x", "q", constants, scale, says.pop("bits"), **says)
    return onnxgraphs.save(path, [node], constants, shape)


@settings(max_examples=60)
@given(says=quants)
def test_any_quant_is_the_same_in_onnxruntime_and_comes_back_as_it_was(says, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    rows = np.stack([steps(s) for s in np.broadcast_to(says["scale"], 3)])
    path = one_quant(folder / "q.onnx", rows.shape, **says)
    done = formats.to_qcdq(path, folder / "qcdq.onnx")
    assert done.standalone and not done.stayed
    odd = np.any(np.frexp(np.float32(says["scale"]))[0] != 0.5)
    assert ["no powers of two" in note for note in done.notes] == [True] * int(odd)
    want = execute.run(path, rows[None])
    got = dialects.run(done.path, rows[None])
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(want)) >= 2 ** (says["bits"] - 1)
    back = formats.from_qcdq(done.path, folder / "back.onnx")
    (before,), (after,) = (
        dialects.quantizers(path).values(),
        dialects.quantizers(back.path).values(),
    )
    assert before[:-1] == after[:-1] and after[-1] == b"ROUND"
    np.testing.assert_array_equal(execute.run(back.path, rows[None]), want)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        *(
            ({"rounding_mode": mode}, f"it rounds by {mode}; QuantizeLinear rounds half to even")
            for mode in ROUNDING
            if mode not in ("ROUND", "HALF_EVEN")
        ),
        ({"zero_point": 3.0}, "it has a zero point other than 0"),
        ({"bits": 9}, "it has 9 bits; QuantizeLinear makes 8 at most"),
        ({"bits": 16}, "it has 16 bits"),
        ({"bits": 1, "signed": 0}, "it has 1 bit; 2 to 8 are carried"),
        ({"bits": 1}, "it has 1 bit"),
    ],
)
def test_what_qcdq_cannot_carry_is_refused_by_name(says, why, tmp_path):
    path = one_quant(tmp_path / "q.onnx", (4,), **{"scale": 0.5, "bits": 4} | says)
    with pytest.raises(UnsupportedModel, match=f"Quant 'q' cannot become QCDQ: {why}"):
        formats.to_qcdq(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_scales_along_two_axes_are_refused(tmp_path):
    constants: dict = {}
    node = onnxgraphs.quant("x", "q", constants, np.full((1, 2, 3), 0.5), 4)
    path = onnxgraphs.save(tmp_path / "q.onnx", [node], constants, (2, 3))
    with pytest.raises(UnsupportedModel, match=r"its scale has shape \(1, 2, 3\)"):
        formats.to_qcdq(path, tmp_path / "out.onnx")


def assert_there_and_back(path: Path, folder: Path, values: np.ndarray, distinct: int) -> None:
    """Check that QCDQ gives the same values, and the way back the same values and Quants."""
    want = execute.run(path, values)
    assert len(np.unique(want)) >= distinct
    there = formats.to_qcdq(path, folder / "qcdq.onnx")
    assert not onnx.load(there.path).opset_import[0].domain
    assert len(onnx.load(there.path).opset_import) == 1
    np.testing.assert_array_equal(dialects.run(there.path, values), want)
    back = formats.from_qcdq(there.path, folder / "back.onnx")
    np.testing.assert_array_equal(execute.run(back.path, values), want)
    assert dialects.quantizers(back.path) == dialects.quantizers(path)
    assert sorted(dialects.operators(back.path)) == sorted(dialects.operators(path))


@pytest.mark.parametrize("seed", range(3))
def test_random_mlps_go_there_and_back(seed, tmp_path):
    path = networks.mlp(tmp_path / "m.onnx", seed)
    values = np.random.default_rng(seed).integers(-2, 40, (100, 6)) / 32
    assert_there_and_back(path, tmp_path, values, 50)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_go_there_and_back(seed, tmp_path):
    path = random_graphs.write(tmp_path / "m.onnx", seed)
    shape = program.read(path).input_shape
    assert_there_and_back(path, tmp_path, random_graphs.inputs(shape, 40, seed), 8)


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_exported_keras_models_go_there_and_back(family, tmp_path):
    model = networks.keras_model(family, seed=3)
    path = export.export_qonnx(model, tmp_path / "m.onnx")
    values = networks.images(40, 1)
    values = values.reshape(40, -1) if family == "mlp" else export.channel_first(values)
    assert_there_and_back(path, tmp_path, values, 50)


@pytest.mark.needs_data
def test_the_jet_tagging_model_goes_there_and_back(tmp_path):
    """Its input is a float: on a grid, no sum rounds. Its softmax compares too, and the logits."""
    path = zoo("qkeras_jettagging.onnx")
    values = np.random.default_rng(0).integers(-512, 513, (200, 16)) / 128
    there = formats.to_qcdq(path, tmp_path / "qcdq.onnx")
    assert formats.describe(path).opsets[""] == 9
    assert formats.describe(there.path).opsets == {"": 13}
    for number, one in enumerate((path, there.path)):
        model = onnx.load(one)
        model.graph.output[0].name = "Add_3_out0"
        del model.graph.node[-1]  # the Softmax
        onnx.save(model, tmp_path / f"logits{number}.onnx")
    logits = execute.run(tmp_path / "logits0.onnx", values)
    assert len(np.unique(logits)) > 800
    np.testing.assert_array_equal(dialects.run(tmp_path / "logits1.onnx", values), logits)
    np.testing.assert_allclose(
        dialects.run(there.path, values), execute.run(path, values), rtol=1e-6
    )
    back = formats.from_qcdq(there.path, tmp_path / "back.onnx")
    before = dialects.quantizers(canonical(path, tmp_path))
    assert dialects.quantizers(back.path) == before and len(before) == 11
    np.testing.assert_array_equal(execute.run(back.path, values), execute.run(path, values))


def canonical(path: Path, folder: Path) -> Path:
    """Return a copy with QONNX's operators in their one domain."""
    onnx.save(check.load(path), folder / "canonical.onnx")
    return folder / "canonical.onnx"


@pytest.mark.needs_data
def test_a_binary_network_is_refused_by_name(tmp_path):
    with pytest.raises(UnsupportedModel, match=r"BipolarQuant '\w+' cannot become QCDQ \(7 more"):
        formats.to_qcdq(zoo("TFC_1W1A.onnx"), tmp_path / "out.onnx")


def test_nodes_may_stay_if_asked_for_and_are_named(tmp_path):
    graph = Writer(shape=(5,))
    graph.quantize("input", FixedSpec(4, 2))
    graph.bipolar("sign", graph.tensor, 0.5)
    path = graph.save(tmp_path / "m.onnx", "m")
    done = formats.to_qcdq(path, tmp_path / "out.onnx", strict=False)
    assert not done.standalone and [step.node for step in done.stayed] == ["BipolarQuant 'sign'"]
    assert dialects.operators(done.path) == [
        "QuantizeLinear", "Clip", "DequantizeLinear", "Clip", "BipolarQuant"
    ]  # fmt: skip
    assert "stays: BipolarQuant 'sign': it has one bit" in str(done)
    values = np.linspace(-3, 3, 60).reshape(12, 5)
    np.testing.assert_array_equal(execute.run(done.path, values), execute.run(path, values))


def test_wide_biases_are_integers_with_a_clip_that_keeps_their_width(tmp_path):
    graph = Writer(shape=(6,))
    graph.quantize("input", FixedSpec(6, 2))
    weights, bias = FixedSpec(4, 1, narrow=True), FixedSpec(17, 3)
    rng = np.random.default_rng(0)
    kernel = weights.to_values(rng.integers(-7, 8, (6, 4)))
    offsets = bias.to_values(np.array([-(2**16), 2**16 - 1, 12345, -54321]))
    graph.node("MatMul", "dense", graph.weight("kernel", kernel, weights), shape=(4,))
    graph.node("Add", "add", graph.weight("bias", offsets, bias))
    path = graph.save(tmp_path / "m.onnx", "m")
    assert_there_and_back(path, tmp_path, rng.normal(0, 2, (50, 6)), 50)
    stored = {t.name: t.data_type for t in onnx.load(tmp_path / "qcdq.onnx").graph.initializer}
    assert stored["bias_quant_out/codes"] == onnx.TensorProto.INT32


def full_range(path: Path, op: str, *, signed: bool, seed: int = 0) -> tuple[Path, np.ndarray]:
    """Write a product of full 8-bit data and 8-bit weights, and a Quant of 8 bits behind it."""
    rng, data, weight = np.random.default_rng(seed), FixedSpec(8, 8, signed), FixedSpec(8, 8)
    shape, size = ((64,), (64, 16)) if op == "MatMul" else ((8, 6, 6), (16, 8, 3, 3))
    graph = Writer(shape=shape)
    graph.quantize("input", data)
    kernel = graph.weight("kernel", rng.integers(-128, 128, size).astype(float), weight)
    pads: dict[str, Any] = {"pads": [0, 0, 0, 0]} if op == "Conv" else {}
    graph.node(op, "product", kernel, shape=(16,) if op == "MatMul" else (16, 4, 4), **pads)
    graph.quantize("result", FixedSpec(8, 16))
    values = rng.integers(data.low, data.high + 1, (24, *shape)).astype(float)
    return graph.save(path, "m"), values


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_full_8_bit_products_are_exact_although_onnxruntime_fuses_them(op, signed, tmp_path):
    """Without guards, those of uint8 data are wrong on x86 processors without VNNI."""
    path, values = full_range(tmp_path / "m.onnx", op, signed=signed)
    assert_there_and_back(path, tmp_path, values, 40)


def test_two_quantizers_in_a_row_are_not_merged(tmp_path):
    """onnxruntime makes one of two QuantizeLinear in a row, with other steps than either."""
    graph = Writer(shape=(801,))
    graph.quantize("coarse", FixedSpec(8, 8))
    graph.quantize("fine", FixedSpec(8, 6))
    path = graph.save(tmp_path / "m.onnx", "m")
    assert_there_and_back(path, tmp_path, np.linspace(-200, 200, 801)[None], 65)


def test_two_quantizers_of_one_tensor_keep_their_own_widths(tmp_path):
    graph = Writer(shape=(50,))
    trunk = graph.quantize("trunk", FixedSpec(8, 4))
    left = graph.quantize("left", FixedSpec(3, 2), source=trunk)
    right = graph.quantize("right", FixedSpec(5, 4, signed=False, narrow=True), source=trunk)
    graph.node("Add", "sum", right, source=left)
    path = graph.save(tmp_path / "m.onnx", "m")
    assert_there_and_back(path, tmp_path, np.linspace(-4, 12, 50)[None], 20)


def test_unsigned_narrow_8_bits_stop_at_254(tmp_path):
    """qonnx's own conversion leaves this Clip out."""
    path = one_quant(tmp_path / "q.onnx", (3,), scale=1.0, bits=8, signed=0, narrow=1)
    done = formats.to_qcdq(path, tmp_path / "out.onnx")
    assert dialects.run(done.path, [[253, 254, 300]]).tolist() == [[253, 254, 254]]


def test_files_are_described(tmp_path):
    path = networks.mlp(tmp_path / "m.onnx")
    there = formats.to_qcdq(path, tmp_path / "qcdq.onnx")
    clipped = formats.to_clipped(path, tmp_path / "clipped.onnx")
    found = [formats.describe(p) for p in (path, there.path, clipped.path)]
    assert [one.dialect for one in found] == ["qonnx", "qcdq", "qop"]
    assert [one.standalone for one in found] == [False, True, True]
    assert found[0].opsets == {"": 16, "qonnx.custom_op.general": 1}
    assert str(found[1]).startswith("qcdq.onnx: QCDQ, ONNX 16; runs in plain onnxruntime; ")
