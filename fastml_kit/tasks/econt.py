"""ECON-T: what 48 trigger cells of a calorimeter's sensor saw, to be told by 16 numbers.

In the high-granularity calorimeter (HGCAL) of CMS a chip, ECON-T, receives 48 charges a sensor
every 25 ns and has room to send on a fraction of them. An encoder on the chip makes 16 numbers of
the picture; a decoder elsewhere makes the picture again. Its quality is the mean earth mover's
distance of the two pictures (`fastml_kit.tasks.wafer`).

Preprocessing is that of the published encoder (Di Guglielmo et al., arXiv:2105.01683, code in
github.com/fastmachinelearning/fastml-science, ``sensor-data-compression/train.py``): sensors
without any charge are left out, a sensor's charges are divided by the largest power of two that
their sum reaches, and lie as an image of 8x8 pixels of which a quarter is empty. They are rounded
to six bits below the binary point, the grid of its ``quantized_bits(10, 3)``; no charge is above
2, so that eight bits without sign hold the same values.

Pictures repeat, mostly because one cell alone was hit: equal ones are on one side of the split.
"""

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import RunError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks import arrays, fetch, tabular, wafer
from fastml_kit.tasks.base import Dataset, TaskData, split_by_group

INPUT = FixedSpec(width=8, integer=2, signed=False)
SPLIT_SEED = 2026
SEED, SIMULATED = 2026, 12000

#: Charges of sensors in simulated top quark pairs without pile-up, uint16 (30587, 48).
CHARGES = fetch.File(
    "science/econt_hgcal_wafers_dev.npz",
    digest="sha256:5e5f33637160034000cb03e8ac7338ca939e15de00bb29d571f44442a959fa19",
)


def load_real() -> TaskData:
    """Load the simulated sensors of top quark pairs from $FASTML_DATA."""
    path = fetch.require(CHARGES)
    charges = arrays.read(path, "ttbar")["ttbar"].astype(np.int64)
    if charges.ndim != 2 or charges.shape[1] != wafer.CELLS:
        raise RunError(f"{path}: charges of shape {charges.shape}, not (n, {wafer.CELLS})")
    return _task(
        "hgcal-ttbar",
        charges,
        source="HGCAL sensors in simulated top quark pairs, without pile-up, from the history of "
        "github.com/kakwok/Ecoder. Not the sample of the publications (nELinks_5): distances on "
        "it compare with no published one",
        licence="none stated: CMS simulation, for private use, not to be passed on",
    )


def load_synthetic() -> TaskData:
    """Make the stand-in: 12,000 sensors with up to four showers each."""
    return _task(
        "econt-synthetic",
        simulate(np.random.default_rng(SEED), SIMULATED),
        source="synthetic stand-in: no detector was simulated. Made by fastml_kit.tasks.econt from "
        f"seed {SEED}; distances on it compare with no published one",
        licence="Apache-2.0, as this kit",
        synthetic=True,
    )


def normalize(charges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return `charges` (n, 48) of sensors divided by the largest power of two in their sum.

    The sums of what is returned are at least 1 and below 2. Every sum must be positive.
    """
    exponent = np.frexp(charges.sum(axis=1).astype(np.float64))[1] - 1
    scaled: NDArray[np.float64] = np.ldexp(charges, -exponent[:, np.newaxis])
    return scaled


def simulate(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return charges (count, 48) of made-up sensors: showers of some width, cut at a threshold."""
    places = wafer.positions()
    charges = np.zeros((count, wafer.CELLS))
    for _ in range(4):
        present = rng.random((count, 1)) < 0.45
        middle = places[rng.integers(0, wafer.CELLS, count)] + rng.normal(0, 0.8, (count, 2))
        away = np.linalg.norm(places - middle[:, np.newaxis], axis=-1)
        width = rng.uniform(0.5, 1.6, (count, 1))
        energy = np.exp(rng.normal(5.0, 1.0, (count, 1)))
        charges += present * energy * np.exp(-((away / width) ** 2) / 2)
    charges *= np.exp(rng.normal(0, 0.15, charges.shape))
    charges[charges < 20] = 0
    lone = charges.sum(axis=1) == 0  # then one cell, so that no sensor is empty
    charges[lone, rng.integers(0, wafer.CELLS, lone.sum())] = rng.integers(20, 200, lone.sum())
    return charges.round().astype(np.int64)


def _task(
    dataset: str, charges: NDArray[np.int64], *, source: str, licence: str, synthetic: bool = False
) -> TaskData:
    charges = charges[charges.sum(axis=1) > 0]
    codes = INPUT.to_codes(normalize(charges))
    groups = tabular.equal_rows(codes)
    y = np.zeros(len(codes), dtype=np.int64)
    return TaskData(
        name="econt",
        dataset=dataset,
        x=wafer.to_image(INPUT.to_values(codes).astype(np.float32)),
        y=y,
        part=split_by_group(y, groups, fractions=(0.1, 0.1), seed=SPLIT_SEED),
        group=groups,
        classes=("sensor",),
        objective="reconstruct",
        input_spec=INPUT,
        metric="emd",
        quality_target=1.5,
        target_source="the kit's own: a float encoder of the published shape reached "
        f"{'1.4' if synthetic else '1.1 to 1.8'} within minutes of training, 16 principal "
        f"components reach {1.84 if synthetic else 3.39}",
        source=source,
        licence=licence,
        citation="Di Guglielmo et al., A reconfigurable neural network ASIC for detector "
        "front-end data compression at the HL-LHC, IEEE Trans. Nucl. Sci. 68, 2021, "
        "arXiv:2105.01683",
        synthetic=synthetic,
    )


DATASETS = (
    Dataset(
        "hgcal-ttbar",
        "HGCAL sensors, top quark pairs without pile-up",
        load_real,
        files=(CHARGES,),
    ),
    Dataset(
        "econt-synthetic",
        "synthetic stand-in for HGCAL sensors",
        load_synthetic,
        synthetic=True,
    ),
)
