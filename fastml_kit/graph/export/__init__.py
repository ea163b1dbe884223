"""QKeras to QONNX, layer by layer: what the file says is exactly what the model computes.

The model is walked and Quant nodes are written; nothing is traced through TensorFlow. What has
no exact form is refused by name, or, with ``exact=False``, written as nearly as QONNX can say it
and noted in the file. Images become channel first (NCHW), as ONNX has them.

QONNX: Pappalardo et al., arXiv:2206.07527.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastml_kit.graph.export.exactness import prove
from fastml_kit.graph.export.logits import logits_model
from fastml_kit.graph.export.quantizers import quantizer_spec
from fastml_kit.graph.export.site import Notes
from fastml_kit.graph.export.walk import write

#: Where the file itself says what was left to the host, and what is not exact: JSON lists.
HOST, INEXACT = "fastml.host", "fastml.inexact"


@dataclass(frozen=True)
class Exported:
    """An exported model, and what a reader of the file must know."""

    path: Path
    host: tuple[str, ...]  # layers that the host must compute on the graph's outputs
    inexact: tuple[str, ...]  # where the graph may differ from Keras; empty when it cannot


def export_model(model: Any, path: Path, *, exact: bool = True) -> Exported:
    """Write the QKeras `model` as a QONNX file.

    With ``exact=False`` float scales and float batch normalizations are written too, and listed.

    Raises:
        UnsupportedModel: a layer or quantizer has no (exact) QONNX form, by name.
    """
    notes = Notes(exact)
    graph = write(model, notes)
    prove(graph, model.name, notes)
    graph.metadata = {HOST: json.dumps(notes.host), INEXACT: json.dumps(notes.inexact)}
    graph.save(path, model.name)
    return Exported(path, tuple(notes.host), tuple(notes.inexact))


def export_qonnx(model: Any, path: Path, *, exact: bool = True) -> Path:
    """Write the QKeras `model` as a QONNX file and return its path; see `export_model`."""
    return export_model(model, path, exact=exact).path


def channel_first(x: NDArray[Any]) -> NDArray[Any]:
    """Return samples in the graph's order: (n, ..., c) becomes (n, c, ...), (n, k) stays."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1)) if x.ndim > 2 else x


__all__ = [
    "Exported",
    "channel_first",
    "export_model",
    "export_qonnx",
    "logits_model",
    "quantizer_spec",
]
