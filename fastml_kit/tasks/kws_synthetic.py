"""The stand-in for keyword spotting: synthetic words, not Speech Commands.

The shape is the benchmark's: ten words, silence and unknown words, told apart by 49 frames of 10
mel-frequency cepstral coefficients (MFCC) of eight bits. The sounds are not: no microphone was
involved, so that no accuracy on them may stand beside a published one.

Each sample is made as speech is, in the coarsest way. A word is a sequence of sounds, each a
spectrum with three formants; a speaker has a vocal tract of some length and a tempo; an utterance
begins somewhere, stretches unevenly and lies in noise; and the logarithm of its mel spectrum goes
through a discrete cosine transform. Words share their sounds and differ in their order, and begin
anywhere, so that no weighted sum of the features tells them apart. An unknown word is any other
sequence of these sounds.

Task: Banbury et al., arXiv:2106.07597. The data that this stands in for: Warden, arXiv:1804.03209.
"""

import numpy as np
from numpy.typing import NDArray

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks.base import PARTS, TaskData

Floats = NDArray[np.float64]

#: Eight bits with a sign, read as -1 to 127/128; samples keep to -127..127, as the benchmark's do.
INPUT = FixedSpec(width=8, integer=1, signed=True)
FRAMES, COEFFICIENTS, BANDS = 49, 10, 16
SEED = 2026
#: Speakers of train, validation and test. Each says every class once, and is in one part only.
SPEAKERS = (500, 84, 168)

#: Sounds: length in frames, power, and where on the mel scale (0 to 1) their formants are.
SOUNDS = {
    "iy": (9, 1.0, 0.17, 0.72, 0.85),
    "eh": (9, 1.0, 0.33, 0.60, 0.80),
    "ah": (9, 1.0, 0.40, 0.49, 0.76),
    "aa": (9, 1.0, 0.45, 0.55, 0.74),
    "ow": (9, 1.0, 0.31, 0.44, 0.73),
    "uw": (9, 0.9, 0.19, 0.41, 0.72),
    "n": (6, 0.4, 0.14, 0.50, 0.70),
    "l": (6, 0.5, 0.20, 0.43, 0.78),
    "r": (6, 0.5, 0.21, 0.46, 0.58),
    "y": (5, 0.5, 0.15, 0.74, 0.90),
    "s": (7, 0.3, 0.80, 0.90, 1.00),
    "f": (6, 0.1, 0.60, 0.78, 0.97),
    "t": (4, 0.1, 0.70, 0.85, 0.95),
    "p": (4, 0.06, 0.30, 0.55, 0.80),
    "d": (4, 0.1, 0.20, 0.66, 0.86),
    "g": (4, 0.1, 0.22, 0.58, 0.64),
}
WORDS = {
    "down": "d aa ow n",
    "go": "g ow uw",
    "left": "l eh f t",
    "no": "n ow uw",
    "off": "aa ah f",
    "on": "aa ah n",
    "right": "r aa iy t",
    "stop": "s t aa p",
    "up": "ah p",
    "yes": "y eh s",
}
CLASSES = (*WORDS, "silence", "unknown")
LONGEST = 4  # sounds in a word

#: How much samples differ: standard deviations of natural logarithms. Of a speaker's tempo, a
#: sound's length, a speaker's vocal tract; of an utterance's power, its noise's, and each band's.
TEMPO, UNEVENNESS, TRACT = 0.3, 0.3, 0.1
LOUDNESS, NOISE, SPECKLE = 0.5, 0.7, 0.6
QUIET = -3.0  # the logarithm of the noise's power; a vowel's is about 0
FORMANT_WIDTH = 0.06
#: The logarithm that is read as 0, and the cepstrum's value that is read as 1.
MIDDLE, FULL_SCALE = -2.5, 12.0


def load() -> TaskData:
    """Make the stand-in: 6,000 samples to train on, 1,008 to validate, 2,016 to test.

    It is the same for every caller: the seed is the task's own, and the arithmetic is in float64,
    whose differences between machines vanish in eight bits. On the test part, a logistic
    regression is right about 0.66 of the time, the benchmark's network (``mlp_bn`` of width 256)
    0.91 in floating point, and 0.89 with three bits, after 10 epochs. The target is our own.
    """
    rng = np.random.default_rng(SEED)
    said = np.tile(np.arange(len(CLASSES)), sum(SPEAKERS))
    speaker = np.repeat(np.arange(sum(SPEAKERS)), len(CLASSES))
    features = cepstra(spectra(_utterances(said, rng), speaker, rng)) / FULL_SCALE
    codes = np.clip(INPUT.to_codes(features), -INPUT.high, INPUT.high)
    return TaskData(
        name="kws",
        dataset="kws-synthetic",
        x=INPUT.to_values(codes)[..., np.newaxis].astype(np.float32),
        y=said.astype(np.int64),
        part=np.repeat(PARTS, np.multiply(SPEAKERS, len(CLASSES))),
        classes=CLASSES,
        group=speaker.astype(np.int64),
        input_spec=INPUT,
        metric="accuracy",
        quality_target=0.85,
        target_source="the kit's own, for this stand-in",
        source="synthetic stand-in: not Speech Commands. Made by fastml_kit.tasks.kws_synthetic "
        f"from seed {SEED}, in the shape of MLPerf Tiny's keyword spotting; accuracies on it "
        "compare with no published one",
        licence="Apache-2.0, as this kit",
        citation="the task: Banbury et al., MLPerf Tiny Benchmark, arXiv:2106.07597; the data set "
        "that this stands in for: Warden, Speech Commands, arXiv:1804.03209",
        synthetic=True,
    )


def _utterances(said: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the sounds (n, LONGEST) of each class number in `said`; -1 where there is none."""
    number = {sound: index for index, sound in enumerate(SOUNDS)}
    words = [[number[sound] for sound in word.split()] for word in WORDS.values()]
    sounds = np.full((len(said), LONGEST), -1, dtype=np.int64)
    for row, label in zip(sounds, said, strict=True):
        if label == CLASSES.index("silence"):
            continue
        word = words[label] if label < len(words) else words[0]
        while label == CLASSES.index("unknown") and word in words:
            length = rng.integers(2, LONGEST + 1)
            word = rng.choice(len(SOUNDS), size=length, replace=False).tolist()
        row[: len(word)] = word
    return sounds


def spectra(
    sounds: NDArray[np.int64], speaker: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Return the logarithm of the power (n, FRAMES, BANDS) of utterances by speakers.

    `sounds` (n, LONGEST) are numbers of `SOUNDS`, -1 for none; `speaker` holds n numbers.
    """
    table = np.array(list(SOUNDS.values()))[sounds]  # what stands at -1 lasts for no time
    present, people, count = sounds >= 0, int(speaker.max()) + 1, len(sounds)
    tempo = np.exp(rng.normal(0, TEMPO, people))[speaker, np.newaxis]
    length = table[..., 0] * present * np.exp(rng.normal(0, UNEVENNESS, sounds.shape)) * tempo
    total = length.sum(axis=1, keepdims=True)
    length *= np.minimum(1, (FRAMES - 2) / np.maximum(total, 1))
    begin = rng.random((count, 1)) * (FRAMES - length.sum(axis=1, keepdims=True))
    ends = begin + np.cumsum(length, axis=1)

    frame = np.arange(FRAMES)[:, np.newaxis] + 0.5
    edges = np.concatenate([begin, ends], axis=1)[:, np.newaxis]
    reached = 1 / (1 + np.exp(-(frame - edges) / 0.7))  # (n, FRAMES, LONGEST + 1)
    share = reached[..., :-1] - reached[..., 1:]  # of each sound in each frame
    voiced = np.maximum(share.sum(axis=-1), 1e-9)

    tract = np.exp(rng.normal(0, TRACT, people))[speaker, np.newaxis]
    band = np.linspace(0, 1, BANDS)
    power = np.zeros((count, FRAMES, BANDS))
    scaled = np.empty_like(power)  # these arrays are large: work in place
    for formant in range(2, table.shape[-1]):
        # Between two sounds a formant moves from one place to the other.
        place = np.einsum("nfs,ns->nf", share, table[..., formant]) / voiced * tract
        np.subtract(place[..., np.newaxis], band, out=scaled)
        np.multiply(scaled, scaled, out=scaled)
        scaled *= -0.5 / FORMANT_WIDTH**2
        power += np.exp(scaled, out=scaled)
    loudness = np.einsum("nfs,ns->nf", share, table[..., 1])
    loudness *= np.exp(rng.normal(0, LOUDNESS, (count, 1)))
    colour = rng.normal(0, NOISE, (count, 1, 1)) * (2 * band - 1)
    noise = np.exp(QUIET + rng.normal(0, NOISE, (count, 1, 1)) + colour)
    power *= loudness[..., np.newaxis]
    power += noise
    rng.standard_normal(out=scaled)
    scaled *= SPECKLE
    scaled += np.log(power, out=power)
    return scaled


def cepstra(logarithms: Floats) -> Floats:
    """Return the first coefficients (n, FRAMES, COEFFICIENTS) of each frame's cosine transform."""
    angle = np.pi * np.outer(np.arange(BANDS) + 0.5, np.arange(COEFFICIENTS)) / BANDS
    basis = np.sqrt(2 / BANDS) * np.cos(angle)
    basis[:, 0] /= np.sqrt(2)
    transformed: Floats = (logarithms - MIDDLE) @ basis
    return transformed
