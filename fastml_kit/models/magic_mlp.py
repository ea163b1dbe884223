"""The perceptron for the MAGIC gamma telescope: two hidden layers of `width`, normalized.

Ten image parameters in, gamma or hadron out. It is the kit's own: no published FPGA design of
this task was found to rebuild. The data: Bock et al., doi:10.1016/j.nima.2003.08.157.
"""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.mlp_bn import network


def build(request: ModelRequest) -> Any:
    """Build inputs - width - width - classes. The input is the flattened sample."""
    return network(request, (request.width,) * 2, "magic_mlp")
