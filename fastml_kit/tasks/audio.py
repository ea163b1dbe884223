"""Front ends of the audio tasks: from samples of sound to the features that a network sees.

`mfcc` is MLPerf Tiny's for keyword spotting, which TensorFlow's ``tf.signal`` computes there: 49
frames of 10 mel-frequency cepstral coefficients. `log_mel` is its one for anomaly detection, which
librosa computes there: 128 mel bands in decibels. Both are written out here in NumPy and SciPy, in
float64, so that a data set can be read without either library; the tests hold them against both.

The two disagree on what a mel is: `htk_filters` has triangles on O'Shaughnessy's scale, as HTK and
TensorFlow do, `slaney_filters` those of Slaney's Auditory Toolbox, librosa's default.

Sources: the benchmark's ``keyword_spotting/get_dataset.py`` and ``anomaly_detection/common.py``
(github.com/mlcommons/tiny); Slaney, Auditory Toolbox, Interval Research 1998-010.
"""

import io
from collections.abc import Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest, RunError

Floats = NDArray[np.float64]

#: Samples a second, of every data set here.
RATE = 16_000

#: `mfcc`: windows of 30 ms every 20 ms, and the bands and coefficients of a frame.
MFCC_WINDOW, MFCC_HOP, MFCC_FFT = 480, 320, 512
MFCC_BANDS, MFCC_LOW_HZ, MFCC_HIGH_HZ, MFCC_OFFSET = 40, 20.0, 4000.0, 1e-6
FRAMES, COEFFICIENTS = 49, 10

#: `log_mel`: windows of 64 ms every 32 ms.
MEL_FFT, MEL_HOP, MEL_BANDS = 1024, 512, 128

#: Clips that are transformed at once: a compromise between speed and memory.
BLOCK = 64


def read(content: bytes, name: str) -> NDArray[np.int16]:
    """Return the samples (n,) of a WAV or FLAC file of one channel, 16 bits and 16 kHz.

    Raises:
        BadRequest: it has another rate or number of channels; `name` says which file it was.
        RunError: it is no sound file, or a damaged one.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    except soundfile.LibsndfileError as error:
        raise RunError(f"{name} cannot be read as sound: {error}") from error
    if rate != RATE or samples.ndim != 1:
        channels = samples.shape[1] if samples.ndim > 1 else 1
        raise BadRequest(
            f"{name} has {channels} channels at {rate} Hz; this task takes one at {RATE} Hz"
        )
    found: NDArray[np.int16] = samples
    return found


def normalized(clip: ArrayLike, length: int = RATE) -> Floats:
    """Return a clip (n,) divided by its largest sample, silence appended up to `length` samples.

    So the benchmark does: the largest value is that of the samples with their sign, before the
    clip is filled up. A clip without a positive sample, which would divide by zero there or turn
    its sign, is divided by its largest magnitude, and a clip of nothing but zeros stays as it is.

    Raises:
        BadRequest: the clip is longer than `length`.
    """
    clip = np.asarray(clip, dtype=np.float64)
    if len(clip) > length:
        raise BadRequest(f"a clip of {len(clip)} samples; at most {length} were expected")
    largest = clip.max(initial=0) or np.abs(clip).max(initial=0)
    filled = np.zeros(length)
    filled[: len(clip)] = clip / largest if largest else clip
    return filled


def mfcc(clips: Iterable[ArrayLike]) -> Floats:
    """Return the cepstra (n, 49, 10) of n clips of 16,000 samples each, between -1 and 1.

    The magnitude of the spectrum of each frame under a Hann window, summed by 40 triangles between
    20 Hz and 4 kHz; the logarithm; the first ten coefficients of its cosine transform.

    Raises:
        BadRequest: a clip has another length; `normalized` fills a shorter one up.
    """
    from scipy.fft import dct, rfft

    filters = htk_filters(MFCC_BANDS, MFCC_FFT, RATE, MFCC_LOW_HZ, MFCC_HIGH_HZ)
    blocks = []
    for block in _blocks(clips, RATE):
        framed = frames(block, MFCC_WINDOW, MFCC_HOP) * hann(MFCC_WINDOW)
        power = np.abs(rfft(framed, MFCC_FFT)) @ filters
        cepstra = dct(np.log(power + MFCC_OFFSET), type=2) / np.sqrt(2 * MFCC_BANDS)
        blocks.append(cepstra[..., :COEFFICIENTS])
    return np.concatenate(blocks) if blocks else np.zeros((0, FRAMES, COEFFICIENTS))


def log_mel(clip: ArrayLike) -> Floats:
    """Return the power (frames, 128) of a clip (n,) in mel bands and decibels.

    There is a frame every 512 samples, the first one around sample 0: the clip is taken to be
    silent outside. Samples are between -1 and 1.
    """
    from scipy.fft import rfft

    padded = np.pad(np.asarray(clip, dtype=np.float64), MEL_FFT // 2)
    framed = frames(padded, MEL_FFT, MEL_HOP) * hann(MEL_FFT)
    power = np.abs(rfft(framed)) ** 2 @ slaney_filters(MEL_BANDS, MEL_FFT, RATE)
    decibels: Floats = 10 * np.log10(power + np.finfo(np.float64).eps)
    return decibels


def frames(signal: Floats, length: int, hop: int) -> Floats:
    """Return the frames (..., count, length) of a signal (..., n) that lie in it entirely."""
    return sliding_window_view(signal, length, axis=-1)[..., ::hop, :]


def hann(length: int) -> Floats:
    """Return the periodic Hann window: its next sample would be its first again."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def htk_filters(bands: int, fft: int, rate: int, low_hz: float, high_hz: float) -> Floats:
    """Return triangles (fft / 2 + 1, bands) of height 1, linear in mel, as TensorFlow has them.

    The bin at 0 Hz belongs to none.
    """

    def mel(hertz: ArrayLike) -> Floats:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(low_hz), mel(high_hz), bands + 2)
    place = mel(np.linspace(0, rate / 2, fft // 2 + 1))
    triangles = _triangles(place, edges)
    triangles[0] = 0
    return triangles


def slaney_filters(bands: int, fft: int, rate: int) -> Floats:
    """Return triangles (fft / 2 + 1, bands) of area 1, linear in hertz, as librosa has them.

    Slaney's scale is linear up to 1 kHz, at 3 mel every 200 Hz, and logarithmic above, where 27
    mel are a factor of 6.4.
    """
    knee_mel, mel_step = 15.0, np.log(6.4) / 27
    highest = knee_mel + np.log(rate / 2 / 1000.0) / mel_step
    mels = np.linspace(0, highest, bands + 2)
    logarithmic = 1000.0 * np.exp(mel_step * (mels - knee_mel))
    edges = np.where(mels < knee_mel, mels * 200 / 3, logarithmic)
    triangles = _triangles(np.linspace(0, rate / 2, fft // 2 + 1), edges)
    return triangles * (2 / (edges[2:] - edges[:-2]))


def _triangles(place: Floats, edges: Floats) -> Floats:
    """Return how high each triangle (from an edge over the next to the second next) is at `place`.

    The result has shape (len(place), len(edges) - 2).
    """
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    place = place[:, np.newaxis]
    rising, falling = (place - left) / (middle - left), (right - place) / (right - middle)
    return np.maximum(0, np.minimum(rising, falling))


def _blocks(clips: Iterable[ArrayLike], length: int) -> Iterable[Floats]:
    """Yield arrays of up to `BLOCK` clips, all of which must be `length` samples long."""
    block: list[Floats] = []
    for clip in clips:
        block.append(np.asarray(clip, dtype=np.float64))
        if block[-1].shape != (length,):
            raise BadRequest(f"a clip of shape {block[-1].shape}; ({length},) was expected")
        if len(block) == BLOCK:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)
