"""The recipe: fit on train, watch validation, freeze the weights on their grid.

The same recipe trains the quantized network and its float twin, so that their difference is the
price of the bits and nothing else.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit import models
from fastml_kit.models.keras2 import keras, seed_everything, tf
from fastml_kit.tasks import TaskData

BATCH = 32
LEARNING_RATE = 0.005
LABEL_SMOOTHING = 0.1
OnEpoch = Callable[[int, dict[str, float]], None]


def fit(
    model: Any, data: TaskData, *, epochs: int, seed: int, on_epoch: OnEpoch | None = None
) -> dict[str, list[float]]:
    """Train `model` in place and return its history, one value an epoch.

    Adam with a learning rate that falls to zero along a cosine, cross-entropy with smoothed
    labels; the weights of the last epoch are frozen (see `freeze`). Validation is reported and
    decides nothing here; the test part is never looked at. `on_epoch(epoch, metrics)` is called
    after every epoch, for progress bars.
    """
    keras.utils.set_random_seed(seed)
    (x, y), (x_val, y_val) = data.select("train"), data.select("validation")
    steps = epochs * -(-len(x) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING),
        metrics=["accuracy"],
    )
    one_hot = np.eye(len(data.classes), dtype=np.float32)
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=on_epoch)] if on_epoch else []
    history = model.fit(
        shaped(model, x),
        one_hot[y],
        validation_data=(shaped(model, x_val), one_hot[y_val]),
        batch_size=BATCH,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
    )
    freeze(model)
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def freeze(model: Any) -> None:
    """Replace every weight by its quantized value.

    QKeras quantizes on each call as ``w + (q(w) - w)``, whose two float sums can miss q(w) by an
    ulp; where w is q(w) already, they cannot. Predictions are then sums of exact products. Layers
    that fold a batch normalization quantize other values than their weights, and are left alone;
    so are batch normalizations themselves.
    """
    for layer in model.submodules:  # of nested models, too
        quantizers: list[Any] = getattr(layer, "get_quantizers", list)()
        normalizes = hasattr(layer, "batchnorm") or hasattr(layer, "moving_mean")
        if layer is model or normalizes or not quantizers or not layer.get_weights():
            continue
        quantizers = quantizers[: len(layer.get_weights())]  # a layer may have no bias
        layer.set_weights(
            [
                weight if quantizer is None else np.asarray(quantizer(tf.constant(weight)))
                for weight, quantizer in zip(layer.get_weights(), quantizers, strict=True)
            ]
        )


def shaped(model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples (n, height, width, channels) in the shape that the model's input has."""
    return x.reshape(len(x), *model.input_shape[1:])


def predict(model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits (n, classes) of samples (n, height, width, channels)."""
    logits: NDArray[np.float32] = model.predict(shaped(model, x), batch_size=1024, verbose=0)
    return logits


def accuracy(logits: NDArray[Any], y: NDArray[np.int64]) -> float:
    """Return the share of samples whose largest logit (the first, in a draw) is the label."""
    return float(np.mean(np.argmax(logits, axis=1) == y))


def train(
    name: str,
    request: models.ModelRequest,
    data: TaskData,
    *,
    epochs: int,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> tuple[Any, dict[str, list[float]]]:
    """Build the model `name` with the given seed, fit it, and return it with its history."""
    seed_everything(seed)
    model = models.build(name, request)
    return model, fit(model, data, epochs=epochs, seed=seed, on_epoch=on_epoch)
