"""Jets at the LHC: sixteen numbers of a jet's substructure, five particles that it may come from.

The jets are simulated, of transverse momenta about 1 TeV: of light quarks, gluons, W and Z bosons
and top quarks, told apart by 16 features such as masses and energy correlation functions. It is
the example that hls4ml's tutorial trains its network on, 16-64-32-32-5. As there, features are
standardised by the training part and rounded to ``ap_fixed<16,6>``, which loses next to nothing.

The data is OpenML's set 42468, ``hls4ml_lhc_jets_hlf``. OpenML itself says where its file lies and
what its checksum is, so the download asks there first.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import RunError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks import arrays, fetch, tabular
from fastml_kit.tasks.base import Dataset, TaskData, split_by_group

CLASSES = ("g", "q", "t", "w", "z")
FEATURES = 16
INPUT = FixedSpec(width=16, integer=6)
SPLIT_SEED = 42
SEED, SIMULATED = 2026, 15000

#: What OpenML knows about the set, and the set itself, whose address and checksum stand therein.
ABOUT = fetch.File("openml-42468.json", urls=("https://www.openml.org/api/v1/json/data/42468",))
JETS = fetch.File("openml-42468.arff")

Floats = NDArray[np.float64]


def obtain(*, progress: bool = False) -> None:
    """Download the set, by the address and checksum that OpenML states.

    Raises:
        RunError: OpenML does not answer, or the file is not what it says.
    """
    import json

    path = fetch.download(ABOUT)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["data_set_description"]
        if known["name"] != "hls4ml_lhc_jets_hlf":
            raise ValueError(f"this is {known['name']!r}")
        file = fetch.File(JETS.name, f"md5:{known['md5_checksum']}", (known["url"],))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} does not describe the jets at OpenML: {error!r}") from error
    fetch.download(file, progress=progress)


def load_openml() -> TaskData:
    """Load the jets from OpenML's file."""
    path = fetch.require(JETS)
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()
    found = arrays.kept(f"jets-{key[:16]}", lambda: read_arff(path))
    return _task(
        "openml-42468",
        found["x"],
        found["y"],
        source="hls4ml LHC jets, high-level features, OpenML 42468, "
        f"{len(found['x']):,} simulated jets",
        licence="CC BY 4.0 (Zenodo record 3602260, which it is drawn from)",
    )


def load_synthetic() -> TaskData:
    """Make the stand-in: 15,000 made-up jets."""
    x, y = simulate(np.random.default_rng(SEED), SIMULATED)
    return _task(
        "jets-synthetic",
        x,
        y,
        source="synthetic stand-in: no collision was simulated. Made by fastml_kit.tasks.jets from "
        f"seed {SEED}; accuracies on it compare with no published one",
        licence="Apache-2.0, as this kit",
        synthetic=True,
    )


def read_arff(path: Path) -> dict[str, NDArray[Any]]:
    """Return features ``x`` (n, 16) and class numbers ``y`` (n,) of OpenML's file.

    Raises:
        RunError: it is no ARFF file of 16 numbers and one of the five classes a row.
    """
    from scipy.io import arff

    try:
        rows, meta = arff.loadarff(io.StringIO(path.read_text(encoding="utf-8")))
        numbers = [name for name in meta.names() if meta[name][0] == "numeric"]
        (label,) = set(meta.names()) - set(numbers)
        x = np.column_stack([rows[name] for name in numbers]).astype(np.float64)
        names, y = np.unique(rows[label].astype(str), return_inverse=True)
    except (arff.ArffError, ValueError, IndexError, NotImplementedError, StopIteration) as error:
        raise RunError(f"{path} is damaged or no ARFF file: {error!r}") from error
    if x.shape[1] != FEATURES or tuple(names.tolist()) != CLASSES:
        raise RunError(f"{path} holds {x.shape[1]} features and the classes {names.tolist()}")
    return {"x": x, "y": y.astype(np.int64)}


def simulate(rng: np.random.Generator, count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return features (count, 16) and class numbers of made-up jets.

    A class is a shell, a pair of clumps or a clump in four hidden numbers, of which the features
    are sums, products and exponentials: no weighted sum of them tells the classes apart.
    """
    y = rng.integers(0, len(CLASSES), count)
    side = rng.choice([-1.0, 1.0], count)
    noise = rng.normal(0, 1, (count, 4))
    direction = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    radius = 3.2 + 0.35 * rng.normal(0, 1, (count, 1))
    pair = np.column_stack([side, side, -side, -side])
    swap = np.column_stack([side, -side, side, -side])
    hidden = np.select(
        [(y == kind)[:, np.newaxis] for kind in range(len(CLASSES))],
        [0.5 * noise, radius * direction, 1.8 * pair + noise, 1.8 * swap + noise, 1.6 * noise],
    )
    mixing = rng.normal(0, 0.6, (4, 8))
    linear = hidden @ mixing
    squares = np.square(hidden @ rng.normal(0, 0.4, (4, 4)))
    scales = np.exp(0.4 * hidden @ rng.normal(0, 0.6, (4, 4)))
    features = np.concatenate([linear, squares, scales], axis=1)
    return features + rng.normal(0, 0.15, features.shape), y.astype(np.int64)


def _task(
    dataset: str,
    x: Floats,
    y: NDArray[np.int64],
    *,
    source: str,
    licence: str,
    synthetic: bool = False,
) -> TaskData:
    groups = tabular.equal_rows(x)
    part = split_by_group(y, groups, fractions=(0.1, 0.2), seed=SPLIT_SEED)
    return TaskData(
        name="jets",
        dataset=dataset,
        x=tabular.as_inputs(tabular.standardize(x, part == "train"), INPUT),
        y=y,
        part=part,
        group=groups,
        classes=CLASSES,
        input_spec=INPUT,
        metric="accuracy",
        quality_target=0.73 if synthetic else 0.762,
        target_source="the kit's own: about what scikit-learn's MLPClassifier reaches, 0.75 with "
        "hidden layers of 64, 32 and 32 units"
        if synthetic
        else "published for the network 16-64-32-32-5 of six bits, QONNX model zoo",
        source=source,
        licence=licence,
        citation="Pierini, Duarte, Tran and Freytsis, HLS4ML LHC Jet dataset (150 particles), "
        "Zenodo, 2020, doi:10.5281/zenodo.3602260; Duarte et al., Fast inference of deep neural "
        "networks in FPGAs for particle physics, JINST 13, 2018, arXiv:1804.06913",
        synthetic=synthetic,
    )


DATASETS = (
    Dataset(
        "openml-42468", "hls4ml LHC jets (OpenML 42468)", load_openml, files=(JETS,), obtain=obtain
    ),
    Dataset("jets-synthetic", "synthetic stand-in for LHC jets", load_synthetic, synthetic=True),
)
