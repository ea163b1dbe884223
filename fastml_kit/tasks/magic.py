"""Gamma rays and hadrons in the MAGIC telescope: ten numbers of an image, two classes.

A gamma ray that strikes the atmosphere makes a shower of particles, whose light the telescope sees
as an ellipse. Its axes, size, asymmetry and direction (Hillas parameters) tell it from the many
more showers that hadrons make. The 19,020 events are simulated, by the telescope's own Monte Carlo
program. The class numbers are 0 for hadrons, the background, and 1 for gamma rays, the signal.

Columns are standardised and put on a grid of eight bits, both by the training part alone. Equal
events are on one side of the split.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import RunError
from fastml_kit.tasks import archives, arrays, fetch, tabular
from fastml_kit.tasks.base import Dataset, TaskData, split_by_group

COLUMNS = (
    "fLength",
    "fWidth",
    "fSize",
    "fConc",
    "fConc1",
    "fAsym",
    "fM3Long",
    "fM3Trans",
    "fAlpha",
    "fDist",
)
CLASSES = ("hadron", "gamma")
EVENTS = 19020
WIDTH = 8
SPLIT_SEED = 2026
SEED, SIMULATED = 2026, 12000

#: The archive as UCI serves it. UCI publishes no checksum of it.
WHOLE = fetch.File(
    "magic+gamma+telescope.zip",
    urls=("https://archive.ics.uci.edu/static/public/159/magic+gamma+telescope.zip",),
)
#: 13,314 of the events (70 %, drawn at random with seed 7), as arrays x and y.
PART = fetch.File(
    "science/magic04_train70.npz",
    digest="sha256:5783547a47c4f8be11f50eb3aeaaca0c273b09b310b5610ee41a67f987b1abc1",
)

Floats = NDArray[np.float64]


def load_whole() -> TaskData:
    """Load all 19,020 events from UCI's archive."""
    x, y = read_archive(fetch.require(WHOLE))
    return _task("uci-magic", x, y, source=f"MAGIC Gamma Telescope, UCI, all {EVENTS:,} events")


def load_part() -> TaskData:
    """Load the 13,314 events of the 70 % part that $FASTML_DATA holds."""
    found = arrays.read(fetch.require(PART), "x", "y")
    x, y = found["x"].astype(np.float64), found["y"].astype(np.int64)
    return _task(
        "uci-magic-70",
        x,
        y,
        source=f"MAGIC Gamma Telescope, UCI: a 70 % part, {len(x):,} of {EVENTS:,} events",
    )


def load_synthetic() -> TaskData:
    """Make the stand-in: 12,000 events, two of three of them gamma rays."""
    x, y = simulate(np.random.default_rng(SEED), SIMULATED)
    return _task(
        "magic-synthetic",
        x,
        y,
        source="synthetic stand-in: not MAGIC's data. Made by fastml_kit.tasks.magic from seed "
        f"{SEED}; accuracies on it compare with no published one",
        synthetic=True,
    )


def read_archive(path: Path) -> tuple[Floats, NDArray[np.int64]]:
    """Return the columns (n, 10) and class numbers (n,) in UCI's archive.

    Raises:
        RunError: the archive is damaged, or does not hold the 19,020 events.
    """
    texts = [
        content
        for name, content in archives.members(path, wanted=lambda name: name == "magic04.data")
    ]
    try:
        rows = [line.split(",") for line in texts[0].decode("ascii").split()]
        x = np.array([row[:-1] for row in rows], dtype=np.float64)
        y = np.array([{"h": 0, "g": 1}[row[-1]] for row in rows], dtype=np.int64)
    except (IndexError, KeyError, ValueError) as error:
        raise RunError(f"{path} holds no table of MAGIC's events: {error!r}") from error
    if x.shape != (EVENTS, len(COLUMNS)):
        raise RunError(f"{path} holds a table of {x.shape}, not of ({EVENTS}, {len(COLUMNS)})")
    return x, y


def simulate(rng: np.random.Generator, count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return columns and class numbers of `count` made-up events.

    In the coarsest way: a hadron's image is larger, rougher and points anywhere, a gamma ray's is
    narrow for its size and points to the middle of the camera.
    """
    y = (rng.random(count) < 2 / 3).astype(np.int64)
    gamma = y == 1
    size = rng.normal(2.75 + 0.1 * (1 - y), 0.42, count)  # the logarithm of the light
    dist = np.abs(rng.normal(190, 70, count))
    rough = np.where(gamma, 0.22, 0.42)
    length = np.exp(3.1 + 0.55 * (size - 2.75) + 0.0015 * dist + rng.normal(0, rough))
    width = np.exp(2.4 + 0.6 * (size - 2.75) * y + 0.35 * (size - 2.75) + rng.normal(0, rough))
    conc = 1 / (1 + np.exp(0.03 * (length + width) - 1.4 + rng.normal(0, 0.35, count)))
    conc1 = conc * (0.45 + 0.2 * rng.random(count))
    pointing = np.where(gamma, rng.exponential(14 + 0.4 * width), rng.uniform(0, 90, count))
    alpha = np.where(pointing < 90, pointing, rng.uniform(0, 90, count))
    turned = np.where(gamma & (alpha < 30), 1, rng.choice([-1, 1], count))
    asym = turned * length * rng.normal(0.4, 0.8, count)
    long3 = turned * length * rng.normal(0.5, 0.35, count)
    trans3 = width * rng.normal(0, 0.7, count)
    columns = [length, width, size, conc, conc1, asym, long3, trans3, alpha, dist]
    return np.column_stack(columns).round(4), y


def _task(
    dataset: str, x: Floats, y: NDArray[np.int64], *, source: str, synthetic: bool = False
) -> TaskData:
    groups = tabular.equal_rows(x)
    part = split_by_group(y, groups, fractions=(0.1, 0.2), seed=SPLIT_SEED)
    train = part == "train"
    scaled = tabular.standardize(x, train)
    spec = tabular.grid(scaled[train], WIDTH)
    return TaskData(
        name="magic",
        dataset=dataset,
        x=tabular.as_inputs(scaled, spec),
        y=y,
        part=part,
        group=groups,
        classes=CLASSES,
        input_spec=spec,
        metric="accuracy",
        quality_target=0.85 if synthetic else 0.87,
        target_source=f"the kit's own: about what scikit-learn's MLPClassifier reaches, "
        f"{0.864 if synthetic else 0.873} with two hidden layers of 32 units",
        source=source,
        licence="Apache-2.0, as this kit" if synthetic else "CC BY 4.0 (UCI)",
        citation="Bock, MAGIC Gamma Telescope, UCI Machine Learning Repository, 2004, "
        "doi:10.24432/C52C8B",
        synthetic=synthetic,
    )


DATASETS = (
    Dataset("uci-magic", "MAGIC Gamma Telescope (UCI)", load_whole, files=(WHOLE,)),
    Dataset("uci-magic-70", "MAGIC Gamma Telescope (UCI, a 70 % part)", load_part, files=(PART,)),
    Dataset(
        "magic-synthetic",
        "synthetic stand-in for MAGIC Gamma Telescope",
        load_synthetic,
        synthetic=True,
    ),
)
