"""The perceptron that tells jets apart at the LHC: 16-64-32-32-5, of six bits.

Duarte et al., arXiv:1804.06913; quantized by Coelho et al., arXiv:2006.10159. `width` is that of
the first hidden layer, 64 in the papers; the two behind it have half as many.
"""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.mlp import network


def build(request: ModelRequest) -> Any:
    """Build inputs - width - width/2 - width/2 - classes. The input is the flattened sample."""
    half = max(1, request.width // 2)
    return network(request, (request.width, half, half), "jets_mlp")
