"""Keyword spotting on recorded speech: parts, labels and noise as the benchmark makes them."""

import io
import os
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastml_kit import tasks
from fastml_kit.errors import RunError
from fastml_kit.tasks import arrays, audio, kws
from fastml_kit.tasks.base import PARTS
from fastml_kit.tests.test_audio_frontends import as_file


def archive(path, files):
    """Write a .tar.gz of texts and of samples by name, and return its path."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else as_file(content, "WAV")
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sound(seed, length=audio.RATE):
    return np.random.default_rng(seed).integers(-9000, 9000, length).astype(np.int16)


@pytest.fixture
def google(tmp_path):
    """A Speech Commands of a few clips: as the real one lies in its archives."""
    files = {
        "./validation_list.txt": "yes/bbbbbbbb_nohash_0.wav\nbed/bbbbbbbb_nohash_0.wav\n",
        "./testing_list.txt": "yes/cccccccc_nohash_0.wav\n",
        "./README.md": "not a list",
        "./yes/aaaaaaaa_nohash_0.wav": sound(1),
        "./yes/aaaaaaaa_nohash_1.wav": sound(2, 11_000),
        "./bed/aaaaaaaa_nohash_0.wav": sound(3),
        "./yes/bbbbbbbb_nohash_0.wav": sound(4),
        "./bed/bbbbbbbb_nohash_0.wav": sound(5),
        "./yes/cccccccc_nohash_0.wav": sound(6),
        "./_background_noise_/running_tap.wav": sound(7, 40_000),
        "./_background_noise_/pink_noise.wav": sound(8, 33_000),
        "./_background_noise_/white_noise.wav": sound(9, 24_001),
    }
    test = {
        "./yes/cccccccc_nohash_0.wav": sound(6),
        "./_unknown_/bed_dddddddd_nohash_0.wav": sound(10),
        "./_silence_/0.wav": sound(11),
    }
    return archive(tmp_path / "all.tar.gz", files), archive(tmp_path / "test.tar.gz", test)


def test_parts_and_labels_are_the_benchmarks(google):
    clips = list(kws.google_clips(*google))
    found = {part: sorted((c.speaker, kws.CLASSES[c.label]) for c in clips if c.part == part)
             for part in PARTS}  # fmt: skip
    assert found == {
        "train": [
            ("aaaaaaaa", "unknown"),
            ("aaaaaaaa", "yes"),
            ("aaaaaaaa", "yes"),
            *[("pink_noise.wav", "silence")] * 3,  # from samples 0, 8000 and 16000 on
            *[("white_noise.wav", "silence")] * 2,
        ],
        "validation": [
            ("bbbbbbbb", "unknown"),
            ("bbbbbbbb", "yes"),
            *[("running_tap.wav", "silence")] * 3,
        ],
        "test": [
            ("./_silence_/0.wav", "silence"),
            ("cccccccc", "yes"),
            ("dddddddd", "unknown"),
        ],
    }
    assert all(clip.wave.shape == (16_000,) and np.abs(clip.wave).max() <= 1.01 for clip in clips)


def test_noise_is_mixed_in_to_train_on_only_and_never_what_validates(google, monkeypatch):
    monkeypatch.setattr(kws, "NOISE_SHARE", 1.0)
    noisy = list(kws.google_clips(*google))
    monkeypatch.setattr(kws, "NOISE_VOLUME", 0.0)
    clean = list(kws.google_clips(*google))
    noises = [sound(8, 33_000) / 2**15, sound(9, 24_001) / 2**15]  # pink and white
    for with_noise, without in zip(noisy, clean, strict=True):
        difference = with_noise.wave - without.wave
        if with_noise.part != "train":
            assert not difference.any()
            continue
        unclipped = (np.abs(with_noise.wave) < 1) & (np.abs(without.wave) < 1)
        assert difference.any() and unclipped.mean() > 0.9
        fits = []
        for noise in noises:
            pieces = np.lib.stride_tricks.sliding_window_view(noise, 16_000)[:, :64]
            place = (pieces @ difference[:64] / np.linalg.norm(pieces, axis=1)).argmax()
            piece = noise[place : place + 16_000]
            volume = (
                piece[unclipped] @ difference[unclipped] / (piece[unclipped] @ piece[unclipped])
            )
            fits.append((np.abs(difference - volume * piece)[unclipped].max(), volume))
        error, volume = min(fits)
        assert error < 1e-9 and 0 < volume < 0.1


def test_features_are_the_same_for_every_caller_and_speakers_are_kept_apart(google):
    one, other = (kws.features(kws.google_clips(*google)) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert one["codes"].shape == (16, 49, 10) and one["codes"].dtype == np.int8
    assert np.abs(one["codes"].astype(int)).max() <= 127
    wanted = audio.mfcc([audio.normalized(sound(4))])[0] * 2  # steps of a half
    found = one["codes"][(one["part"] == "validation") & (one["label"] == kws.CLASSES.index("yes"))]
    assert np.array_equal(found[0], np.clip(np.round(wanted), -127, 127))


def test_who_is_heard_elsewhere_is_not_trained_on(google, tmp_path, caplog):
    all_clips, _ = google
    leak = archive(tmp_path / "leak.tar.gz", {"./no/aaaaaaaa_nohash_4.wav": sound(12)})
    found = kws.features(kws.google_clips(all_clips, leak))
    trained, tested = (found["group"][found["part"] == part] for part in ("train", "test"))
    assert len(tested) == 1 and not set(trained) & set(tested)
    assert "3 clips to train on are of speakers in other parts" in caplog.text


def test_an_archive_without_its_lists_is_refused(tmp_path, google):
    lacking = archive(tmp_path / "lacking.tar.gz", {"./yes/aaaaaaaa_nohash_0.wav": sound(1)})
    with pytest.raises(RunError, match=r"no Speech Commands: .*running_tap.*testing_list.*missing"):
        list(kws.google_clips(lacking, google[1]))


@pytest.fixture(scope="module")
def arabic():
    if "FASTML_DATA" not in os.environ:
        pytest.skip("needs data sets: set FASTML_DATA to their folder")
    return tasks.load("kws", "arabic-speech-commands")


def test_arabic_has_the_benchmarks_shape(arabic):
    assert arabic.x.shape == (2400, 49, 10, 1) and not arabic.synthetic
    for part, count in zip(PARTS, (150, 30, 60), strict=True):
        assert np.array_equal(np.bincount(arabic.select(part)[1]), [count] * 10)
    assert "Arabic Speech Commands (Google layout)" in arabic.source


def test_no_arabic_speaker_or_clip_is_on_two_sides(arabic):
    rows = arabic.x.reshape(len(arabic.x), -1)
    assert len(np.unique(rows, axis=0)) == len(rows)
    heard = [set(arabic.group[arabic.part == part]) for part in PARTS]
    assert [len(speakers) for speakers in heard] == [15, 3, 6]
    assert len(set().union(*heard)) == 24


def test_the_test_speakers_are_the_authors_validation_speakers():
    if "FASTML_DATA" not in os.environ:
        pytest.skip("needs data sets: set FASTML_DATA to their folder")
    folder = Path(os.environ["FASTML_DATA"]) / "speech_arabic"
    known = arrays.read(folder / "asc_trainval_mfcc49x10_f16.npz", "path", "split")
    speaker = np.array([Path(path).name[:8] for path in known["path"].tolist()])
    assert set(speaker[known["split"] == "val"]) == set(kws.ARABIC_TEST)
    assert set(kws.ARABIC_VALIDATION) < set(speaker[known["split"] == "train"])


def test_a_weighted_sum_spots_arabic_words_about_as_well_as_is_known(arabic):
    """A logistic regression on somebody else's features, all 18 speakers to train on: 0.877."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mask = arabic.part == "test"
    x, y = arabic.x.reshape(len(arabic.x), -1), arabic.y
    steps = StandardScaler(), LogisticRegression(C=0.01, max_iter=60, tol=1e-3)
    assert 0.83 < make_pipeline(*steps).fit(x[~mask], y[~mask]).score(x[mask], y[mask]) < 0.91


@pytest.mark.needs_data
def test_the_benchmarks_int8_network_gives_its_stored_outputs():
    """Its inputs are cepstra as these: that its answers are right shows that the format is."""
    import tensorflow as tf

    folder = Path(os.environ["FASTML_DATA"])
    known = arrays.read(folder / "mlperf_tiny" / "kws01_first100.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow announces that its interpreter moves out
        network = tf.lite.Interpreter(str(folder / "oracles/mlperf_tiny_ref/kws_ref_model.tflite"))
    network.allocate_tensors()
    (taken,), (given,) = network.get_input_details(), network.get_output_details()
    scale, zero = taken["quantization"]
    assert scale == pytest.approx(0.5847, abs=1e-4) and zero == 83
    got = []
    for codes in known["x"]:
        network.set_tensor(taken["index"], codes.reshape(taken["shape"]))
        network.invoke()
        got.append(network.get_tensor(given["index"])[0])
    assert np.array_equal(got, known["kws_ref_int8_tflite_out"])
    assert np.mean(np.argmax(got, axis=1) == known["y"]) > 0.85
