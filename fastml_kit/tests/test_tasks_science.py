"""The tasks of physics: splits that do not leak, and grids chosen by the training part."""

import hashlib
import http.server
import json
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from fastml_kit import tasks
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks import arrays, econt, fetch, jets, magic, metrics, tabular, wafer
from fastml_kit.tasks.base import PARTS, split_by_group

SYNTHETIC = [("magic", "magic-synthetic"), ("econt", "econt-synthetic"), ("jets", "jets-synthetic")]
REAL = [("magic", "uci-magic-70"), ("econt", "hgcal-ttbar")]
SETS = [*SYNTHETIC, *(pytest.param(*name, marks=pytest.mark.needs_data) for name in REAL)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTML_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def counts(data):
    return [int((data.part == part).sum()) for part in PARTS]


def checksum(data):
    return hashlib.sha256(data.x.tobytes() + data.y.tobytes() + data.part.tobytes()).hexdigest()[
        :16
    ]


@pytest.mark.parametrize(("task", "dataset"), SETS)
def test_loading_gives_what_is_promised_every_time(task, dataset):
    data = tasks.load(task, dataset)
    assert (data.name, data.dataset) == (task, dataset)
    assert data.synthetic == dataset.endswith("synthetic") == ("stand-in" in data.source)
    assert data.licence and data.citation and data.target_source
    assert data.metric in metrics.METRICS and data.x.ndim == 4
    again = tasks.load(task, dataset)
    assert np.array_equal(data.x, again.x) and np.array_equal(data.part, again.part)


@pytest.mark.parametrize(
    ("task", "dataset", "shape", "sizes", "spec", "digest"),
    [
        (
            "magic",
            "magic-synthetic",
            (1, 1, 10),
            [8400, 1200, 2400],
            FixedSpec(8, 3),
            "16d8a3b8d71bd2b9",
        ),
        (
            "econt",
            "econt-synthetic",
            (8, 8, 1),
            [9590, 1200, 1210],
            econt.INPUT,
            "6d122fa0dd28b7b5",
        ),
        ("jets", "jets-synthetic", (1, 1, 16), [10500, 1500, 3000], jets.INPUT, "b6861f55b60d491f"),
        pytest.param(
            *(
                "magic",
                "uci-magic-70",
                (1, 1, 10),
                [9323, 1327, 2664],
                FixedSpec(8, 3),
                "d76e55d7cdcebd33",
            ),
            marks=pytest.mark.needs_data,
        ),
        pytest.param(
            *(
                "econt",
                "hgcal-ttbar",
                (8, 8, 1),
                [24784, 2752, 3051],
                econt.INPUT,
                "1f8cf1238024919f",
            ),
            marks=pytest.mark.needs_data,
        ),
    ],
)
def test_sizes_formats_and_checksums_are_what_they_were(task, dataset, shape, sizes, spec, digest):
    data = tasks.load(task, dataset)
    assert data.x.shape[1:] == shape and data.input_spec == spec
    assert counts(data) == sizes
    assert checksum(data) == digest


@pytest.mark.parametrize(("task", "dataset"), SETS)
def test_nothing_that_the_network_sees_is_on_two_sides(task, dataset):
    data = tasks.load(task, dataset)
    flat = data.x.reshape(len(data.x), -1)
    sides = [{row.tobytes() for row in flat[data.part == part]} for part in PARTS]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    of_group = {}
    for group, part in zip(data.group, data.part, strict=True):
        assert of_group.setdefault(int(group), part) == part


@pytest.mark.needs_data
def test_repeated_sensors_are_groups_and_there_are_many():
    data = tasks.load("econt", "hgcal-ttbar")
    sizes = np.bincount(data.group)
    assert len(sizes) < 0.6 * len(data.x) and sizes.max() > 100
    assert data.licence.startswith("none stated") and "no published one" in data.source


@pytest.mark.needs_data
def test_the_part_of_magic_says_that_it_is_a_part():
    data = tasks.load("magic", "uci-magic-70")
    assert "a 70 % part, 13,314 of 19,020" in data.source
    assert "70 % part" in next(d.title for d in tasks.datasets("magic") if d.name == data.dataset)
    assert np.bincount(data.y).tolist() == [4711, 8603]


@pytest.mark.needs_data
def test_the_copy_in_the_pack_is_chosen_before_the_stand_in(monkeypatch):
    assert tasks.choose("magic") == "uci-magic-70" and tasks.choose("econt") == "hgcal-ttbar"
    monkeypatch.delenv("FASTML_DATA")
    assert tasks.choose("magic") == "magic-synthetic" and tasks.choose("econt") == "econt-synthetic"


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("file", "load"), [(magic.PART, magic.load_part), (econt.CHARGES, econt.load_real)]
)
def test_a_damaged_copy_in_the_pack_is_refused(tmp_path, monkeypatch, file, load):
    content = Path(os.environ["FASTML_DATA"], file.name).read_bytes()
    copy = tmp_path / "pack" / file.name
    copy.parent.mkdir(parents=True)
    monkeypatch.setenv("FASTML_DATA", str(tmp_path / "pack"))
    for damaged in (content[:-100], content[:1000], b"<html>", b""):
        copy.write_bytes(damaged)
        with pytest.raises(RunError, match="is damaged"):
            load()


# Standardisation and the grid


def split_of(rows, seed=0):
    return np.random.default_rng(seed).choice(PARTS, rows, p=(0.6, 0.2, 0.2))


@pytest.mark.parametrize("module", [magic, jets])
def test_columns_are_standardised_as_scikit_learn_does_by_the_training_part(module):
    x, _ = module.simulate(np.random.default_rng(1), 500)
    train = split_of(500) == "train"
    want = StandardScaler().fit(x[train]).transform(x)
    assert tabular.standardize(x, train) == pytest.approx(want, abs=1e-9)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), factor=st.floats(-100, 100))
def test_what_is_not_trained_on_changes_nothing_that_is(seed, factor):
    x, y = magic.simulate(np.random.default_rng(seed), 300)
    data = magic._task("magic-synthetic", x, y, source="test", synthetic=True)
    other = data.part == "test"
    changed = x.copy()
    changed[other] = changed[other] * factor + np.arange(other.sum())[:, np.newaxis] * 0.37
    train = data.part == "train"
    before, after = (tabular.standardize(v, train) for v in (x, changed))
    assert np.array_equal(before[train], after[train])
    assert tabular.grid(before[train], 8) == tabular.grid(after[train], 8) == data.input_spec


@given(width=st.integers(7, 12), scale=st.floats(0.01, 7), seed=st.integers(0, 1000))
def test_the_grid_is_the_finest_that_holds_nearly_all(width, scale, seed):
    values = np.random.default_rng(seed).standard_t(4, 3000) * scale
    spec = tabular.grid(values, width)
    cut = [
        np.mean((values < s.low * s.step) | (values > s.high * s.step))
        for s in (spec, FixedSpec(width, spec.integer - 1) if spec.integer > 1 else spec)
    ]
    assert spec.width == width and cut[0] <= tabular.CUT_OFF
    assert spec.integer == 1 or cut[1] > tabular.CUT_OFF


def test_a_constant_column_and_bad_values_are_met():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [9.0, 6.0]])
    train = np.array([True, True, False])
    assert tabular.standardize(x, train).tolist() == [[-1, 0], [1, 0], [7, 1]]
    x[2, 0] = np.inf
    for bad in ((x, train), (x[:2], train[:2] & False)):
        with pytest.raises(BadRequest, match="to standardise takes"):
            tabular.standardize(*bad)
    with pytest.raises(BadRequest, match="do not fit 4 bits"):
        tabular.grid(np.array([1e6]), 4)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), copies=st.integers(2, 6))
def test_equal_events_stay_together_however_often_they_occur(seed, copies):
    rng = np.random.default_rng(seed)
    x, y = magic.simulate(rng, 60)
    order = rng.permutation(np.tile(np.arange(60), copies))
    data = magic._task("magic-synthetic", x[order], y[order], source="test", synthetic=True)
    for event in range(60):
        assert len(set(data.part[order == event])) == 1
    assert set(data.part) == set(PARTS)


# ECON-T's normalisation


@given(
    st.lists(
        st.lists(st.integers(0, 60000), min_size=48, max_size=48).filter(any),
        min_size=1,
        max_size=5,
    )
)
def test_sensors_are_divided_by_the_power_of_two_of_their_sum(rows):
    charges = np.array(rows)
    sums = charges.sum(axis=1, keepdims=True)
    published = charges / 2 ** np.floor(np.log2(sums))  # as train.py has it
    got = econt.normalize(charges)
    assert np.array_equal(got, published)
    assert (got.sum(axis=1) >= 1).all() and (got.sum(axis=1) < 2).all()
    # quantized_bits(10, 3): a sign, three bits above the point, six below.
    assert np.array_equal(
        econt.INPUT.to_values(econt.INPUT.to_codes(got)),
        FixedSpec(10, 4).to_values(FixedSpec(10, 4).to_codes(got)),
    )


def test_sensors_without_charge_are_left_out_and_the_rest_is_an_image():
    charges = econt.simulate(np.random.default_rng(0), 200)
    silent = np.vstack([charges, np.zeros((7, 48), dtype=np.int64)])
    data = econt._task("econt-synthetic", silent, source="test", licence="test", synthetic=True)
    assert len(data.x) == 200
    codes = econt.INPUT.to_codes(wafer.from_image(data.x))
    assert np.array_equal(codes, econt.INPUT.to_codes(econt.normalize(charges)))


def test_a_perfect_copy_has_no_distance_and_a_blurred_one_has():
    data = tasks.load("econt", "econt-synthetic")
    x, _ = data.select("test")
    assert metrics.score(data, "test", x) == pytest.approx(0, abs=1e-9)
    uniform = np.broadcast_to((wafer.ARRANGEMENT >= 0)[..., np.newaxis], x.shape)
    assert not metrics.reached(data, metrics.score(data, "test", uniform))


# Published files


def magic_archive(path, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("magic04.names", "about")
        archive.writestr("magic04.data", text)
    return path


def magic_text(x, y):
    return "".join(f"{','.join(map(str, row))},{'hg'[k]}\n" for row, k in zip(x, y, strict=True))


def test_the_archive_of_magic_is_read_and_held_to_its_size(tmp_path, cache):
    x, y = magic.simulate(np.random.default_rng(0), magic.EVENTS)
    text = magic_text(x.tolist(), y.tolist())
    cache.mkdir(parents=True)
    magic_archive(cache / magic.WHOLE.name, text)
    assert tasks.choose("magic") == "uci-magic"
    data = tasks.load("magic")
    assert np.array_equal(data.y, y) and "all 19,020 events" in data.source
    assert data.group.tolist() == tabular.equal_rows(x).tolist()
    for wrong, message in (
        (text[:-200], "holds a table of|holds no table"),
        (text.replace(",g", ",x"), "holds no table of MAGIC's events"),
        ("", "holds a table of"),
    ):
        with pytest.raises(RunError, match=message):
            magic.read_archive(magic_archive(tmp_path / "wrong.zip", wrong))
    (tmp_path / "cut.zip").write_bytes((cache / magic.WHOLE.name).read_bytes()[:-50])
    with pytest.raises(RunError, match="damaged or truncated"):
        magic.read_archive(tmp_path / "cut.zip")


def jets_arff(count=400):
    x, y = jets.simulate(np.random.default_rng(0), count)
    names = "".join(f"@ATTRIBUTE f{n} REAL\n" for n in range(jets.FEATURES))
    rows = "".join(
        f"{','.join(map(repr, row))},{jets.CLASSES[k]}\n"
        for row, k in zip(x.tolist(), y.tolist(), strict=True)
    )
    return x, y, f"@RELATION jets\n{names}@ATTRIBUTE class {{g,q,t,w,z}}\n@DATA\n{rows}"


class OpenML(http.server.BaseHTTPRequestHandler):
    """Answers as OpenML does: what it knows of a set, and the set."""

    def do_GET(self):
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def openml(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OpenML) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        text = jets_arff()[2].encode()
        about = {
            "name": "hls4ml_lhc_jets_hlf",
            "url": f"{address}/jets.arff",
            "md5_checksum": hashlib.md5(text).hexdigest(),
        }
        server.about = about
        server.files = {"/jets.arff": text}
        monkeypatch.setattr(jets, "ABOUT", fetch.File("about.json", urls=(f"{address}/about",)))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def answer(openml, **changes):
    content = {"data_set_description": {**openml.about, **changes}}
    openml.files["/about"] = json.dumps(content).encode()


def test_jets_come_from_the_address_and_with_the_checksum_that_openml_states(openml, cache):
    assert tasks.choose("jets") == "jets-synthetic"
    answer(openml)
    found = tasks.datasets("jets")[0]
    found.download()
    assert tasks.choose("jets") == "openml-42468"
    data = tasks.load("jets")
    x, y, _ = jets_arff()
    assert np.array_equal(data.y, y) and data.classes == jets.CLASSES and not data.synthetic
    want = jets.INPUT.to_codes(tabular.standardize(x, data.part == "train"))
    assert np.array_equal(jets.INPUT.to_codes(data.x[:, 0, 0]), want)
    (cache / jets.JETS.name).write_bytes(b"something else")
    with pytest.raises(RunError, match=r"is damaged.*is remembered in"):
        tasks.load("jets")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"md5_checksum": "0" * 32}, "what came has the checksum md5:"),
        ({"name": "iris"}, "does not describe the jets at OpenML.*iris"),
        ({"url": None}, "does not describe the jets|cannot download"),
    ],
)
def test_jets_that_openml_describes_otherwise_are_refused(openml, cache, changes, message):
    answer(openml, **changes)
    with pytest.raises(RunError, match=message):
        tasks.datasets("jets")[0].download()
    assert not (cache / jets.JETS.name).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("@ATTRIBUTE f3 REAL\n", ""), "damaged or no ARFF|15 features"),
        (lambda text: text[: len(text) // 2], "damaged or no ARFF"),
        (lambda text: text.replace("@DATA", ""), "damaged or no ARFF"),
        (lambda text: text.replace("{g,q,t,w,z}", "{g,q}"), "damaged or no ARFF"),
        (lambda text: "", "damaged or no ARFF"),
        (lambda text: text.split("@DATA")[0] + "@DATA\n", "damaged or no ARFF|the classes"),
    ],
)
def test_jets_that_are_no_table_of_jets_are_refused(tmp_path, change, message):
    path = tmp_path / "jets.arff"
    path.write_text(change(jets_arff()[2]))
    with pytest.raises(RunError, match=message):
        jets.read_arff(path)


def test_made_up_jets_are_not_separated_by_weighted_sums():
    data = tasks.load("jets", "jets-synthetic")
    (x, y), (u, v) = ((a.reshape(len(a), -1), b) for a, b in map(data.select, ("train", "test")))
    linear = LogisticRegression(max_iter=200).fit(x, y).score(u, v)
    tree = DecisionTreeClassifier(max_depth=12, random_state=0).fit(x, y).score(u, v)
    assert 0.5 < linear < 0.66 and linear < tree
    assert np.bincount(y).min() > 0.18 * len(y)


# Arrays in files


def test_arrays_are_kept_and_made_anew_when_damaged(cache):
    made = []

    def make():
        made.append(1)
        return {"x": np.arange(5), "y": np.ones((2, 3), dtype=np.float32)}

    for _ in range(3):
        found = arrays.kept("toy-1", make)
        assert found["x"].tolist() == list(range(5)) and found["y"].dtype == np.float32
    assert len(made) == 1
    (path,) = (cache.parent / "made").iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    assert arrays.kept("toy-1", make)["x"].tolist() == list(range(5)) and len(made) == 2
    arrays.kept("toy-2", make)
    assert len(made) == 3


def test_arrays_that_cannot_be_kept_are_returned(cache):
    cache.parent.write_text("a file where the folder should be")
    assert arrays.kept("toy", lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]


def test_objects_and_other_files_are_no_arrays(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([print], dtype=object))
    np.save(tmp_path / "single.npy", np.arange(3))
    np.savez(tmp_path / "good.npz", x=np.arange(3))
    for name, message in (("objects.npz", "damaged or no"), ("single.npy", "is no .npz file")):
        with pytest.raises(RunError, match=message):
            arrays.read(tmp_path / name, "x")
    with pytest.raises(RunError, match=r"has no \['y'\]; it has \['x'\]"):
        arrays.read(tmp_path / "good.npz", "x", "y")


def test_a_group_with_two_labels_still_stays_together():
    y, groups = np.array([0, 1] * 20), np.repeat(np.arange(20), 2)
    part = split_by_group(y, groups, fractions=(0.25, 0.25), seed=1)
    assert np.array_equal(part[::2], part[1::2]) and set(part) == set(PARTS)
