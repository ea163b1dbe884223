"""Parameters: what is refused is refused in one line that says what would be taken."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.errors import BadRequest
from fastml_kit.parameters import (
    FlowParameters,
    ImportFlowParameters,
    ModelParameters,
    ReportParameters,
)
from fastml_kit.schema import allowed, check, read_value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weigth_bits": 4}, "no parameter 'weigth_bits'. Did you mean 'weight_bits'?"),
        ({"weight_bits": "four"}, "weight_bits='four'; it must be a whole number from 2 to 8"),
        ({"weight_bits": 99}, "weight_bits=99; it must be a whole number from 2 to 8"),
        ({"weight_bits": 4.0}, "weight_bits=4.0; it must be a whole number from 2 to 8"),
        ({"weight_bits": True}, "weight_bits=True; it must be a whole number"),
        ({"clock_ns": float("nan")}, "clock_ns=nan; it must be a number from 1 to 1000"),
        ({"clock_ns": "fast"}, "clock_ns='fast'; it must be a number from 1 to 1000"),
        ({"seed": -1}, "seed=-1; it must be a whole number from 0 to 2147483647"),
        ({"task": "didgits"}, "no task 'didgits'. Did you mean 'digits'?"),
        ({"task": 3}, "task=3; it must be a text"),
        ({"model": "mpl"}, "no model 'mpl'. Did you mean 'mlp'?"),
        ({"targets": ["xc8"]}, "no target 'xc8'. Did you mean 'xc7'?"),
        ({"targets": "xc7"}, "targets='xc7'; it must be a list of texts, such as [xc7, ecp5]"),
        ({"targets": []}, "targets=[]; it must be a list"),
        ({"targets": [7]}, "targets[0]=7; it must be"),
        ({"targets": ["xc7", "xc7"]}, "names one target twice"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(given: dict, message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        check(FlowParameters, given)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(
    st.dictionaries(
        st.sampled_from([*FlowParameters.model_fields, "width_", "epoch"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
def test_whatever_is_asked_for_is_taken_as_it_is_or_refused(values: dict) -> None:
    refusal = None
    try:
        taken = check(FlowParameters, values).model_dump()
    except BadRequest as error:
        refusal = str(error)
    if refusal is None:
        assert all(taken[name] == value for name, value in values.items())
    else:
        assert "\n" not in refusal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"graph": "a.onnx"}, "data is not given"),
        ({"graph": "a.onnx", "keras": "a.h5", "data": "x.npy"}, "a run takes one model"),
        ({"graph": "b.onnx", "data": "x.npy"}, "graph='b.onnx' is not there"),
        ({"graph": "a.onnx", "data": "."}, "data='.' is a folder"),
        ({"graph": "a\0", "data": "x.npy"}, "is not there"),
        ({"data": "x.npy"}, "is for a model that you bring"),
        ({"input_format": "8,4"}, "input_format='8,4' is for a model that you bring"),
        ({"exact": False}, "exact=False is for a model that you bring"),
        ({"graph": "a.onnx", "data": "x.npy", "exact": False}, "exact=False is for Keras models"),
        ({"graph": "a.onnx", "data": "x.npy", "input_format": "8"}, "such as '16,6'"),
        ({"graph": "a.onnx", "data": "x.npy", "input_format": "0,4"}, "input_format='0,4'"),
        ({"graph": "a.onnx", "data": "x.npy", "weight_bits": 4}, "no parameter 'weight_bits'"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.onnx", "a.h5", "x.npy"):
        (tmp_path / name).touch()
    with pytest.raises(BadRequest) as refusal:
        check(ImportFlowParameters, given)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_is_found_from_where_the_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.onnx", "x.npy"):
        (tmp_path / name).touch()
    taken = check(ImportFlowParameters, {"graph": "a.onnx", "data": "x.npy"})
    assert taken.files() == {"graph": tmp_path / "a.onnx", "data": tmp_path / "x.npy"}
    assert check(ImportFlowParameters, taken.model_dump()) == taken
    assert FlowParameters().files() == {}


def test_a_whole_number_is_a_number() -> None:
    taken = check(FlowParameters, {"clock_ns": 5})
    assert isinstance(taken.clock_ns, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [("4", 4), ("10.0", 10.0), ("mlp", "mlp"), ("[xc7, ecp5]", ["xc7", "ecp5"]), ('"4"', "4")],
)
def test_text_is_read_as_yaml(text: str, value: object) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize("text", ["[", "!!python/object/apply:os.system [ls]", "a: b: c"])
def test_text_that_is_no_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="cannot be read as a value"):
        read_value(text)


def test_every_parameter_says_what_it_is() -> None:
    for name, field in ReportParameters.model_fields.items():
        assert field.description, name
        assert field.description in allowed(ReportParameters, name)


def test_parameters_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ModelParameters().width = 3  # type: ignore[misc]
