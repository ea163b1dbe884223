"""Recipes as data: how a family is trained, unless one asks for something else.

A recipe knows no data and no framework; `train` follows it. Another is made from one of these with
``dataclasses.replace``.
"""

from dataclasses import dataclass
from typing import Literal

from fastml_kit.errors import BadRequest

Schedule = Literal["constant", "cosine", "exponential", "plateau"]
SCHEDULES: tuple[Schedule, ...] = ("constant", "cosine", "exponential", "plateau")
Loss = Literal["cross_entropy", "mse", "binary_cross_entropy"]
LOSSES: tuple[Loss, ...] = ("cross_entropy", "mse", "binary_cross_entropy")


@dataclass(frozen=True)
class Augmentation:
    """How far a sample may be moved in each epoch anew; 0 leaves it.

    Each amount is drawn uniformly between minus and plus the number given here, the mirror by a
    coin, and noise from a normal distribution. Height and width are the image's; of sound, time
    is the height.
    """

    rotation_degrees: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)  # shares of the height and of the width
    stretch: float = 0.0  # of the height: the natural logarithm of the factor
    flip: bool = False  # left and right
    noise: float = 0.0  # standard deviation, in units of each channel or column's own
    gain: float = 0.0  # standard deviation of what is added to the first column, as above
    mixup: float = 0.0  # parameter of the beta distribution that mixes pairs of samples


@dataclass(frozen=True)
class Recipe:
    """Adam with a schedule, a loss, augmentation, early stopping, and where QAT begins.

    With `float_share` the float twin is trained for this share of the epochs, and then the
    quantized network goes on from its weights with `fine_rate` (QAT from float). A float twin
    does both parts in float, to be trained alike.

    Schedules: ``cosine`` falls to zero, ``exponential`` by `decay` in each epoch, ``plateau`` by
    half whenever the validation loss has not fallen for two epochs.
    """

    learning_rate: float = 0.005
    batch: int = 32
    schedule: Schedule = "cosine"
    warmup_epochs: int = 0  # of the first part, from a twentieth of the rate
    decay: float = 0.99  # of `exponential`
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.1  # of `cross_entropy`
    augmentation: Augmentation | None = None
    patience: int = 0  # epochs without a better validation loss before it stops; 0: never
    float_share: float = 0.0
    fine_rate: float = 0.0005

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("learning_rate", self.learning_rate, 0.0, 10.0),
            ("fine_rate", self.fine_rate, 0.0, 10.0),
            ("decay", self.decay, 0.0, 1.0),
            ("label_smoothing", self.label_smoothing, 0.0, 0.999),
            ("float_share", self.float_share, 0.0, 0.99),
            ("batch", self.batch, 1, 10**6),
            ("patience", self.patience, 0, 10**6),
            ("warmup_epochs", self.warmup_epochs, 0, 10**6),
        ):
            if not low <= value <= high:
                raise BadRequest(f"{name}={value} is out of range; {low} to {high}")
        for name, choice, choices in (
            ("schedule", self.schedule, SCHEDULES),
            ("loss", self.loss, LOSSES),
        ):
            if choice not in choices:
                raise BadRequest(f"no {name} {choice!r}; there are {', '.join(choices)}")

    def float_epochs(self, epochs: int) -> int:
        """Return how many of `epochs` belong to the first part; each part has one at least."""
        if not self.float_share:
            return 0
        if epochs < 2:
            raise BadRequest("this recipe needs two epochs at least: one in float, one quantized")
        return min(epochs - 1, max(1, round(self.float_share * epochs)))


#: Images: MLPerf Tiny's RN07 was trained with 15 degrees, a tenth and mirrors, for 1,000 epochs
#: (arXiv:2206.11791); a short training bears less.
IMAGES = Augmentation(rotation_degrees=5, shift=(0.1, 0.1), flip=True)
#: Speech, whose height is time and whose first column is loudness: the kit's own.
SPEECH = Augmentation(shift=(0.1, 0.0), stretch=0.15, noise=0.2, gain=0.1)
FROM_FLOAT = Recipe(
    learning_rate=0.004,
    batch=128,
    warmup_epochs=1,
    label_smoothing=0.0,
    augmentation=IMAGES,
    float_share=0.8,
)

#: The recipe of each family that has one of its own; the others take `Recipe()`.
RECIPES: dict[str, Recipe] = {
    "rn07": FROM_FLOAT,
    "resnet8": FROM_FLOAT,
    "cnv": Recipe(learning_rate=0.003, batch=128, augmentation=IMAGES),
    "cnv_strided": Recipe(learning_rate=0.003, batch=128, augmentation=IMAGES),
    "kws_mlp": Recipe(learning_rate=0.003, batch=64, augmentation=SPEECH),
    "jets_mlp": Recipe(learning_rate=0.003, batch=256, label_smoothing=0.0),
    "magic_mlp": Recipe(batch=128, label_smoothing=0.0),
    # Batch, loss and early stopping as published; the schedule there is Keras's plateau.
    "ad08": Recipe(
        learning_rate=0.001,
        batch=512,
        schedule="plateau",
        loss="mse",
        patience=15,
        float_share=0.7,
    ),
    "econt_encoder": Recipe(
        learning_rate=0.002, batch=256, loss="mse", float_share=0.6, fine_rate=0.001
    ),
}


def of(family: str) -> Recipe:
    """Return the recipe of the model family called `family`."""
    return RECIPES.get(family, Recipe())
