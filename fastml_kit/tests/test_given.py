"""A user's files: looked at before anything starts, known by content, copied whole."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fastml_kit import example, given, planning
from fastml_kit.errors import BadRequest
from fastml_kit.flow import IMPORT_FLOW
from fastml_kit.tests import networks

X = np.random.default_rng(0).integers(0, 17, (5, 6)) / 16


def save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return a graph of six inputs, five samples, and their labels."""
    return {
        "graph": networks.mlp(tmp_path / "net.onnx"),
        "data": save(tmp_path / "x.npy", X),
        "labels": save(tmp_path / "y.npy", np.arange(5) % 3),
    }


def test_good_files_are_copied_and_read(files: dict[str, Path], tmp_path: Path) -> None:
    given.look(files)
    kept = given.keep(files, tmp_path / "run")
    assert kept.model.read_bytes() == files["graph"].read_bytes()
    assert kept.model.parent == tmp_path / "run"
    assert np.array_equal(kept.x, X) and kept.x.dtype == np.float32
    assert kept.labels is not None and kept.labels.tolist() == [0, 1, 2, 0, 1]
    assert kept.rounded == 0


def test_values_that_float32_does_not_have_are_counted(tmp_path: Path) -> None:
    x, rounded = given.samples(save(tmp_path / "x.npy", np.array([[0.1, 0.5], [0.2, 2**24 + 1]])))
    assert x.dtype == np.float32
    assert rounded == 3


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 6)), "shape (0, 6)"),
        (np.zeros(6), "first axis counts samples"),
        (np.array([[1, np.inf]]), "1 values that are NaN, infinite"),
        (np.array([[1e300]]), "too large for float32"),
        (np.array([[1j]]), "save real numbers"),
        (np.array([["a"]]), "save real numbers"),
        (np.array([[None]]), "no whole .npy file"),
    ],
)
def test_what_are_no_samples_is_refused(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        given.samples(save(tmp_path / "x.npy", array))
    assert message in str(refusal.value)


@pytest.mark.parametrize("harm", ["cut", "text", "empty", "npz"])
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, harm: str) -> None:
    path = save(tmp_path / "x.npy", np.zeros((4, 6)))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-9], "text": b"1, 2", "empty": b"", "npz": b""}[harm])
    if harm == "npz":
        with path.open("wb") as file:
            np.savez(file, x=X)
    with pytest.raises(BadRequest, match="holds several" if harm == "npz" else "no whole .npy"):
        given.samples(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(5), r"y\.argmax\(axis=1\)"),
        (np.zeros(4, int), "there are 5 samples"),
        (np.zeros(5), "whole numbers"),
        (np.array([0, 1, -1, 0, 0]), "whole numbers from 0"),
    ],
)
def test_wrong_labels_are_refused(
    files: dict[str, Path], tmp_path: Path, labels: Any, message: str
) -> None:
    files["labels"] = save(tmp_path / "y.npy", labels)
    with pytest.raises(BadRequest, match=message):
        given.look(files)


@pytest.mark.parametrize(
    ("shape", "wanted", "kind", "fix"),
    [
        ((9, 8, 7, 3), (3, 8, 7), "onnx", "save x.transpose(0, 3, 1, 2)"),
        ((9, 3, 8, 7), (8, 7, 3), "keras", "save x.transpose(0, 2, 3, 1)"),
        ((9, 64), (1, 8, 8), "onnx", "save x.reshape(-1, 1, 8, 8)"),
        ((9, 63), (1, 8, 8), "onnx", "give samples of that shape"),
        ((9, 63), (None, 3), "keras", "give samples of that shape"),
    ],
)
def test_a_wrong_shape_comes_with_the_way_to_the_right_one(
    shape: tuple[int, ...], wanted: tuple[int | None, ...], kind: given.Kind, fix: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        given.check_shape(shape, wanted, kind)
    assert str(refusal.value).endswith(fix)
    if fix.startswith("save"):
        fixed = eval(fix.removeprefix("save "), {"x": np.zeros(shape)})
        given.check_shape(fixed.shape, wanted, kind)


def test_an_open_axis_takes_any_length() -> None:
    given.check_shape((9, 5, 3), (None, 3), "keras")
    given.check_shape((9, 5, 3), None, "keras")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_shape_of_a_keras_model_is_read_without_keras(tmp_path: Path, suffix: str) -> None:
    from fastml_kit.models.keras2 import keras

    inputs = keras.Input((6, 5, 2))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    assert given.input_shape(path, "keras") == (6, 5, 2)
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(BadRequest, match="no whole Keras model"):
        given.input_shape(path, "keras")


def test_an_archive_without_a_model_is_no_keras_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(BadRequest, match="no whole Keras model"):
        given.input_shape(tmp_path / "a.keras", "keras")


def with_external_data(graph: Path, folder: Path) -> Path:
    folder.mkdir()
    path = folder / "big.onnx"
    onnx.save(
        onnx.load(graph), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    return path


def test_tensors_in_a_file_beside_the_graph_belong_to_it(
    files: dict[str, Path], tmp_path: Path
) -> None:
    files["graph"] = with_external_data(files["graph"], tmp_path / "external")
    before = given.digests(files)["graph"]
    kept = given.keep(files, tmp_path / "run")
    assert (tmp_path / "run/w.bin").is_file()
    given.look({**files, "graph": kept.model})
    weights = tmp_path / "external/w.bin"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    assert given.digests(files)["graph"] != before


def test_a_run_is_known_by_what_is_in_its_files(files: dict[str, Path], tmp_path: Path) -> None:
    def folder(**changed: Path) -> str:
        named = {name: str(path) for name, path in {**files, **changed}.items()}
        resolved = IMPORT_FLOW.resolve(named)
        run = planning.folder_of(tmp_path, resolved)
        digest = planning.plan(IMPORT_FLOW, IMPORT_FLOW.stages[0], resolved, run).digest
        return f"{run.id} {digest}"

    moved = tmp_path / "elsewhere.npy"
    moved.write_bytes(files["data"].read_bytes())
    before = folder()
    assert folder(data=moved) == before
    np.save(moved, X + 1)
    assert folder(data=moved) != before
    np.save(files["data"], X + 1)  # the same path
    assert folder() == folder(data=moved)


def test_the_example_is_a_good_request(tmp_path: Path) -> None:
    files = example.write(tmp_path)
    given.look(files)
    kept = given.keep(files, tmp_path)
    assert kept.x.shape == (359, 64)
    assert kept.labels is not None and len(np.unique(kept.labels)) == 10
