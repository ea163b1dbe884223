"""Models: QKeras builders, one file a family, and the recipe that trains them.

A model is built for a shape and a number of classes; it knows no backend. This module itself
does not import TensorFlow: the family's module does, when a model is built.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fastml_kit.errors import unknown_name
from fastml_kit.fixedpoint import FixedSpec

MODELS = {
    name: f"fastml_kit.models.{name}"
    for name in (
        "ad08",
        "cnn",
        "cnn_strided",
        "cnv",
        "cnv_strided",
        "econt_encoder",
        "jets_mlp",
        "kws_mlp",
        "magic_mlp",
        "mlp",
        "mlp_bn",
        "resnet8",
        "rn07",
    )
}


@dataclass(frozen=True)
class ModelRequest:
    """What a builder needs to know. `weight_bits` and `act_bits` of None make the float twin.

    `classes` is the number of outputs: what reconstructs its input has as many as inputs.
    """

    input_shape: tuple[int, ...]  # (height, width, channels)
    classes: int
    input_spec: FixedSpec
    width: int = 24
    weight_bits: int | None = 4
    act_bits: int | None = 4

    def float_twin(self) -> "ModelRequest":
        """Return the request for the same network in floating point."""
        return ModelRequest(self.input_shape, self.classes, self.input_spec, self.width, None, None)


def names() -> list[str]:
    """Return the names of all model families."""
    return sorted(MODELS)


def build(name: str, request: ModelRequest) -> Any:
    """Build the Keras model `name`, untrained; its outputs are logits, or what it reconstructs.

    Of a family with a part on the host it is the other part, the one for the chip.

    Raises:
        BadRequest: there is no such model.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return import_module(MODELS[name]).build(request)


def host_part(name: str, request: ModelRequest) -> Any:
    """Build the float model that goes on from the outputs of `name` on the host; None for most.

    A network such as an encoder is trained and judged through it, and exported without it.

    Raises:
        BadRequest: there is no such model.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    builder = getattr(import_module(MODELS[name]), "host_part", None)
    return builder(request) if builder else None


__all__ = ["MODELS", "ModelRequest", "build", "host_part", "names"]
