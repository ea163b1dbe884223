"""Foreign graphs: float stretches become thresholds, the ends go to the host."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import execute, fast, importing, reference
from fastml_kit.tests import onnxgraphs
from fastml_kit.tests.onnxgraphs import node


def normalized(rng, constants, channels):
    """Return a BatchNormalization of `channels` with parameters as training leaves them."""
    names = ["gamma", "beta", "mean", "var"]
    values = rng.normal(0, 1, (3, channels))
    values[0] += np.sign(values[0]) * 0.1
    constants.update(zip(names, (*values, rng.uniform(0.1, 9, channels)), strict=True))
    return node("BatchNormalization", ["s", *names], "n", epsilon=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(1, 5),
    signed=st.booleans(),
    scale=st.sampled_from([0.25, 1.0]),
    mode=st.sampled_from(["ROUND", "FLOOR", "HALF_UP"]),
    image=st.booleans(),
)
def test_a_normalized_layer_becomes_thresholds(
    tmp_path_factory, seed, bits, signed, scale, mode, image
):
    """Float parameters of either sign; quantized again by any Quant; for all codes there are."""
    rng, constants = np.random.default_rng(seed), {}
    kernel = rng.integers(-7, 8, (6, 4)) / 8
    shape = (6, 3, 2) if image else (6,)
    constants["w"] = kernel.T.reshape(4, 6, 1, 1) if image else kernel
    nodes = [
        node("Mul", ["x", "half"], "h"),
        onnxgraphs.quant("h", "q", constants, 0.125, 4),
        node("Conv" if image else "MatMul", ["q", "w"], "s"),
        normalized(rng, constants, 4),
        node("Relu", ["n"], "r"),
        onnxgraphs.quant("r", "a", constants, scale, bits, signed=int(signed), rounding_mode=mode),
        node("Mul", ["a", "gain"], "y"),
    ]
    constants |= {"half": 0.1, "gain": 0.3}
    folder = tmp_path_factory.mktemp("foreign")
    source = onnxgraphs.save(folder / "source.onnx", nodes, constants, shape, to=(4, *shape[1:]))
    home = importing.import_graph(source, folder / "core.onnx")
    assert home.head.ops == ("Mul",) and home.tail.ops == ("Mul",)
    assert "MultiThreshold" in {n.op for n in home.program.nodes}
    values = rng.normal(0, 4, (200, *shape)).astype(np.float32)
    codes = reference.run(home.program, home.head(values))
    assert np.array_equal(codes, fast.run(home.program, home.head(values)))
    assert np.array_equal(home.tail(codes), execute.run(source, values))


def test_every_code_is_looked_at(tmp_path):
    """One neuron of one weight: all 16 inputs there are, against the float executor."""
    constants = {"w": np.array([[0.875]])}
    nodes = [
        onnxgraphs.quant("x", "q", constants, 0.125, 4),
        node("MatMul", ["q", "w"], "s"),
        node("Sigmoid", ["s"], "g"),
        onnxgraphs.quant("g", "y", constants, 0.0625, 4, signed=0),
    ]
    source = onnxgraphs.save(tmp_path / "source.onnx", nodes, constants, (1,))
    home = importing.import_graph(source, tmp_path / "core.onnx")
    values = np.arange(-8, 8).reshape(-1, 1) / 8
    want = execute.run(source, values)
    assert np.array_equal(reference.run(home.program, values), want)
    assert len(np.unique(want)) > 3
    assert home.notes[0].endswith("equal in all 15 cases") or "cases" in home.notes[0]


def test_an_unquantized_input_needs_a_format(tmp_path):
    constants = {"w": np.array([[0.5], [0.25]])}
    source = onnxgraphs.save(
        tmp_path / "s.onnx", [node("MatMul", ["x", "w"], "y")], constants, (2,), to=(1,)
    )
    with pytest.raises(UnsupportedModel, match="input is not quantized before MatMul 'y'"):
        importing.import_graph(source, tmp_path / "core.onnx")
    home = importing.import_graph(source, tmp_path / "core.onnx", input_spec=FixedSpec(8, 4))
    values = np.random.default_rng(0).integers(-99, 99, (50, 2)) / 16
    assert np.array_equal(reference.run(home.program, values), execute.run(source, values))
    assert "put on the grid of fixed<8,4>" in home.notes[0]


def bump(constants):
    """Return a stretch that rises and falls: the square of a code."""
    constants["two"] = 2.0
    return [node("Pow", ["q", "two"], "p"), onnxgraphs.quant("p", "y", constants, 1.0, 4)]


def by_position(constants):
    constants["map"] = np.random.default_rng(0).normal(0, 1, (1, 2, 3)).astype(np.float32)
    return [node("Mul", ["q", "map"], "p"), onnxgraphs.quant("p", "y", constants, 1.0, 4)]


def float_scale(constants):
    return [onnxgraphs.quant("q", "p", constants, 0.3, 4), node("Add", ["p", "q"], "y")]


def two_sources(constants):
    constants["c"] = 0.3
    return [
        node("Mul", ["q", "c"], "p"),
        node("Mul", ["p", "q"], "m"),
        onnxgraphs.quant("m", "y", constants, 1.0, 4),
    ]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (bump, "rises and falls in channel 0"),
        (by_position, "constants for each position"),
        (float_scale, "scale 0.3, which is no power of two"),
        (two_sources, "Mul 'm' reads floats that were not quantized again"),
    ],
)
def test_what_resists_is_refused_by_name(tmp_path, rest, message):
    constants = {}
    nodes = [onnxgraphs.quant("x", "q", constants, 1.0, 4), *rest(constants)]
    source = onnxgraphs.save(tmp_path / "s.onnx", nodes, constants, (1, 2, 3))
    with pytest.raises(UnsupportedModel, match=message):
        importing.import_graph(source, tmp_path / "core.onnx")
    assert not (tmp_path / "core.onnx").exists()


def data(name):
    return Path(os.environ["FASTML_DATA"], name)


@pytest.mark.needs_data
def test_the_binary_mnist_network_of_the_zoo_runs_in_integers(tmp_path):
    """TFC_1W1A: three batch normalizations become thresholds; no logit differs, nor any class."""
    home = importing.import_graph(data("oracles/qonnx_zoo/TFC_1W1A.onnx"), tmp_path / "core.onnx")
    assert sum("became thresholds" in note for note in home.notes) == 3
    mnist = np.load(data("mnist/mnist_test_first5000.npz"))
    images = (mnist["x"].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    codes = reference.run(home.program, home.head(images))
    assert np.array_equal(codes, fast.run(home.program, home.head(images)))
    stored = np.load(data("oracles/qonnx_zoo/TFC_1W1A_qonnx_logits_first5000.npz"))
    (logits,) = (stored[name] for name in stored.files if stored[name].shape == (5000, 10))
    ours = home.tail(codes)
    assert np.array_equal(ours.argmax(axis=1), logits.argmax(axis=1))
    assert np.allclose(ours, logits, rtol=1e-6)
    assert int((ours.argmax(axis=1) == mnist["y"]).sum()) == 4535  # 90.70 %


@pytest.mark.needs_data
def test_finns_own_example_gives_its_expected_output(tmp_path):
    folder = data("oracles/finn_build_dataflow")
    home = importing.import_graph(folder / "model.onnx", tmp_path / "core.onnx")
    answers = home.tail(reference.run(home.program, home.head(np.load(folder / "input.npy"))))
    assert np.array_equal(answers.ravel(), np.load(folder / "expected_output.npy").ravel())


@pytest.mark.needs_data
def test_the_jet_tagger_of_the_zoo_needs_only_a_format_for_its_input(tmp_path):
    source = data("oracles/qonnx_zoo/qkeras_jettagging.onnx")
    with pytest.raises(UnsupportedModel, match="the input is not quantized"):
        importing.import_graph(source, tmp_path / "core.onnx")
    home = importing.import_graph(source, tmp_path / "core.onnx", input_spec=FixedSpec(12, 2))
    values = np.random.default_rng(0).integers(-2048, 2048, (2000, 16)) / 2**10
    ours = home.tail(reference.run(home.program, home.head(values) if home.head else values))
    assert home.tail.ops == ("Softmax",)
    assert np.array_equal(ours, execute.run(source, values))
