"""Anomaly detection as MLPerf Tiny poses it: does a toy car sound as it should.

Trained on normal sounds only, a network learns to reproduce its input; what it reproduces badly is
an anomaly. An input is a window of frames of `audio.log_mel`: the power in mel bands, in decibels,
of the middle of a clip (frames 50 to 249). A clip's score is the mean squared error over all its
windows, and the metric the area under the ROC curve, averaged over the machines. Class 0 is
normal, 1 anomalous; `TaskData.group` is the clip, `TaskData.section` the machine.

- ``toyadmos-toycar``: ToyADMOS's ToyCar as DCASE 2020 distributes it, windows as the FPGA
  submission AD08 takes them: two frames of every fourth of 128 bands, 64 inputs, in whole decibels
  of eight bits (hls4ml's ``ap_fixed<8,8>``; here it rounds and saturates).
- ``toyadmos-toycar-640``: the same windows as the benchmark takes them, five frames of 128 bands.
  The 1.8 million windows take some 5 GB.
- ``ad-synthetic``: a stand-in of 64 inputs, see `fastml_kit.tasks.ad_synthetic`.

Everything that is there to train on is normal; a tenth of it, whole clips of every machine, is the
validation part, which therefore has no anomalies either: a network is chosen by its loss there.

Sources: Koizumi et al., arXiv:1908.03299 and 2006.05822; ``common.py`` of the benchmark
(github.com/mlcommons/tiny) and of AD08 (github.com/mlcommons/tiny_results_v0.7).
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastml_kit.errors import RunError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks import ad_synthetic, archives, arrays, audio, fetch
from fastml_kit.tasks.base import Dataset, TaskData, split_by_group

#: Whole decibels, -128 to 127.
INPUT = FixedSpec(width=8, integer=8, signed=True)
CLASSES = ("normal", "anomaly")
#: The frames of a clip that count, and how many frames the benchmark's windows have: AD08 moves
#: its own, shorter ones over the same positions.
MIDDLE, WINDOW = slice(50, 250), 5
#: AD08's windows: frames, and every how many-th band.
AD08_FRAMES, AD08_BANDS = 2, 4
VALIDATION, SEED = 0.1, 2026

#: Addresses as the benchmark has them; checksums as a third party found them (github.com/
#: datasets-mila/datasets--dcase2020).
ZENODO = "https://zenodo.org/record"
DEVELOPMENT = fetch.File(
    "dev_data_ToyCar.zip",
    digest="md5:4dec75ca8d9f666aa9e4c1894a740501",
    urls=(f"{ZENODO}/3678171/files/dev_data_ToyCar.zip?download=1",),
)
ADDITIONAL = fetch.File(
    "eval_data_train_ToyCar.zip",
    digest="md5:a5d4ccd498af70b04dd74b644b820006",
    urls=(f"{ZENODO}/3727685/files/eval_data_train_ToyCar.zip?download=1",),
)
FILES = (DEVELOPMENT, ADDITIONAL)
NAME = re.compile(r"(?:^|/)(train|test)/(normal|anomaly)_id_(\d\d)_(\d+)\.wav$")

_log = logging.getLogger(__name__)


def load_ad08() -> TaskData:
    """Load ToyCar in windows of 64 inputs, as the FPGA submission AD08 takes them."""
    return _toycar("toyadmos-toycar", AD08_FRAMES, AD08_BANDS)


def load_benchmark() -> TaskData:
    """Load ToyCar in windows of 640 inputs, as the benchmark takes them."""
    return _toycar("toyadmos-toycar-640", WINDOW, 1)


def read_toycar(paths: Iterable[Path]) -> arrays.Arrays:
    """Return the spectra of all clips in ToyCar's archives, in codes of `INPUT`, clip by clip.

    ``codes`` is (clips, frames, 128), ``test`` tells which clips are there to test with, ``label``
    and ``machine`` are class and machine numbers. Clips are sorted by name.

    Raises:
        RunError: an archive is damaged, or holds no clips, a clip twice, or one that is too short.
    """
    clips = {}
    for path in paths:
        for name, content in archives.members(path, wanted=lambda name: bool(NAME.search(name))):
            known = NAME.search(name)
            assert known is not None
            if known.groups() in clips:
                raise RunError(f"{path} holds {name} a second time")
            clips[known.groups()] = codes(audio.read(content, name) / 2**15)
    if not clips:
        raise RunError(f"{', '.join(path.name for path in paths)}: no clips of ToyCar in there")
    wanted = (MIDDLE.stop - MIDDLE.start, audio.MEL_BANDS)
    for key, spectrum in clips.items():
        if spectrum.shape != wanted:
            raise RunError(f"clip {'_'.join(key)} is too short: {spectrum.shape}, not {wanted}")
    order = sorted(clips)
    return {
        "codes": np.stack([clips[key] for key in order]),
        "test": np.array([key[0] == "test" for key in order]),
        "label": np.array([CLASSES.index(key[1]) for key in order], dtype=np.int64),
        "machine": np.array([int(key[2]) for key in order], dtype=np.int64),
    }


def codes(clip: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the spectrum (frames, 128) of the middle of a clip (n,), in codes of `INPUT`."""
    return INPUT.to_codes(audio.log_mel(clip)[MIDDLE]).astype(np.int8)


def windows(spectra: NDArray[np.int8], frames: int, every: int) -> NDArray[np.int8]:
    """Return all windows (clips, positions, frames, bands) of spectra (clips, n, 128).

    A window has `frames` frames, and every `every`-th band, the first one included. There are as
    many positions as the benchmark's windows of five frames have.
    """
    positions = spectra.shape[1] - WINDOW + 1
    kept = spectra[:, : positions + frames - 1, ::every]
    return np.moveaxis(sliding_window_view(kept, frames, axis=1), -1, 2)


def _toycar(dataset: str, frames: int, every: int) -> TaskData:
    def make() -> arrays.Arrays:
        _log.warning("computing the spectra of ToyCar: some minutes, once")
        return read_toycar([fetch.require(file) for file in FILES])

    found = arrays.kept(arrays.key("ad-toycar", FILES, __file__, audio.__file__), make)
    return task(
        dataset,
        windows(found["codes"], frames, every),
        part=parts(found["test"], found["machine"]),
        label=found["label"],
        machine=found["machine"],
        source="ToyADMOS, ToyCar, as DCASE 2020 task 2 distributes it: development data and "
        "additional training data",
        target_source="MLPerf Tiny's closed division: an area of 0.85 (MLPerfTiny_Rules.adoc)",
        licence="CC BY-NC-SA 4.0, as a third party states it; see the data set's page at Zenodo",
    )


def parts(test: NDArray[np.bool_], machine: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the part of each clip: a tenth of those that are not to `test` with is to validate."""
    part = np.full(len(test), "test", dtype="<U10")
    clips = np.arange(len(test))[~test]
    part[~test] = split_by_group(machine[~test], clips, fractions=(VALIDATION, 0), seed=SEED)
    return part


def task(
    dataset: str,
    codes: NDArray[np.int8],
    *,
    part: NDArray[np.str_],
    label: NDArray[np.int64],
    machine: NDArray[np.int64],
    source: str,
    target_source: str,
    licence: str,
    synthetic: bool = False,
) -> TaskData:
    """Return the task of windows (clips, positions, frames, bands) and what is known of a clip."""
    count, positions = codes.shape[:2]
    x = codes.reshape(count * positions, *codes.shape[2:], 1).astype(np.float32)
    return TaskData(
        name="ad",
        dataset=dataset,
        x=x * np.float32(INPUT.step),
        y=np.repeat(label, positions),
        part=np.repeat(part, positions),
        group=np.repeat(np.arange(count), positions),
        section=np.repeat(machine, positions),
        classes=CLASSES,
        input_spec=INPUT,
        objective="reconstruct",
        metric="roc_auc",
        quality_target=0.85,
        target_source=target_source,
        source=source,
        licence=licence,
        citation="Koizumi et al., ToyADMOS, WASPAA 2019, arXiv:1908.03299; the task: Banbury et "
        "al., MLPerf Tiny Benchmark, arXiv:2106.07597",
        synthetic=synthetic,
    )


def load_synthetic() -> TaskData:
    """Make the stand-in: see `fastml_kit.tasks.ad_synthetic`."""
    made = ad_synthetic.make()
    return task(
        "ad-synthetic",
        windows(INPUT.to_codes(made.decibels).astype(np.int8), AD08_FRAMES, 1),
        part=parts(made.test, made.machine),
        label=made.label,
        machine=made.machine,
        source="synthetic stand-in: not ToyADMOS. Made by fastml_kit.tasks.ad_synthetic from seed "
        f"{ad_synthetic.SEED}, in the shape of MLPerf Tiny's anomaly detection; areas on it "
        "compare with no published one",
        target_source="the kit's own, for this stand-in",
        licence="Apache-2.0, as this kit",
        synthetic=True,
    )


DATASETS = (
    Dataset("toyadmos-toycar", "ToyADMOS ToyCar (64 inputs)", load_ad08, files=FILES),
    Dataset("toyadmos-toycar-640", "ToyADMOS ToyCar (640 inputs)", load_benchmark, files=FILES),
    Dataset(
        "ad-synthetic", "synthetic stand-in for ToyADMOS ToyCar", load_synthetic, synthetic=True
    ),
)
