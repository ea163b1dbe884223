"""CNV with strides in the place of its max-pools; see `cnv`."""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.cnv import network


def build(request: ModelRequest) -> Any:
    """Build the network without max-pools, for images of 32 pixels a side or more."""
    return network(request, "cnv_strided", pooled=False)
