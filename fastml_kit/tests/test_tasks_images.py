"""Image classification: CIFAR-10 as published and through JPEG, what is alike, and the stand-in."""

import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fastml_kit import tasks
from fastml_kit.errors import RunError
from fastml_kit.tasks import alike, arrays, ic, ic_synthetic
from fastml_kit.tasks.base import PARTS


@pytest.fixture(scope="module")
def data():
    return tasks.load("ic", "ic-synthetic")


@pytest.fixture(scope="module")
def pictures():
    """Return 40 made images, no two alike."""
    return ic_synthetic.make(seed=5).pixels[:40]


def rows(x):
    return x.reshape(len(x), -1)


def test_the_stand_in_has_the_shape_of_cifar10(data):
    assert data.x.shape == (6800, 32, 32, 3) and data.x.dtype == np.float32
    assert str(data.input_spec) == "ufixed<8,0>" and data.x.min() == 0 and data.x.max() == 255 / 256
    for part, count in zip(PARTS, ic_synthetic.COUNTS, strict=True):
        assert np.array_equal(np.bincount(data.select(part)[1]), [count] * 10)


def test_the_stand_in_does_not_pass_for_the_real_data(data):
    assert data.synthetic
    assert data.source.startswith("synthetic stand-in: not CIFAR-10")


def test_the_stand_in_is_the_same_for_every_caller(data):
    codes = data.input_spec.to_codes(data.x).astype(np.uint8)
    # Whoever changes the data changes every accuracy that was measured on it.
    assert hashlib.sha256(codes.tobytes()).hexdigest()[:16] == "1e970b44bb59fa3f"
    assert len(np.unique(rows(codes), axis=0)) == len(codes)


def test_no_weighted_sum_of_pixels_reaches_the_stand_ins_target(data):
    from sklearn.linear_model import RidgeClassifier

    (x, y), (x_test, y_test) = data.select("train"), data.select("test")
    assert RidgeClassifier(100.0).fit(rows(x), y).score(rows(x_test), y_test) < 0.6


def test_figures_are_told_apart_by_how_much_they_cover_of_a_circle_around_them():
    """Each figure has its own profile over the radius, whatever its place, size and turn."""
    radius = np.linspace(0.05, 1, 20)
    angle = np.linspace(0, 2 * np.pi, 721)[:-1]
    u, v = radius[:, np.newaxis] * np.cos(angle), radius[:, np.newaxis] * np.sin(angle)
    profiles = np.array(
        [(ic_synthetic.distance(name, u, v) < 0).mean(axis=1) for name in ic_synthetic.CLASSES]
    )
    apart = np.abs(profiles[:, np.newaxis] - profiles).mean(axis=2)
    assert apart[~np.eye(10, dtype=bool)].min() > 0.02
    assert (profiles * radius).sum(axis=1).min() / radius.sum() > 0.1  # each can be seen


@pytest.mark.slow
def test_a_small_float_network_reaches_the_stand_ins_target(data):
    import tf_keras as keras

    keras.utils.set_random_seed(1)
    layers = [keras.layers.Input((32, 32, 3))]
    for filters in (16, 32, 48):
        layers += [
            keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(10)]
    network = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(2e-3), loss)
    network.fit(*data.select("train"), batch_size=64, epochs=9, verbose=0)
    x, y = data.select("test")
    right = network.predict(x, verbose=0).argmax(axis=1) == y
    assert right.mean() > data.quality_target


class Bad:
    def __reduce__(self):
        return (os.system, ("true",))


def batches(path, pictures, **changed):
    """Write an archive in the layout of CIFAR-10's, and return it and its checksums."""
    known = {}
    with tarfile.open(path, "w:gz") as tar:
        for number, name in enumerate(ic.BATCHES):
            images = pictures[number * 5 : number * 5 + 5]
            batch = {
                b"data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(5, -1),
                b"labels": [number] * 5,
            }
            content = pickle.dumps(changed.get(name, batch), protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            known[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return path, known


def test_batches_are_read_in_order_and_colours_last(tmp_path, pictures):
    pixels, label, test = ic.read_batches(*batches(tmp_path / "cifar.tar.gz", pictures))
    assert np.array_equal(pixels, pictures[:30])
    assert label.tolist() == np.repeat(range(6), 5).tolist()
    assert test.tolist() == [False] * 25 + [True] * 5


def test_batches_that_are_not_as_published_are_refused(tmp_path, pictures):
    path, known = batches(tmp_path / "cifar.tar.gz", pictures)
    with pytest.raises(RunError, match="data_batch_3 in it is missing or not what was published"):
        ic.read_batches(path, {**known, "data_batch_3": "0" * 32})
    with pytest.raises(RunError, match="data_batch_9 in it is missing"):
        ic.read_batches(path, {**known, "data_batch_9": "0" * 32})
    with pytest.raises(RunError, match="data_batch_1 in it is missing or not what was published"):
        ic.read_batches(path)  # these are not CIFAR-10


def test_a_batch_builds_nothing_but_arrays(tmp_path, pictures):
    path, known = batches(tmp_path / "cifar.tar.gz", pictures, test_batch=Bad())
    with pytest.raises(RunError, match=r"holds no posix\.system"):
        ic.read_batches(path, known)


def test_the_published_set_leaves_out_what_resembles_a_test_image(tmp_path, pictures, monkeypatch):
    doubled = pictures.copy()
    doubled[25] = doubled[3]  # a test image that is also there to train on
    path, known = batches(tmp_path / "cifar.tar.gz", doubled)
    monkeypatch.setenv("FASTML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ic.fetch, "require", lambda file: path)
    monkeypatch.setattr(ic, "BATCHES", known)
    found = ic.load_cifar10()
    assert len(found.x) == 29 and (found.part == "test").sum() == 5
    assert np.array_equal(found.select("test")[0], ic.inputs(doubled[25:30]))
    trained = found.x[found.part != "test"]
    assert not (rows(trained) == rows(ic.inputs(doubled[3:4]))).all(axis=1).any()


def jpegs(path, images):
    """Write a .tar.xz of images or bytes by name."""
    from PIL import Image

    with tarfile.open(path, "w:xz") as tar:
        for name, image in images.items():
            stream = io.BytesIO()
            if not isinstance(image, bytes):
                Image.fromarray(image).save(stream, "JPEG", quality=95)
            content = image if isinstance(image, bytes) else stream.getvalue()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_jpegs_are_read_sorted_by_class_and_name(tmp_path, pictures):
    names = ["train/dog/0002.jpg", "train/airplane/0001.jpg", "train/dog/0001.jpg"]
    flat = [np.full((32, 32, 3), 40 * (number + 1), dtype=np.uint8) for number in range(3)]
    path = jpegs(tmp_path / "j.tar.xz", dict(zip(names, flat, strict=True)))
    pixels, label = ic.read_jpegs(path)
    assert label.tolist() == [0, 5, 5]
    assert np.abs(pixels[:, 0, 0, 0].astype(int) - [80, 120, 40]).max() <= 2


def test_jpegs_that_are_no_images_of_cifar10_are_refused(tmp_path, pictures):
    path = tmp_path / "j.tar.xz"
    for name, image, message in [
        ("train/cow/0000.jpg", pictures[0], "no image of CIFAR-10"),
        ("train/cat/0000.jpg", b"<html>", "no image of CIFAR-10"),
        ("train/cat/0000.jpg", pictures[0][:16], r"shape \(16, 32, 3\)"),
        ("train/cat/0000.png", pictures[0], "no images"),
    ]:
        with pytest.raises(RunError, match=message):
            ic.read_jpegs(jpegs(path, {name: image}))


def test_images_that_come_from_one_another_are_of_one_group(pictures):
    rng = np.random.default_rng(0)
    original = pictures[:4].astype(np.float64)
    noisy = original + rng.normal(0, 6, original.shape)
    paler = original * 0.7 + 60
    tinted = original + np.array([20, -10, 0])
    changed = [np.clip(x, 0, 255).astype(np.uint8) for x in (noisy, paler, tinted)]
    found = alike.groups(np.concatenate([pictures, *changed, pictures[:4]]))
    want = np.concatenate([np.arange(40), *[np.arange(4)] * 4])
    assert np.array_equal(found[:, np.newaxis] == found, want[:, np.newaxis] == want)


def test_images_of_one_colour_are_alike_only_if_they_are_equal():
    flat = np.array([7, 7, 90, 200], dtype=np.uint8)[:, np.newaxis, np.newaxis, np.newaxis]
    found = alike.groups(np.broadcast_to(flat, (4, 32, 32, 3)))
    assert found[0] == found[1] and len(set(found)) == 3


def test_blocks_change_no_group(pictures, monkeypatch):
    many = np.concatenate([pictures, pictures[::3]])
    whole = alike.groups(many)
    monkeypatch.setattr(alike, "BLOCK", 7)
    assert np.array_equal(alike.groups(many), whole)


@pytest.fixture(scope="module")
def jpeg():
    if "FASTML_DATA" not in os.environ:
        pytest.skip("needs data sets: set FASTML_DATA to their folder")
    return tasks.load("ic", "cifar10-jpeg")


def test_the_copy_has_a_tenth_to_test_with(jpeg):
    assert jpeg.x.shape == (50_000, 32, 32, 3) and not jpeg.synthetic
    assert np.array_equal(np.bincount(jpeg.y), [5000] * 10)
    for part, share in zip(PARTS, (0.8, 0.1, 0.1), strict=True):
        counts = np.bincount(jpeg.select(part)[1], minlength=10)
        assert np.abs(counts / 5000 - share).max() < 0.01
    assert "CIFAR-10 (JPEG copy)" in jpeg.source


def test_no_image_or_its_like_is_on_two_sides(jpeg):
    sides = [set(jpeg.group[jpeg.part == part]) for part in PARTS]
    assert len(set.union(*sides)) == sum(len(side) for side in sides) == jpeg.group.max() + 1
    several = np.bincount(jpeg.group) > 1
    assert 100 < several.sum() < 1000  # there are doubles, and they are few


def test_the_second_time_nothing_is_decoded(jpeg, monkeypatch):
    monkeypatch.setattr(ic, "read_jpegs", None)
    again = tasks.load("ic", "cifar10-jpeg")
    assert np.array_equal(again.x, jpeg.x) and np.array_equal(again.part, jpeg.part)


def test_how_far_the_copy_is_from_what_is_published(jpeg):
    folder = Path(os.environ["FASTML_DATA"]) / "cifar10"
    known = arrays.read(folder / "cifar10_train_first4000_canonical.npz")
    row = known["y"].astype(np.int64) * 5000 + known["jpeg_index_in_class"]
    difference = ic.INPUT.to_codes(jpeg.x[row]) - known["x"].astype(np.int64)
    assert np.array_equal(jpeg.y[row], known["y"])
    assert np.abs(difference).mean() == pytest.approx(5.8, abs=0.1)
