"""What comes of a random model: exported exactly, with every engine equal, or refused by name.

Anything else is a failure: another exception, an engine that differs from another in one code of
one sample, a model without an exact form that was exported all the same.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit import verify
from fastml_kit.errors import FastmlError, UnsupportedModel
from fastml_kit.graph import execute, export, fast, program, ranges, reference
from fastml_kit.tests.random_models import Drawn


@dataclass
class Verdict:
    """What came of one model: `outcome` is exact, refused or failed."""

    outcome: str
    detail: str = ""
    stage: str = ""  # of a refusal: who refused
    distinct: int = 0  # of the outputs on all samples
    compared: dict[str, int] = field(default_factory=dict)  # engine -> codes that differ
    # Of an exact model: its file, its samples as the graph wants them, the reference's outputs.
    path: Path = Path()
    x: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    wanted: NDArray[Any] = field(default_factory=lambda: np.empty(0))

    @property
    def sound(self) -> bool:
        """Whether the model is exact or refused."""
        return self.outcome != "failed"


class Failure(Exception):
    """A third outcome: what this module is there to find."""


def judge(drawn: Drawn, folder: Path, *, predict: bool = False) -> Verdict:
    """Export `drawn` into `folder` and compare Keras, qonnx, the reference and the fast engine.

    With `predict` Keras is asked both by a call and by `predict`, which compiles first.
    """
    try:
        return _judge(drawn, folder, predict)
    except Failure as failure:
        return Verdict("failed", str(failure))


def _judge(drawn: Drawn, folder: Path, predict: bool) -> Verdict:
    path, stage = folder / "model.onnx", "export"
    try:
        with nothing_else(stage):
            exported = export.export_model(drawn.model, path)
        stage = "reading"
        with nothing_else(stage):
            graph = program.read(path)
            spec, wide = ranges.output_spec(graph), ranges.rounding_nodes(graph)
    except UnsupportedModel as error:
        return _refusal(drawn, stage, error, folder)
    if exported.inexact:
        raise Failure(f"an exact export notes: {exported.inexact[0]}")
    if wide:
        raise Failure(f"exported as exact, but {wide[0]} can round in float32")
    if drawn.refused:
        raise Failure(f"exported as exact, and holds: {', '.join(drawn.refused)}")
    if (drawn.model is drawn.logits) == bool(exported.host):
        raise Failure(f"the host is left {exported.host}")
    x = export.channel_first(drawn.x)
    with nothing_else("reference"):
        wanted = reference.run(graph, x)
    distinct = len(np.unique(wanted.reshape(len(wanted), -1), axis=0))
    verdict = Verdict("exact", path=path, x=x, wanted=wanted, distinct=distinct)
    for name, ask in _engines(drawn, graph, path, x, predict).items():
        try:
            with nothing_else(name):
                found = verify.compare(ask(), wanted, spec=spec, labels=(name, "reference"))
        except UnsupportedModel as error:
            if name != "fast":
                raise Failure(f"{name} refused: {error}") from error
            continue  # the fast engine may have no form for it; the reference has
        verdict.compared[name] = found.mismatches
        if found.mismatches:
            verdict.outcome, verdict.detail = "failed", str(found)
    return verdict


def _engines(
    drawn: Drawn, graph: program.Program, path: Path, x: NDArray[Any], predict: bool
) -> dict[str, Callable[[], Any]]:
    engines: dict[str, Callable[[], Any]] = {
        "keras": lambda: export.channel_first(np.asarray(drawn.logits(drawn.x))),
        "qonnx": lambda: execute.run(path, x),
        "fast": lambda: fast.run(graph, x),
    }
    # Compiled, TensorFlow has no grouped convolution with a bias.
    if predict and all(getattr(layer, "groups", 1) == 1 for layer in drawn.logits.layers):
        engines["keras predict"] = lambda: export.channel_first(
            drawn.logits.predict(drawn.x, verbose=0)
        )
    return engines


@contextmanager
def nothing_else(what: str) -> Iterator[None]:
    """Let refusals through, and take any other exception of `what` for a failure."""
    try:
        yield
    except UnsupportedModel:
        raise
    except Exception as error:
        raise Failure(f"{what} raised {type(error).__name__}: {error}") from error


def _refusal(drawn: Drawn, stage: str, error: FastmlError, folder: Path) -> Verdict:
    """Judge a refusal: it names a layer, and without `exact` the file says what is not exact."""
    text = str(error)
    if not any(name in text for name in names(drawn.model)) and "the model" not in text:
        raise Failure(f"a refusal that names no layer: {text}")
    try:
        with nothing_else("exact=False"):
            loose = export.export_model(drawn.model, folder / "loose.onnx", exact=False)
    except UnsupportedModel:
        return Verdict("refused", text, stage)
    if stage == "export" and not loose.inexact:
        raise Failure(f"refused ({text}), but exact=False notes nothing")
    return Verdict("refused", text, stage)


def names(model: Any) -> set[str]:
    """Return the names of all layers of `model`, those of models inside it as well."""
    inside = (names(layer) for layer in model.layers if hasattr(layer, "layers"))
    return {layer.name for layer in model.layers}.union(*inside)


def without_names(text: str, model: Any) -> str:
    """Return a refusal without the names and numbers that are this model's own."""
    for name in sorted(names(model), key=len, reverse=True):
        text = re.sub(rf"\b{name}(?![a-z])", "layer", text)
    return re.sub(r"(?<!\w)-?\d+(\.\d+)?(e-?\d+)?\b", "n", text)


def described(model: Any) -> str:
    """Return one line for each layer of `model` with its quantizers, to rebuild it by hand."""
    lines = []
    for layer in model.layers:
        config = {
            key: value
            for key, value in layer.get_config().items()
            if "constraint" not in key and "initializer" not in key and value is not None
        }
        lines.append(f"{type(layer).__name__}({config})")
    return "\n".join(lines)
