"""Taking a model in: a core, a missing format, or a reason."""

import numpy as np
import pytest

from fastml_kit import example, given, home
from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import execute, formats, reference
from fastml_kit.tests import networks, onnxgraphs
from fastml_kit.tests.onnxgraphs import node

WEIGHTS = {"w": np.array([[0.5, 0.25], [-0.75, 1.0]])}


def test_the_example_comes_home_and_answers_as_the_original(tmp_path):
    kept = given.keep(example.write(tmp_path), tmp_path)
    core = home.bring(kept.model, tmp_path / "core.onnx")
    assert core.imported.head.ops == ("Mul",)
    assert core.imported.tail.ops == ("Softmax",)
    inside = core.head(kept.x)
    answers = core.answer(inside)
    assert np.array_equal(answers, reference.run(core.imported.program, inside))
    whole = core.tail(answers)
    assert np.array_equal(whole, execute.run(kept.model, kept.x))
    assert len(np.unique(whole.argmax(axis=1))) == 10
    assert np.array_equal(reference.run(core.imported.program, core.wires(inside)), answers)
    assert home.accuracy(whole, kept.labels) > 0.85


def test_answers_do_not_depend_on_how_many_are_asked_for_at_a_time(tmp_path, monkeypatch):
    kept = given.keep(example.write(tmp_path), tmp_path)
    core = home.bring(kept.model, tmp_path / "core.onnx")
    inside = core.head(kept.x)
    whole = core.answer(inside)
    monkeypatch.setattr(home, "CHUNK", 100)
    assert np.array_equal(core.answer(inside), whole)
    with pytest.raises(UnsupportedModel, match="why"):
        home.Home(None, "why").answer(inside)


def test_a_format_that_is_missing_is_asked_for_and_leaves_no_file(tmp_path):
    source = onnxgraphs.save(
        tmp_path / "s.onnx", [node("MatMul", ["x", "w"], "y")], dict(WEIGHTS), (2,), to=(2,)
    )
    with pytest.raises(BadRequest, match="input_format, such as '16,6'"):
        home.bring(source, tmp_path / "core.onnx")
    assert not (tmp_path / "core.onnx").exists()
    core = home.bring(source, tmp_path / "core.onnx", home.read_format("8,4"))
    wires = core.wires([[0.51, 99.0]])
    assert wires.tolist() == [[0.5, 7.9375]]


def test_what_is_only_floats_has_a_reason_and_passes_values_through(tmp_path):
    constants = {"w": np.array([[1 / 3, 0.1], [0.2, 0.7]])}
    nodes = [node("MatMul", ["x", "w"], "m"), node("Sigmoid", ["m"], "y")]
    source = onnxgraphs.save(tmp_path / "s.onnx", nodes, constants, (2,))
    core = home.bring(source, tmp_path / "core.onnx")
    assert core.imported is None
    assert "'w' is not quantized" in core.reason  # and not only that the input is not
    values = np.array([[0.1, 0.2]])
    assert np.array_equal(core.tail(core.wires(core.head(values))), values)


@pytest.mark.parametrize(
    ("text", "spec"),
    [("", None), ("16,6", FixedSpec(16, 6)), ("u8,0", FixedSpec(8, 0, signed=False))],
)
def test_a_format_is_read(text, spec):
    assert home.read_format(text) == spec


def test_a_format_of_too_many_bits_is_refused():
    with pytest.raises(BadRequest, match="width=99 bits"):
        home.read_format("99,6")


def test_accuracy_takes_the_largest_output_or_the_class_number_itself():
    labels = np.array([1, 0, 2, 2])
    assert home.accuracy(np.eye(3)[[1, 0, 2, 0]], labels) == 0.75
    assert home.accuracy(np.array([[1], [0], [0], [0]]), labels) == 0.5
    with pytest.raises(BadRequest, match="leave labels out"):
        home.accuracy(np.full((4, 1), 0.5), labels)
    with pytest.raises(BadRequest, match="labels go up to 2, but the model has 2 outputs"):
        home.accuracy(np.zeros((4, 2)), labels)


def test_a_qcdq_graph_is_turned_into_qonnx_first(tmp_path):
    plain = networks.mlp(tmp_path / "model.onnx", act_bits=3)
    formats.to_qcdq(plain, tmp_path / "qcdq.onnx")
    core = home.bring(tmp_path / "qcdq.onnx", tmp_path / "core.onnx")
    values = np.random.default_rng(0).integers(0, 17, (60, 6)) / 16
    want = execute.run(plain, values)
    assert np.array_equal(core.answer(core.head(values)), want)
    assert len(np.unique(want)) > 20
