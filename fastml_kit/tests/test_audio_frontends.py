"""The audio front ends give what TensorFlow and librosa give for the same sound."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from fastml_kit.errors import BadRequest, RunError
from fastml_kit.tasks import arrays, audio


def chirp(seconds=1.0, seed=0):
    """Return a tone that rises from 50 Hz to 7 kHz, with noise."""
    time = np.arange(round(seconds * audio.RATE)) / audio.RATE
    phase = 2 * np.pi * (50 * time + 6950 / (2 * seconds) * time**2)
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return 0.5 * np.sin(phase) + noise


def as_file(samples, kind, rate=audio.RATE):
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype="PCM_16")
    return stream.getvalue()


def tensorflow_mfcc(waves):
    """Return the cepstra by the calls that the benchmark makes, in double precision."""
    import tensorflow as tf

    spectrum = tf.abs(tf.signal.stft(tf.constant(waves), 480, 320, window_fn=tf.signal.hann_window))
    mel = tf.signal.linear_to_mel_weight_matrix(
        40, spectrum.shape[-1], 16_000, 20.0, 4000.0, dtype=tf.float64
    )
    logarithm = tf.math.log(spectrum @ mel + 1e-6)
    return tf.signal.mfccs_from_log_mel_spectrograms(logarithm)[..., :10].numpy()


def test_mfcc_is_tensorflows():
    rng = np.random.default_rng(1)
    waves = np.stack([chirp(), rng.normal(0, 0.1, 16_000), np.zeros(16_000), np.eye(16_000)[777]])
    got = audio.mfcc(waves)
    assert got.shape == (4, 49, 10)
    np.testing.assert_allclose(got, tensorflow_mfcc(waves), rtol=0, atol=1e-11)


def test_tensorflows_triangles():
    import tensorflow as tf

    for bands, fft, low, high in ((40, 512, 20.0, 4000.0), (20, 1024, 125.0, 7600.0)):
        want = tf.signal.linear_to_mel_weight_matrix(
            bands, fft // 2 + 1, 16_000, low, high, dtype=tf.float64
        )
        got = audio.htk_filters(bands, fft, 16_000, low, high)
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-12)


def test_log_mel_is_librosas():
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle of this test")
    wave = chirp(seconds=1.7)
    power = librosa.feature.melspectrogram(
        y=wave, sr=16_000, n_fft=1024, hop_length=512, n_mels=128, power=2.0
    )
    want = 20.0 / 2.0 * np.log10(power + np.finfo(float).eps)
    got = audio.log_mel(wave)
    assert got.shape == want.T.shape == (1 + len(wave) // 512, 128)
    np.testing.assert_allclose(got, want.T, rtol=0, atol=1e-5)  # its window is in single precision
    quiet = librosa.feature.melspectrogram(y=np.zeros(2000), sr=16_000, n_fft=1024, hop_length=512)
    np.testing.assert_allclose(
        audio.log_mel(np.zeros(2000)), 10 * np.log10(quiet.T + np.finfo(float).eps)
    )


def test_librosas_triangles():
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle of this test")
    for bands, fft, rate in ((128, 1024, 16_000), (40, 512, 16_000), (64, 2048, 44_100)):
        want = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=bands, dtype=np.float64)
        got = audio.slaney_filters(bands, fft, rate)
        np.testing.assert_allclose(got, want.T, rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", [0, 1, audio.BLOCK - 1, audio.BLOCK, audio.BLOCK + 1])
def test_how_many_clips_there_are_changes_none(count):
    waves = np.random.default_rng(2).normal(0, 0.1, (audio.BLOCK + 1, 16_000))
    assert np.array_equal(audio.mfcc(iter(waves[:count])), audio.mfcc(waves)[:count])


def test_a_clip_of_another_length_is_refused():
    with pytest.raises(BadRequest, match=r"shape \(15999,\); \(16000,\) was expected"):
        audio.mfcc([np.zeros(16_000), np.zeros(15_999)])


def test_a_clip_is_scaled_by_its_largest_sample_and_filled_up():
    clip = np.array([-400, 200, 100], dtype=np.int16)
    assert np.array_equal(audio.normalized(clip, 5), [-2, 1, 0.5, 0, 0])
    assert np.array_equal(audio.normalized(np.array([-4, -2]), 3), [-1, -0.5, 0])
    assert np.array_equal(audio.normalized(np.zeros(2), 3), np.zeros(3))
    assert np.array_equal(audio.normalized(np.array([], dtype=np.int16), 2), np.zeros(2))
    with pytest.raises(BadRequest, match="a clip of 4 samples; at most 3"):
        audio.normalized(np.ones(4), 3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_sound_files_are_read_to_the_bit(kind):
    samples = np.random.default_rng(3).integers(-(2**15), 2**15, 4000).astype(np.int16)
    assert np.array_equal(audio.read(as_file(samples, kind), "clip"), samples)


def test_what_is_no_such_sound_is_refused():
    samples = np.zeros((100, 2), dtype=np.int16)
    with pytest.raises(BadRequest, match=r"a\.wav has 2 channels at 16000 Hz; .* one at 16000 Hz"):
        audio.read(as_file(samples, "WAV"), "a.wav")
    with pytest.raises(BadRequest, match=r"b\.wav has 1 channels at 8000 Hz"):
        audio.read(as_file(samples[:, 0], "WAV", rate=8000), "b.wav")
    for damaged in (b"", b"<html>not found</html>", as_file(samples[:, 0], "FLAC")[:20]):
        with pytest.raises(RunError, match=r"c\.flac cannot be read as sound"):
            audio.read(damaged, "c.flac")


@pytest.mark.needs_data
def test_mfcc_is_near_an_independent_one_of_real_speech():
    """Features that somebody else computed of the same clips, kept in half precision."""
    from fastml_kit.tasks import archives

    folder = Path(os.environ["FASTML_DATA"]) / "speech_arabic"
    known = arrays.read(folder / "asc_trainval_mfcc49x10_f16.npz", "x", "path")
    row = {Path(path).with_suffix(""): index for index, path in enumerate(known["path"].tolist())}
    clips = dict(
        archives.members(
            folder / "asc_trainval_10kw_plus_unknown_flac.tar",
            wanted=lambda name: name.endswith("_05.flac") and "/stop/" in name,
        )
    )
    assert len(clips) == 24
    got = audio.mfcc(audio.normalized(audio.read(content, name)) for name, content in clips.items())
    want = known["x"][[row[Path(name).with_suffix("")] for name in clips]].astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=4e-3)
