"""The part of a Keras model that its graph computes: all but what was left to the host."""

from typing import Any

from fastml_kit.errors import UnsupportedModel

#: Functions that the host computes behind the graph, in floats, when the model ends in them.
HOST_FUNCTIONS = ("sigmoid", "softmax")


def logits_model(model: Any) -> Any:
    """Return `model` without a softmax or sigmoid at its end, sharing its layers.

    Its outputs are those of the exported graph. A model without such an end comes back itself.

    Raises:
        UnsupportedModel: the last layer is a model of its own.
    """
    from fastml_kit.models.keras2 import keras

    (end,) = model.outputs
    layer = end.node.layer
    if hasattr(layer, "_nodes_by_depth"):
        raise UnsupportedModel(
            f"the model ends in another, {layer.name!r}; put its last layer behind it"
        )
    function = getattr(layer, "quantizer", None) or getattr(layer, "activation", None)
    name = "softmax" if type(layer).__name__ == "Softmax" else getattr(function, "__name__", "")
    if name not in HOST_FUNCTIONS:
        return model
    (before,) = end.node.keras_inputs
    if not layer.get_weights():
        return keras.Model(model.inputs, before)
    plain = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    logits = plain(before)
    plain.set_weights(layer.get_weights())
    return keras.Model(model.inputs, logits)
