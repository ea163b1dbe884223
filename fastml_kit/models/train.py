"""Training by a recipe: fit on train, watch validation, freeze the weights on their grid.

The same recipe trains the quantized network and its float twin, so that their difference is the
price of the bits and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit import models
from fastml_kit.errors import BadRequest
from fastml_kit.models.augment import Batches
from fastml_kit.models.folding import fold
from fastml_kit.models.keras2 import keras, seed_everything, tf
from fastml_kit.models.recipes import Recipe, of
from fastml_kit.tasks import TaskData

OnEpoch = Callable[[int, dict[str, float]], None]
History = dict[str, list[float]]


def train(
    name: str,
    request: models.ModelRequest,
    data: TaskData,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe | None = None,
    host: Any = None,
    on_epoch: OnEpoch | None = None,
    callbacks: Sequence[Any] = (),
) -> tuple[Any, History]:
    """Build the model `name` with the given seed, fit it, and return it with its history.

    Without a `recipe` it is the family's. A family whose last part stays on the host needs it as
    `host` (see `models.host_part`): it begins anew and is trained along, in place.

    Raises:
        BadRequest: the host part is missing, or the data's objective does not fit the recipe.
    """
    recipe = recipe or of(name)
    seed_everything(seed)
    fresh = models.host_part(name, request)
    if (host is None) != (fresh is None):
        raise BadRequest(
            f"model {name!r} has a part on the host; give host=models.host_part(name, request)"
            if host is None
            else f"model {name!r} has no part on the host; leave host out"
        )
    if fresh is not None:
        host.set_weights(fresh.get_weights())
    begun = recipe.float_epochs(epochs)
    history: History = {}
    twin = None
    options = {"seed": seed, "host": host, "on_epoch": on_epoch, "callbacks": callbacks}
    if begun:
        twin = models.build(name, request.float_twin())
        history = fit(twin, data, epochs=begun, recipe=recipe, **options)
        seed_everything(seed)
        recipe = replace(recipe, learning_rate=recipe.fine_rate, warmup_epochs=0)
    model = models.build(name, request)
    if twin is not None:
        fold(twin, model)
    later = fit(model, data, epochs=epochs, first=begun, recipe=recipe, **options)
    return model, {key: history.get(key, []) + values for key, values in later.items()}


def fit(
    model: Any,
    data: TaskData,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe | None = None,
    first: int = 0,
    host: Any = None,
    on_epoch: OnEpoch | None = None,
    callbacks: Sequence[Any] = (),
) -> History:
    """Train `model` in place from epoch `first` to `epochs`; return one value an epoch.

    The weights of the last epoch, or with early stopping of the best, are frozen (see `freeze`).
    Validation is reported, and decides the early stopping and the plateau of recipes that have
    them; the test part is never looked at. ``on_epoch(epoch, metrics)`` is called after every
    epoch, for progress bars, and `callbacks` are Keras's.
    """
    recipe = recipe or Recipe()
    keras.utils.set_random_seed(seed)
    whole = model if host is None else keras.Model(model.input, host(model.output))
    classes = data.objective == "classes"
    if classes != (recipe.loss == "cross_entropy"):
        raise BadRequest(
            f"{data.name} is to learn {data.objective}, and the recipe's loss is {recipe.loss}; "
            "cross_entropy is for classes, mse and binary_cross_entropy to reconstruct"
        )

    def target(x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
        wanted = np.eye(model.output_shape[-1], dtype=np.float32)[y] if classes else x
        return wanted.reshape(len(x), -1)

    (x, y), (x_val, y_val) = data.select("train"), data.select("validation")
    steps = -(-len(x) // recipe.batch)
    whole.compile(
        keras.optimizers.Adam(_rate(recipe, steps, epochs - first)),
        _loss(recipe),
        metrics=["accuracy"] if classes else [],
    )
    source: dict[str, Any] = {
        "x": shaped(model, x),
        "y": target(x, y),
        "batch_size": recipe.batch,
    }
    if recipe.augmentation:
        batches = Batches(
            x,
            source["y"] if classes else None,
            size=recipe.batch,
            seed=seed,
            how=recipe.augmentation,
            shape=model.input_shape[1:],
        )
        source = {"x": batches, "shuffle": False}
    history = whole.fit(
        **source,
        validation_data=(shaped(model, x_val), target(x_val, y_val)),
        initial_epoch=first,
        epochs=epochs,
        callbacks=[*_callbacks(recipe, on_epoch), *callbacks],
        verbose=0,
    )
    freeze(model)
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def _rate(recipe: Recipe, steps: int, epochs: int) -> Any:
    """Return the learning rate of each of `epochs` of `steps`, as Keras takes it."""
    schedules, rate = keras.optimizers.schedules, recipe.learning_rate
    warm = min(recipe.warmup_epochs, epochs - 1) * steps
    if recipe.schedule == "exponential":
        return schedules.ExponentialDecay(rate, steps, recipe.decay, staircase=True)
    if recipe.schedule != "cosine":
        return rate
    if not warm:
        return schedules.CosineDecay(rate, epochs * steps)
    return schedules.CosineDecay(
        rate / 20, epochs * steps - warm, warmup_target=rate, warmup_steps=warm
    )


def _loss(recipe: Recipe) -> Any:
    if recipe.loss == "cross_entropy":
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
    if recipe.loss == "binary_cross_entropy":
        return keras.losses.BinaryCrossentropy()
    return keras.losses.MeanSquaredError()


def _callbacks(recipe: Recipe, on_epoch: OnEpoch | None) -> list[Any]:
    kinds = keras.callbacks
    found = [kinds.LambdaCallback(on_epoch_end=on_epoch)] if on_epoch else []
    if recipe.schedule == "plateau":
        found.append(kinds.ReduceLROnPlateau(factor=0.5, patience=2, min_lr=1e-5))
    if recipe.patience:
        found.append(kinds.EarlyStopping(patience=recipe.patience, restore_best_weights=True))
    return found


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


def predict(model: Any, x: NDArray[np.float32], host: Any = None) -> NDArray[np.float32]:
    """Return the outputs (n, outputs) of samples (n, height, width, channels): of classes, logits.

    With a part on the host they are that part's.
    """
    found: NDArray[np.float32] = model.predict(shaped(model, x), batch_size=1024, verbose=0)
    return found if host is None else host.predict(found, batch_size=1024, verbose=0)


def accuracy(logits: NDArray[Any], y: NDArray[np.int64]) -> float:
    """Return the share of samples whose largest logit (the first, in a draw) is the label."""
    return float(np.mean(np.argmax(logits, axis=1) == y))
