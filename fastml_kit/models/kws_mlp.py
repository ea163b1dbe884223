"""The perceptron of keyword spotting, KWS-W3A3 of the hls4ml-FINN submission to MLPerf Tiny.

With width 256 and three bits it is 490-256-256-256-12 without a bias in the hidden layers (Borras
et al., arXiv:2206.11791), but for its scales: theirs are learned floats, here they are powers of
two, so that it has an exact form in integers.
"""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.mlp_bn import network


def build(request: ModelRequest) -> Any:
    """Build inputs - width - width - width - classes, normalized; see `mlp_bn`."""
    return network(request, (request.width,) * 3, "kws_mlp")
