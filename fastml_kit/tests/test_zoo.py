"""The model zoo: its table, fetching by checksum from a server of our own, and accuracy."""

import http.server
import logging
import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastml_kit.errors import BadRequest, RunError
from fastml_kit.files import sha256
from fastml_kit.graph import execute, zoo
from fastml_kit.graph.zoo_table import MODELS
from fastml_kit.tests.networks import mlp

NAME = "TFC_1W1A"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve the server's `files`; a path that ends in `cut` breaks off in the middle."""

    def do_GET(self):
        self.server.asked += 1
        content = self.server.files.get(self.path.removesuffix("cut"))
        self.send_response(404 if content is None else 200)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path.endswith("cut") else content)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {}, 0
        server.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTML_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qonnx_zoo"


@pytest.fixture
def published(server, cache, tmp_path, monkeypatch):
    """Publish a small network under the name of a zoo model; return its file."""
    path = mlp(tmp_path / "published.onnx", seed=5, sizes=(6, 9, 4))
    server.files["/model.onnx"] = path.read_bytes()
    change(
        monkeypatch,
        url=f"{server.address}/model.onnx",
        sha256=sha256(path),
        input_shape=(6,),
    )
    return path


def change(monkeypatch, **fields):
    monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], **fields))


def test_the_table_is_pinned_and_whole():
    assert len(MODELS) == 28
    for name, model in MODELS.items():
        assert name == model.name
        assert 50 < model.accuracy < 100
        assert model.url is None or model.url.endswith(".onnx")
        assert model.url is None or re.search("/[0-9a-f]{40}/|/a2q-20240905/", model.url)
        assert model.sha256 is None or len(bytes.fromhex(model.sha256)) == 32
        assert model.page.startswith("https://github.com/fastmachinelearning/qonnx_model_zoo/")
    addresses = [model.url for model in MODELS.values() if model.url]
    assert len(set(addresses)) == len(addresses) == 21
    assert {name for name, model in MODELS.items() if model.sha256} == {NAME, "qkeras_jettagging"}


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(BadRequest, match="Did you mean 'TFC_2W2A'"):
        zoo.fetch("tfc_2w2a")
    with pytest.raises(BadRequest, match="Did you mean 'kwsmlp_w3a3'"):
        zoo.fetch("kwsmlp_w4a3")


def test_a_model_is_fetched_once_and_held_to_its_checksum(server, cache, published):
    path = zoo.fetch(NAME)
    assert path == zoo.cached(NAME) == cache / f"{NAME}.onnx"
    assert path.read_bytes() == published.read_bytes()
    assert zoo.fetch(NAME) == path
    assert server.asked == 1
    assert list(cache.iterdir()) == [path]
    path.write_bytes(b"something else")
    with pytest.raises(RunError, match=f"{NAME}.onnx is not zoo model {NAME}: its sha256"):
        zoo.fetch(NAME)
    assert path.read_bytes() == b"something else"  # it is the user's to remove


@pytest.mark.parametrize(
    ("at", "checksum"),
    [
        ("/model.onnx", "0" * 64),  # another file than was published
        ("/model.onnxcut", None),  # the line breaks in the middle
        ("/missing.onnx", None),
    ],
)
def test_what_does_not_come_whole_leaves_nothing(
    server, cache, published, monkeypatch, at, checksum
):
    address = server.address + at
    change(monkeypatch, url=address, sha256=checksum)
    with pytest.raises(RunError) as caught:
        zoo.fetch(NAME)
    for part in (NAME, address, f"put the file at {cache / f'{NAME}.onnx'}", "FASTML_CACHE"):
        assert part in str(caught.value)
    assert server.asked >= 1
    assert not list(cache.iterdir())


def test_without_a_network_the_error_says_where_to_put_the_file(
    server, cache, published, monkeypatch
):
    server.shutdown()
    server.server_close()
    with pytest.raises(RunError, match=f"cannot fetch zoo model {NAME} from http://127"):
        zoo.fetch(NAME)
    cache.mkdir(parents=True, exist_ok=True)
    zoo.cached(NAME).write_bytes(published.read_bytes())
    assert zoo.fetch(NAME) == zoo.cached(NAME)


def test_an_unpublished_checksum_is_said_and_remembered(cache, published, monkeypatch, caplog):
    change(monkeypatch, sha256=None)
    with caplog.at_level(logging.WARNING):
        path = zoo.fetch(NAME)
    assert f"no checksum of {NAME}; what came is sha256 {sha256(published)}" in caplog.text
    caplog.clear()
    assert zoo.fetch(NAME) == path
    assert not caplog.text
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match="remembered in"):
        zoo.fetch(NAME)
    path.unlink()  # what is published now must be what was published then
    change(monkeypatch, url=MODELS[NAME].url + "cut")
    with pytest.raises(RunError, match="cannot fetch"):
        zoo.fetch(NAME)


def test_a_model_without_an_address_is_put_there_by_hand(cache, published):
    with pytest.raises(RunError, match=r"tree/.*/MNIST/Brevitas_FINN_LFC by hand and put it at"):
        zoo.fetch("LFC_1W1A")
    cache.mkdir(parents=True)
    zoo.cached("LFC_1W1A").write_bytes(published.read_bytes())
    assert zoo.fetch("LFC_1W1A").read_bytes() == published.read_bytes()


def test_accuracy_says_of_how_many(published, monkeypatch):
    x = np.random.default_rng(0).uniform(0, 1, (300, 6))
    answers = execute.run(published, x).argmax(axis=1)
    assert len(np.unique(answers)) == 4
    wrong = (answers + (np.arange(300) % 4 == 0)) % 4  # every fourth label is another one
    result = zoo.evaluate(NAME, x, wrong, batch=64)
    assert (result.correct, result.samples, result.test_set) == (225, 300, 10_000)
    assert not result.whole
    assert "75.00 % (225 right) on 300 of 10,000 test samples" in str(result)
    whole = replace(result, test_set=300)
    assert whole.whole
    assert "on all 300 test samples; published: 93.17 %" in str(whole)


def test_what_does_not_fit_the_model_is_refused(published):
    x, y = np.zeros((4, 6)), np.zeros(4, dtype=int)
    with pytest.raises(BadRequest, match="one label a sample"):
        zoo.evaluate(NAME, x, y[:3])
    with pytest.raises(BadRequest, match="one label a sample"):
        zoo.evaluate(NAME, x[:0], y[:0])
    with pytest.raises(BadRequest, match=r"samples of shape \(6,\), not \(5,\)"):
        zoo.evaluate(NAME, x[:, :5], y)
    with pytest.raises(BadRequest, match="more than the 10000"):
        zoo.evaluate(NAME, np.zeros((10_001, 6)), np.zeros(10_001))


@pytest.mark.needs_data
def test_tfc_reproduces_its_accuracy_on_the_first_5000_images(cache):
    data = Path(os.environ["FASTML_DATA"])
    cache.mkdir(parents=True)
    zoo.cached(NAME).write_bytes((data / "oracles" / "qonnx_zoo" / f"{NAME}.onnx").read_bytes())
    with np.load(data / "mnist" / "mnist_test_first5000.npz") as images:
        x, y = images["x"][:, None] / 255, images["y"]
    result = zoo.evaluate(NAME, x, y)
    assert (result.correct, result.samples, result.whole) == (4535, 5000, False)
    assert str(result) == (
        "TFC_1W1A: 90.70 % (4,535 right) on 5,000 of 10,000 test samples; published: 93.17 % on all"
    )
