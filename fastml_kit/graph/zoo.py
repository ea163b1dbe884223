"""The QONNX model zoo: fetch a published model by name, and reproduce its accuracy.

The table is `zoo_table.MODELS`. Files come through `pooch` into a cache, the folder $FASTML_CACHE
or else the user's own cache folder, under a temporary name until their checksum is right. For a
model whose checksum nobody publishes, the first fetch says what came and remembers it in a file
beside it; later uses hold the model to that.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fastml_kit.errors import BadRequest, RunError, unknown_name
from fastml_kit.files import sha256, write_whole
from fastml_kit.graph import execute
from fastml_kit.graph.zoo_table import MODELS, ZooModel

CACHE = "FASTML_CACHE"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accuracy:
    """How many of `samples` samples a model got right, and of how many the test set has.

    `test_set` is None where the table does not say, and then no figure counts as whole.
    """

    name: str
    correct: int
    samples: int
    test_set: int | None
    published: float

    @property
    def percent(self) -> float:
        """Top-1 accuracy on the samples that were run, in percent."""
        return 100 * self.correct / self.samples

    @property
    def whole(self) -> bool:
        """Whether this was the whole test set, so that it compares with what is published."""
        return self.samples == self.test_set

    def __str__(self) -> str:
        part = "all" if self.whole else f"{self.samples:,} of"
        size = f"{self.test_set:,}" if self.test_set else "an unknown number of"
        return (
            f"{self.name}: {self.percent:.2f} % ({self.correct:,} right) on {part} {size} "
            f"test samples; published: {self.published:.2f} % on all"
        )


def models() -> tuple[ZooModel, ...]:
    """Return the published table."""
    return tuple(MODELS.values())


def find(name: str) -> ZooModel:
    """Return the model called `name`.

    Raises:
        BadRequest: there is none; the message names the nearest.
    """
    if name in MODELS:
        return MODELS[name]
    folded = {known.lower(): known for known in MODELS}
    if name.lower() in folded:
        raise BadRequest(f"no zoo model {name!r}. Did you mean {folded[name.lower()]!r}?")
    raise unknown_name("zoo model", name, MODELS)


def cached(name: str) -> Path:
    """Return where the file of model `name` lies, or would."""
    import pooch

    model = find(name)
    folder = Path(os.environ.get(CACHE) or pooch.os_cache("fastml_kit")) / "qonnx_zoo"
    return folder.expanduser() / f"{model.name}.onnx"


def fetch(name: str) -> Path:
    """Return the file of model `name`, from the cache or else from where the zoo publishes it.

    Raises:
        BadRequest: there is no such model.
        RunError: the file cannot be had, or its checksum is wrong.
    """
    import pooch

    model, path = find(name), cached(name)
    known, source = model.sha256, "published"
    memory = path.with_suffix(".onnx.sha256")
    if known is None and memory.exists():
        known, source = memory.read_text(encoding="utf-8").strip(), f"remembered in {memory}"
    if path.exists():
        _require(model, path, known, source)
    elif model.url is None:
        raise RunError(
            f"zoo model {model.name} has no published file address; download it from {model.page} "
            f"by hand and put it at {path}"
        )
    else:
        try:
            pooch.retrieve(
                model.url, known and f"sha256:{known}", fname=path.name, path=path.parent
            )
        except Exception as error:  # pooch lets through what requests, urllib3 and the disk raise
            what = str(error).strip().splitlines() or [type(error).__name__]
            raise RunError(
                f"cannot fetch zoo model {model.name} from {model.url} into {path.parent}: "
                f"{what[0]}. Without a network, put the file at {path} by hand, or point {CACHE} "
                "at a folder that has it"
            ) from error
    if known is None:
        got = sha256(path)
        write_whole(memory, f"{got}\n")
        _log.warning(
            "the zoo publishes no checksum of %s; what came is sha256 %s, remembered in %s",
            model.name,
            got,
            memory,
        )
    return path


def evaluate(name: str, x: ArrayLike, y: ArrayLike, *, batch: int = 1000) -> Accuracy:
    """Run model `name` in qonnx's executor on `x` and return how often its highest output is `y`.

    `x` is (samples, ...), preprocessed as the model's entry says; `y` holds the class numbers.
    With fewer samples than the data set's test part has, the result says so.

    Raises:
        BadRequest: the shapes do not belong together, or the model has but one output.
        RunError: the model cannot be had.
    """
    model = find(name)
    x, y = np.asarray(x, dtype=np.float32), np.asarray(y)
    if len(x) != len(y) or y.ndim != 1 or not len(x):
        raise BadRequest(
            f"{name}: x has shape {x.shape}, y {y.shape}; one label a sample is needed"
        )
    if model.input_shape and x.shape[1:] != model.input_shape:
        raise BadRequest(f"{name} takes samples of shape {model.input_shape}, not {x.shape[1:]}")
    if model.test_samples is not None and len(x) > model.test_samples:
        raise BadRequest(
            f"{name}: {len(x)} samples are more than the {model.test_samples} of its test set"
        )
    scores = execute.run(fetch(name), x, batch)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise BadRequest(
            f"{name} gives {scores.shape[1:]} a sample; two classes or more are needed"
        )
    correct = int((scores.argmax(axis=1) == y).sum())
    return Accuracy(name, correct, len(x), model.test_samples, model.accuracy)


def _require(model: ZooModel, path: Path, known: str | None, source: str) -> None:
    got = sha256(path)
    if known is not None and got != known:
        raise RunError(
            f"{path} is not zoo model {model.name}: its sha256 is {got}, {known} is {source}. "
            f"Remove it to have it fetched from {model.url or model.page}, or put the right file "
            "in its place"
        )
