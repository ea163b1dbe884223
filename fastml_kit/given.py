"""Files that a user gives: a model, samples, labels. What they must be, and how they are kept.

They are looked at before a kernel starts, so that a wrong one costs a second and one line; and
they are copied into the run, so that a run is whole without them.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import BadRequest, FastmlError
from fastml_kit.files import sha256

Kind = Literal["onnx", "keras"]
#: What an ONNX file has in it, as text, for every tensor that it keeps in another file.
EXTERNAL_KEY = b"location"


@dataclass(frozen=True)
class Given:
    """A user's model and samples, copied into a run."""

    kind: Kind
    model: Path
    x: NDArray[np.float32]  # (samples, ...), as the model itself takes them
    labels: NDArray[np.int64] | None  # (samples,)
    rounded: int  # of the values in `x`, those that the file has and float32 has not


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, by parameter; with a graph count the files it refers to.

    Raises:
        OSError: one of them cannot be read.
    """
    found = {}
    for name, path in files.items():
        parts = [path, *(beside(path) if name == "graph" else ())]
        hashes = [sha256(part) for part in parts]
        found[name] = hashes[0]
        if len(hashes) > 1:
            found[name] = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return found


def beside(graph: Path) -> list[Path]:
    """Return the files that lie beside an ONNX file and hold tensors of it, sorted."""
    if EXTERNAL_KEY not in graph.read_bytes():
        return []  # and onnx, which is slow to load, is not needed
    import onnx

    from fastml_kit.graph.checks import structure

    try:
        tensors = [t for _, t in structure.constants(onnx.load(graph, load_external_data=False))]
    except Exception:  # noqa: BLE001
        return []  # no ONNX file at all: whoever reads it will say so, by name
    names = {e.value for tensor in tensors for e in tensor.external_data if e.key == "location"}
    paths = {(graph.parent / name).resolve() for name in names if "\0" not in name}
    return sorted(p for p in paths if p.is_file() and p.is_relative_to(graph.parent.resolve()))


def look(files: Mapping[str, Path]) -> None:
    """Look into the files of a request: a model that can be read, samples in its shape, labels.

    Raises:
        BadRequest: one of them is not what it must be; names the parameter and the fix.
    """
    if "data" not in files:
        return
    x, _ = samples(files["data"])
    if "labels" in files:
        classes(files["labels"], len(x))
    kind: Kind = "onnx" if "graph" in files else "keras"
    path = files["graph" if kind == "onnx" else "keras"]
    check_shape(x.shape, input_shape(path, kind), kind)


def input_shape(path: Path, kind: Kind) -> tuple[int | None, ...] | None:
    """Return the shape of the samples that a model takes, without their number.

    `None` where only Keras itself can tell, and inside the shape, where an axis is open.

    Raises:
        BadRequest: the file is no such model.
    """
    if kind == "keras":
        return _keras_shape(path)
    from fastml_kit.graph import check
    from fastml_kit.graph.checks import shapes, structure

    try:
        model = check.load(path)
    except FastmlError as error:
        raise BadRequest(f"graph={str(path)!r} cannot be taken: {error}") from error
    return shapes.known(model)[structure.dynamic_inputs(model.graph)[0].name][1:]


def check_shape(found: tuple[int, ...], wanted: tuple[int | None, ...] | None, kind: Kind) -> None:
    """Hold the shape of samples, their number first, against the one that the model wants.

    Raises:
        BadRequest: they differ.
    """
    if wanted is None or _fits(found[1:], wanted):
        return
    fix = "give samples of that shape"
    last = len(found) - 1
    turned = {"onnx": (0, last, *range(1, last)), "keras": (0, *range(2, last + 1), 1)}[kind]
    if len(found) > 2 and _fits(tuple(found[axis] for axis in turned[1:]), wanted):
        fix = f"save x.transpose{turned}"
    elif None not in wanted and np.prod(found[1:]) == np.prod([n or 0 for n in wanted]):
        fix = f"save x.reshape{(-1, *wanted)}"
    raise BadRequest(
        f"data has {found[0]} samples of shape {found[1:]}, the model wants {wanted}; {fix}"
    )


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(
        b in (a, None) for a, b in zip(found, wanted, strict=True)
    )


def samples(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return samples from a .npy file in float32, and how many of the values that has rounded.

    Raises:
        BadRequest: it is no such file, or holds no numbers, none at all, NaN or infinity.
    """
    x = _array("data", path)
    if x.dtype.kind not in "fiub":
        raise BadRequest(f"data has the type {x.dtype}; save real numbers, such as float32")
    if x.ndim < 2 or not x.size:
        raise BadRequest(
            f"data has the shape {x.shape}; the first axis counts samples, and each has at least "
            "one more axis"
        )
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    if bad := np.count_nonzero(~np.isfinite(single)):
        raise BadRequest(
            f"data has {bad} values that are NaN, infinite or too large for float32; leave those "
            "samples out"
        )
    return single, int(np.count_nonzero(single.astype(np.float64) != x.astype(np.float64)))


def classes(path: Path, count: int) -> NDArray[np.int64]:
    """Return the class numbers, from 0, of `count` samples from a .npy file.

    Raises:
        BadRequest: it is no such file, or holds something else.
    """
    labels = _array("labels", path)
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise BadRequest(
            f"labels have the shape {labels.shape}; save class numbers, such as y.argmax(axis=1)"
        )
    if labels.shape not in ((count,), (count, 1)):
        raise BadRequest(f"labels have the shape {labels.shape}; there are {count} samples")
    if labels.dtype.kind not in "iu" or (labels.astype(np.int64) < 0).any():
        raise BadRequest("labels must be whole numbers from 0; save y.astype(int)")
    return labels.reshape(count).astype(np.int64)


def keep(files: Mapping[str, Path], folder: Path) -> Given:
    """Copy the files into `folder` and return what is in them.

    Raises:
        BadRequest: one of them is not what it must be.
    """
    kind: Kind = "onnx" if "graph" in files else "keras"
    source = files["graph" if kind == "onnx" else "keras"]
    model = folder / f"model{'.onnx' if kind == 'onnx' else source.suffix}"
    _copy(source, model)
    for path in beside(source) if kind == "onnx" else ():
        _copy(path, folder / path.relative_to(source.parent.resolve()))
    for name in ("data", "labels"):
        if name in files:
            _copy(files[name], folder / f"{name}.npy")
    x, rounded = samples(folder / "data.npy")
    labels = classes(folder / "labels.npy", len(x)) if "labels" in files else None
    check_shape(x.shape, input_shape(model, kind), kind)
    return Given(kind, model, x, labels, rounded)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, and not its permissions: a run's own files can be removed again."""
    if target.exists() and target.samefile(source):
        return  # the example, which was written there
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _array(name: str, path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadRequest(
            f"{name}={str(path)!r} is no whole .npy file of numbers; save it with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        raise BadRequest(f"{name}={str(path)!r} holds several arrays (.npz); save one, as .npy")
    return array


def _keras_shape(path: Path) -> tuple[int | None, ...] | None:
    """Read the input's shape out of a Keras file without Keras, which takes seconds to load."""
    import h5py

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
        else:
            with h5py.File(path, "r") as file:
                config = json.loads(file.attrs["model_config"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadRequest(
            f"keras={str(path)!r} is no whole Keras model ({' '.join(str(error).split())}); save "
            "it with model.save, as .keras or .h5"
        ) from error
    found = next(_input_shapes(config), None)
    return None if found is None else tuple(found[1:])


def _input_shapes(config: Any) -> Iterator[list[int | None]]:
    """Yield the shapes, batch included, that the layers of a model's config state."""
    if isinstance(config, dict):
        for name in ("batch_input_shape", "batch_shape"):
            if isinstance(config.get(name), list):
                yield config[name]
        for value in config.values():
            yield from _input_shapes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _input_shapes(value)
