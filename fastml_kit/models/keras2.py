"""Keras 2, the one door to it: QKeras 0.9 works on tf-keras, not on Keras 3.

Import Keras from here and nowhere else; the switches must be set before TensorFlow loads.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from fastml_kit.errors import RunError

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # CPU feature and CUDA notices
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # oneDNN sums in an order of its own

import tensorflow as tf
import tf_keras as keras

# hls4ml and QKeras look for `keras`; both must find the one that the model was made with.
sys.modules.setdefault("keras", keras)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and ask TensorFlow for repeatable kernels."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def save(model: Any, path: Path) -> Path:
    """Save `model` as HDF5: unlike the .keras archive it holds no date, so equal is equal."""
    with warnings.catch_warnings():
        # Keras prefers an archive with a date in it, and wonders at QKeras's quantizers.
        warnings.filterwarnings("ignore", message=".*HDF5 file|.*constraints.serialize")
        model.save(path, include_optimizer=False, save_format="h5")
    return path


def load(path: Path) -> Any:
    """Load a Keras or QKeras model.

    Raises:
        RunError: the file is missing or no model that Keras can read.
    """
    import qkeras
    from qkeras.utils import _add_supported_quantized_objects

    class QActivation(qkeras.QActivation):
        """QKeras 0.9.0 does not read back the quantizer that it writes into a .keras archive."""

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            given = config["activation"]
            if isinstance(given, dict):
                config = {**config, "activation": qkeras.get_quantizer(given)}
            return qkeras.QActivation(**config)

    custom: dict[str, Any] = {}
    _add_supported_quantized_objects(custom)
    custom["QActivation"] = QActivation
    try:
        return keras.models.load_model(path, custom_objects=custom, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is no readable Keras model: {error}") from error
