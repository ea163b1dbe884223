"""Anomaly detection: windows, clips and machines as the benchmark has them, and its stand-in."""

import hashlib
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastml_kit import tasks
from fastml_kit.errors import RunError
from fastml_kit.tasks import ad, ad_synthetic, audio, metrics
from fastml_kit.tasks.base import PARTS
from fastml_kit.tests.test_audio_frontends import as_file, chirp

LENGTH = 250 * audio.MEL_HOP  # samples that 250 frames are around


@pytest.fixture(scope="module")
def data():
    return tasks.load("ad", "ad-synthetic")


def rows(x):
    return x.reshape(len(x), -1)


def test_the_stand_in_has_the_shape_of_ad08(data):
    assert data.x.shape[1:] == (2, 32, 1) and data.objective == "reconstruct"
    counts = {part: (data.part == part).sum() for part in PARTS}
    assert counts == {"train": 7200, "validation": 800, "test": 3200}
    assert str(data.input_spec) == "fixed<8,8>" and -100 < data.x.min() < data.x.max() < 40


def test_the_stand_in_does_not_pass_for_the_real_data(data):
    assert data.synthetic
    assert data.source.startswith("synthetic stand-in: not ToyADMOS")


def test_the_stand_in_is_the_same_for_every_caller(data):
    assert np.array_equal(tasks.load("ad", "ad-synthetic").x, data.x)
    codes = data.input_spec.to_codes(data.x).astype(np.int8)
    # Whoever changes the data changes every area that was measured on it.
    assert hashlib.sha256(codes.tobytes()).hexdigest()[:16] == "7f60b0ebfd90a58b"


def test_only_what_is_normal_is_trained_on(data):
    for part in ("train", "validation"):
        assert not data.select(part)[1].any()
    assert data.select("test")[1].mean() == 0.5
    for part in PARTS:
        assert set(data.section[data.part == part]) == {1, 2, 3, 4}


def test_no_clip_is_on_two_sides(data):
    clips = [set(data.group[data.part == part]) for part in PARTS]
    assert [len(found) for found in clips] == [360, 40, 160]
    assert len(set.union(*clips)) == 560


def test_windows_move_on_by_a_frame_and_overlap():
    x = np.arange(3 * 9 * 8, dtype=np.int8).reshape(3, 9, 8)
    whole = ad.windows(x, 5, 1)
    assert whole.shape == (3, 5, 5, 8)
    for position in range(5):
        assert np.array_equal(whole[:, position], x[:, position : position + 5])
    small = ad.windows(x, 2, 4)
    assert np.array_equal(small, whole[:, :, :2, ::4])


def test_neither_loudness_nor_a_plane_tells_anomalies_but_more_does(data):
    from sklearn.decomposition import PCA

    x, test = rows(data.select("train")[0]), rows(data.select("test")[0])

    def area(dimensions):
        plane = PCA(dimensions, random_state=0).fit(x)
        return metrics.score(data, "test", plane.inverse_transform(plane.transform(test)))

    assert metrics.score(data, "test", np.tile(x.mean(axis=0), (len(test), 1))) < 0.6
    assert area(8) < 0.7  # AD08 has eight numbers in its middle, too, but is no plane
    assert area(24) > 0.8


def test_an_anomaly_is_what_its_kind_says(monkeypatch):
    for name in ("SPEED", "DISTANCE", "SPECKLE"):
        monkeypatch.setattr(ad_synthetic, name, 0.0)
    place, height = np.array([8.0, 20.0]), np.array([15.0, 12.0])

    def change(kind, seed=0):
        """Return how the mean spectrum of a clip of this kind differs, and by frame."""
        one, normal = (
            ad_synthetic.clip(place, height, name, np.random.default_rng(seed))
            for name in (kind, "")
        )
        return (one - normal).mean(axis=0), one - normal

    monkeypatch.setattr(ad_synthetic, "LOAD", 0.0)
    assert not change("")[0].any()
    more, less = change("more")[0], change("less")[0]
    assert more.min() > -1e-9 and more.max() > 3 and np.median(more) < 1
    assert less.max() < 1e-9 and less.min() < -9 and less.argmin() in (8, 20)
    loud = change("knock")[1]
    struck = np.flatnonzero(loud.mean(axis=1) > 2.9)
    assert len(set(np.diff(struck))) == 1 and 5 <= np.diff(struck)[0] < 9
    assert np.ptp(loud[struck]) < 1e-9 and not loud.sum(axis=1)[~np.isin(range(24), struck)].any()
    monkeypatch.setattr(ad_synthetic, "LOAD", 4.0)
    slip = change("slip")[0]
    assert np.abs(slip[20]) > 3 and np.abs(slip[20]) > np.abs(slip[8])  # the upper resonance more


@pytest.mark.slow
def test_a_float_autoencoder_reaches_the_stand_ins_target(data):
    from sklearn.neural_network import MLPRegressor

    x, test = rows(data.select("train")[0]), rows(data.select("test")[0])
    mean, spread = x.mean(axis=0), x.std()
    network = MLPRegressor(
        hidden_layer_sizes=(72, 72, 8, 72, 72), batch_size=128, max_iter=60, random_state=0
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*hasn't converged")
        network.fit((x - mean) / spread, (x - mean) / spread)
    output = network.predict((test - mean) / spread) * spread + mean
    assert metrics.reached(data, metrics.score(data, "test", output))


def toycar(path, clips):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ToyCar/README.txt", "not a clip")
        for name, samples in clips.items():
            archive.writestr(f"ToyCar/{name}.wav", as_file(samples, "WAV"))
    return path


def test_toycars_archives_are_read_clip_by_clip(tmp_path):
    clips = {
        "train/normal_id_02_00000001": chirp(LENGTH / audio.RATE, seed=1),
        "train/normal_id_01_00000000": chirp(LENGTH / audio.RATE, seed=2),
        "test/anomaly_id_01_00000000": chirp(LENGTH / audio.RATE, seed=3),
    }
    more = {"train/normal_id_05_00000000": chirp(LENGTH / audio.RATE, seed=4)}
    paths = toycar(tmp_path / "dev.zip", clips), toycar(tmp_path / "more.zip", more)
    found = ad.read_toycar(paths)
    assert found["machine"].tolist() == [1, 1, 2, 5]
    assert found["label"].tolist() == [1, 0, 0, 0]
    assert found["test"].tolist() == [True, False, False, False]
    assert found["codes"].shape == (4, 200, 128)
    wave = np.round(clips["test/anomaly_id_01_00000000"] * 2**15) / 2**15
    want = np.round(audio.log_mel(wave)[50:250])
    assert np.abs(found["codes"][0] - want).max() <= 1  # the file's rounding may differ
    assert np.mean(found["codes"][0] != want) < 0.01


def test_archives_that_are_not_toycars_are_refused(tmp_path):
    with pytest.raises(RunError, match="no clips of ToyCar"):
        ad.read_toycar([toycar(tmp_path / "empty.zip", {})])
    short = toycar(tmp_path / "short.zip", {"test/normal_id_01_00000000": chirp(2.0)})
    with pytest.raises(RunError, match=r"clip test_normal_01_00000000 is too short: \(13, 128\)"):
        ad.read_toycar([short])
    clip = {"test/normal_id_01_00000000": chirp(LENGTH / audio.RATE)}
    twice = [toycar(tmp_path / name, clip) for name in ("one.zip", "two.zip")]
    with pytest.raises(RunError, match=r"two\.zip holds .* a second time"):
        ad.read_toycar(twice)


def test_a_tenth_of_each_machines_clips_validates():
    test = np.repeat([False, True], [200, 40])
    machine = np.concatenate([np.repeat([1, 2, 3, 4], 50), np.repeat([1, 2, 3, 4], 10)])
    part = ad.parts(test, machine)
    assert np.array_equal(part == "test", test)
    assert np.bincount(machine[part == "validation"]).tolist() == [0, 5, 5, 5, 5]
    assert np.array_equal(part, ad.parts(test, machine))


def reconstruction(path, x):
    """Return what a network in TensorFlow Lite makes of rows (n, 640) of decibels."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow announces that its interpreter moves out
        network = tf.lite.Interpreter(str(path))
    (taken,), (given,) = network.get_input_details(), network.get_output_details()
    network.resize_tensor_input(taken["index"], x.shape)
    network.allocate_tensors()
    network.set_tensor(taken["index"], x.astype(np.float32))
    network.invoke()
    return network.get_tensor(given["index"])


@pytest.mark.needs_data
def test_the_benchmarks_float_network_scores_its_sample_as_published():
    folder = Path(os.environ["FASTML_DATA"])
    sample = folder / "mlperf_tiny/ad01_sample/normal_id_01_00000000_hist_librosa.bin"
    spectrum = np.fromfile(sample, dtype="<f4").reshape(1, 200, 128)
    network = folder / "oracles/mlperf_tiny_ref/ad01_fp32.tflite"

    x = rows(ad.windows(spectrum, ad.WINDOW, 1)[0])
    assert x.shape == (196, 640)
    score = np.mean((reconstruction(network, x) - x) ** 2)
    assert round(float(score), 4) == 9.7071

    codes = ad.INPUT.to_codes(spectrum)  # whole decibels, as here, add noise of 1/12
    x = rows(ad.windows(codes, ad.WINDOW, 1)[0]).astype(np.float64)
    assert np.mean((reconstruction(network, x) - x) ** 2) == pytest.approx(
        9.7071 + 1 / 12, abs=0.05
    )
