"""Keyword spotting as MLPerf Tiny poses it: which word was said in one second of sound.

A network sees 49 frames of 10 mel-frequency cepstral coefficients (`audio.mfcc`) in eight bits.
Three data sets have them:

- ``speech-commands``: Google's Speech Commands v0.02, the benchmark's own. Ten words, silence and
  unknown, parts as TensorFlow Datasets makes them: its list of validation clips, the rest but its
  list of test clips to train on, and the separate test archive. Silence to train on is cut every
  half a second from five recordings of noise, that to validate from ``running_tap.wav``. Four of
  five clips to train on have some of that noise mixed in.
- ``arabic-speech-commands``: ten words of the Arabic Speech Commands in the same layout, each said
  ten times by 24 speakers. The authors' validation speakers are the test part; three others are the
  validation part. No noise is mixed in.
- ``kws-synthetic``: a stand-in, see `fastml_kit.tasks.kws_synthetic`.

The benchmark's int8 network takes its input with a scale of 0.5847 and a zero point of 83, which
reaches from -123 to 26; the FPGA submission takes a scale of 0.3367 and no zero point, -42.8 to
42.8. Here the scale is a power of two, 1/2, and there is no zero point: -63.5 to 63.5, read as
-127/128 to 127/128. What is cut off is the first coefficient, the loudness, of silent frames: one
value in 90,000 of the Arabic ones. (With 1/4, every fifth of those coefficients would be.)

Sources: Warden, arXiv:1804.03209; Banbury et al., arXiv:2106.07597; ``get_dataset.py`` of the
benchmark (github.com/mlcommons/tiny) and the ``speech_commands`` builder of TensorFlow Datasets.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import RunError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks import archives, arrays, audio, fetch, kws_synthetic
from fastml_kit.tasks.base import Dataset, Part, TaskData

#: Eight bits with a sign, read as -1 to 127/128; codes keep to -127..127, as the benchmark's do.
INPUT = FixedSpec(width=8, integer=1, signed=True)
#: The cepstrum's value that is read as 1.
FULL_SCALE = 64.0
SEED = 2026

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
CLASSES = (*WORDS, "silence", "unknown")
NOISE, SILENCE = "_background_noise_", "_silence_"
VALIDATION_NOISE = "running_tap.wav"
#: The benchmark's defaults: which share of the clips has noise, and up to how loud it is.
NOISE_SHARE, NOISE_VOLUME = 0.8, 0.1

ARABIC_WORDS = ("down", "left", "no", "right", "stop", "up", "yes", "start", "enable", "disable")
#: The speakers of the author's validation list, and three of the others.
ARABIC_TEST = ("00000002", "00000007", "00000008", "00000012", "00000021", "00000025")
ARABIC_VALIDATION = ("00000009", "00000017", "00000024")

_PLACES = (
    "https://storage.googleapis.com/download.tensorflow.org/data",
    "http://download.tensorflow.org/data",
)
#: Checksums and sizes as TensorFlow Datasets states them.
GOOGLE = fetch.File(
    "speech_commands_v0.02.tar.gz",
    digest="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    urls=tuple(f"{place}/speech_commands_v0.02.tar.gz" for place in _PLACES),
    size=2_428_923_189,
)
GOOGLE_TEST = fetch.File(
    "speech_commands_test_set_v0.02.tar.gz",
    digest="sha256:cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
    urls=tuple(f"{place}/speech_commands_test_set_v0.02.tar.gz" for place in _PLACES),
    size=112_563_277,
)
#: 2,400 clips of ten words and 900 of others, as FLAC, from the authors' training and validation
#: lists.
ARABIC = fetch.File(
    "speech_arabic/asc_trainval_10kw_plus_unknown_flac.tar",
    digest="sha256:cd189db61e47c7bc585a59ce81211a9ceef754802780aa4869e43d1e7c78b8e1",
    size=60_661_760,
)
_log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """One second of sound, as `audio.mfcc` takes it, and what is known of it."""

    wave: NDArray[np.float64]
    label: int
    part: Part
    speaker: str


def load_google() -> TaskData:
    """Load Google's Speech Commands; the first time takes minutes, later ones about a second."""

    def make() -> arrays.Arrays:
        _log.warning("computing the features of Speech Commands: some minutes, once")
        return features(google_clips(fetch.require(GOOGLE), fetch.require(GOOGLE_TEST)))

    return _task(
        "speech-commands",
        arrays.kept(
            arrays.key("kws-google", (GOOGLE, GOOGLE_TEST), __file__, audio.__file__), make
        ),
        CLASSES,
        source="Speech Commands v0.02 (Google), clips and parts as MLPerf Tiny takes them",
        citation="Warden, Speech Commands, arXiv:1804.03209; the task: Banbury et al., MLPerf Tiny "
        "Benchmark, arXiv:2106.07597",
        target_source="MLPerf Tiny's closed division: 90 % top-1 (MLPerfTiny_Rules.adoc)",
    )


def load_arabic() -> TaskData:
    """Load the ten words of the Arabic Speech Commands."""
    return _task(
        "arabic-speech-commands",
        arrays.kept(
            arrays.key("kws-arabic", (ARABIC,), __file__, audio.__file__),
            lambda: features(arabic_clips(fetch.require(ARABIC))),
        ),
        ARABIC_WORDS,
        source="Arabic Speech Commands (Google layout): ten of its 40 words, from the authors' "
        "training and validation lists; accuracies on it compare with none on Google's",
        citation="Ghandoura, Hjabo & Al Dakkak, Building and benchmarking an Arabic Speech "
        "Commands dataset for small-footprint keyword spotting, Engineering Applications of "
        "Artificial Intelligence 102, 2021",
        target_source="the kit's own: a logistic regression on these features reaches 0.87",
    )


def google_clips(archive: Path, test: Path) -> Iterator[Clip]:
    """Yield the clips of Google's archives, those to train on with noise mixed in.

    Raises:
        RunError: an archive is damaged, or lacks its lists or its recordings of noise.
    """
    validation, testing, noises = _lists_and_noise(archive)
    mixed_in = [noise for name, noise in sorted(noises.items()) if name != VALIDATION_NOISE]
    rng = np.random.default_rng(SEED)
    for name, noise in sorted(noises.items()):
        part: Part = "validation" if name == VALIDATION_NOISE else "train"
        for start in range(0, len(noise) - audio.RATE, audio.RATE // 2):
            wave = audio.normalized(noise[start : start + audio.RATE])
            if part == "train":
                wave = _with_noise(wave, mixed_in, rng)
            yield Clip(wave, CLASSES.index("silence"), part, name)
    for path, content in archives.members(archive, wanted=lambda name: name.endswith(".wav")):
        name = path.removeprefix("./")
        word = PurePosixPath(name).parent.name
        if word == NOISE or name in testing:
            continue
        part = "validation" if name in validation else "train"
        wave = audio.normalized(audio.read(content, name))
        if part == "train":
            wave = _with_noise(wave, mixed_in, rng)
        yield Clip(wave, _label(word), part, _speaker(name))
    for path, content in archives.members(test, wanted=lambda name: name.endswith(".wav")):
        word = PurePosixPath(path).parent.name
        yield Clip(
            audio.normalized(audio.read(content, path)), _label(word), "test", _speaker(path)
        )


def arabic_clips(archive: Path) -> Iterator[Clip]:
    """Yield the clips of the ten words.

    Raises:
        RunError: the archive is damaged.
    """

    def wanted(name: str) -> bool:
        return name.endswith(".flac") and PurePosixPath(name).parent.name in ARABIC_WORDS

    for name, content in archives.members(archive, wanted=wanted):
        path = PurePosixPath(name)
        speaker = path.name.partition("_")[0]
        part: Part = "train"
        if speaker in ARABIC_TEST or speaker in ARABIC_VALIDATION:
            part = "test" if speaker in ARABIC_TEST else "validation"
        wave = audio.normalized(audio.read(content, name))
        yield Clip(wave, ARABIC_WORDS.index(path.parent.name), part, speaker)


def features(clips: Iterable[Clip]) -> arrays.Arrays:
    """Return the codes (n, 49, 10) of clips, and their labels, parts and speakers' numbers.

    Clips to train on whose speaker is also heard in another part are left out.
    """
    known: list[tuple[int, str, str]] = []

    def waves() -> Iterator[NDArray[np.float64]]:
        for clip in clips:
            known.append((clip.label, clip.part, clip.speaker))
            yield clip.wave

    codes = np.clip(INPUT.to_codes(audio.mfcc(waves()) / FULL_SCALE), -INPUT.high, INPUT.high)
    label, part, speaker = (np.array(column) for column in zip(*known, strict=True))
    _, group = np.unique(speaker, return_inverse=True)
    keep = (part != "train") | ~np.isin(group, group[part != "train"])
    if not keep.all():
        _log.warning("%d clips to train on are of speakers in other parts", (~keep).sum())
    return {
        "codes": codes[keep].astype(np.int8),
        "label": label[keep].astype(np.int64),
        "part": part[keep],
        "group": group[keep].astype(np.int64),
    }


def _task(
    dataset: str,
    found: arrays.Arrays,
    classes: tuple[str, ...],
    *,
    source: str,
    citation: str,
    target_source: str,
) -> TaskData:
    return TaskData(
        name="kws",
        dataset=dataset,
        x=INPUT.to_values(found["codes"])[..., np.newaxis].astype(np.float32),
        y=found["label"],
        part=found["part"],
        group=found["group"],
        classes=classes,
        input_spec=INPUT,
        metric="accuracy",
        quality_target=0.90,
        target_source=target_source,
        source=source,
        licence="CC BY 4.0",
        citation=citation,
    )


def _lists_and_noise(archive: Path) -> tuple[set[str], set[str], dict[str, NDArray[np.int16]]]:
    """Return the clips to validate with and to test with, and the recordings of noise by name."""
    lists: dict[str, set[str]] = {}
    noises = {}
    for path, content in archives.members(archive):
        name = PurePosixPath(path)
        if name.suffix == ".txt":
            lists[name.name] = set(content.decode("ascii").split())
        elif name.parent.name == NOISE and name.suffix == ".wav":
            noises[name.name] = audio.read(content, path)
    missing = {"validation_list.txt", "testing_list.txt"} - lists.keys()
    if VALIDATION_NOISE not in noises:
        missing.add(f"{NOISE}/{VALIDATION_NOISE}")
    if missing or len(noises) < 2:
        raise RunError(f"{archive} is no Speech Commands: {sorted(missing) or 'noise'} is missing")
    return lists["validation_list.txt"], lists["testing_list.txt"], noises


def _with_noise(
    wave: NDArray[np.float64], noises: list[NDArray[np.int16]], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a clip with noise mixed in, at a random volume, or as often as is set as it is.

    The benchmark draws while it builds its TensorFlow graph, and so once for all clips; here, as
    it was meant, every clip has noise of its own.
    """
    noise = noises[rng.integers(len(noises))]
    start = rng.integers(len(noise) - audio.RATE)
    volume = rng.uniform(0, NOISE_VOLUME) * (rng.random() < NOISE_SHARE)
    return np.clip(wave + volume * noise[start : start + audio.RATE] / 2**15, -1, 1)


def _label(word: str) -> int:
    if word == SILENCE:
        return CLASSES.index("silence")
    return CLASSES.index(word if word in WORDS else "unknown")


def _speaker(name: str) -> str:
    """Return who speaks in a clip ``word/0123abcd_nohash_0.wav``; a clip of noise is on its own."""
    before, found, _ = PurePosixPath(name).name.partition("_nohash_")
    return before.rpartition("_")[2] if found else name


DATASETS = (
    Dataset("speech-commands", "Speech Commands v0.02", load_google, files=(GOOGLE, GOOGLE_TEST)),
    Dataset(
        "arabic-speech-commands",
        "Arabic Speech Commands (Google layout)",
        load_arabic,
        files=(ARABIC,),
    ),
    Dataset(
        "kws-synthetic",
        "synthetic stand-in for Speech Commands",
        kws_synthetic.load,
        synthetic=True,
    ),
)
