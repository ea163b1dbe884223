"""The small CNN with a stride in the place of its max-pool; see `cnn`."""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.cnn import network


def build(request: ModelRequest) -> Any:
    """Build conv 3x3 with stride 2 (width/4 filters), conv 2x2 (width/3 filters), dense."""
    return network(request, "cnn_strided", pooled=False)
