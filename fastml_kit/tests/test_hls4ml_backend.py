"""hls4ml: its compiled C++ against the reference engine, and what the request's knobs change."""

import sys

import numpy as np
import pytest

from fastml_kit import backends, verify
from fastml_kit.errors import BadRequest, ToolNotFound
from fastml_kit.graph import export, program, ranges, reference
from fastml_kit.tests.networks import images, keras_model, mlp


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """A random MLP and a CNN as QONNX, with inputs for them."""
    folder = tmp_path_factory.mktemp("graphs")
    cnn = export.export_qonnx(keras_model("cnn", 0, width=12), folder / "cnn.onnx")
    rng = np.random.default_rng(0)
    return {
        "mlp": (mlp(folder / "mlp.onnx", sizes=(12, 8, 4)), rng.integers(0, 17, (200, 12)) / 16),
        "cnn": (cnn, export.channel_first(images(200, 0))),
    }


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("mlp", {}),
        ("mlp", {"reuse_factor": 4}),
        ("mlp", {"io_type": "io_stream"}),
        ("cnn", {}),
        ("cnn", {"io_type": "io_stream"}),
    ],
)
def test_csim_equals_the_reference(graphs, tmp_path, model, asked):
    path, x = graphs[model]
    hls4ml = backends.get("hls4ml")
    result = hls4ml.build(hls4ml.plan(path, backends.BuildRequest(**asked)), tmp_path, until="csim")
    graph = program.read(path)
    verify.assert_bit_exact(
        result.predict(x),
        reference.run(graph, x),
        spec=ranges.output_spec(graph),
        labels=("csim", "reference"),
    )


def test_inputs_off_the_grid_are_quantized_as_the_graph_says(graphs, tmp_path):
    path, _ = graphs["mlp"]
    rng = np.random.default_rng(5)
    x = np.round(rng.uniform(-1, 3, (100, 12)) * 2**20) / 2**20
    wanted = reference.run(program.read(path), x)
    for name in ("hls4ml", "da4ml"):
        backend = backends.get(name)
        plan = backend.plan(path, backends.BuildRequest())
        got = backend.build(plan, tmp_path / name, until="csim").predict(x)
        assert np.array_equal(got, wanted), name


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "my-model"}, r"name='my-model'; in C\+\+"),
        ({"accumulator": "fixed<8"}, "accumulator='fixed<8'; 'auto', or"),
        ({"accumulator": "fixed<0,0>"}, "accumulator='fixed<0,0>'"),
    ],
)
def test_impossible_requests_are_refused(asked, message):
    with pytest.raises(BadRequest, match=message):
        backends.BuildRequest(**asked)


def test_narrow_sums_are_caught(graphs, tmp_path):
    path, x = graphs["mlp"]
    hls4ml = backends.get("hls4ml")
    plan = hls4ml.plan(path, backends.BuildRequest(accumulator="fixed<6,3>"))
    graph = program.read(path)
    result = verify.compare(
        hls4ml.build(plan, tmp_path, until="csim").predict(x),
        reference.run(graph, x),
        spec=ranges.output_spec(graph),
        labels=("csim", "reference"),
    )
    assert result.mismatches > 0


def test_reuse_divides_the_multipliers(graphs, tmp_path):
    path, _ = graphs["mlp"]
    hls4ml = backends.get("hls4ml")
    counts = []
    for reuse in (1, 4):
        plan = hls4ml.plan(path, backends.BuildRequest(reuse_factor=reuse))
        layers = hls4ml.build(plan, tmp_path / str(reuse), until="estimate").interface["layers"]
        counts.append(sum(layer.multipliers for layer in layers))
    assert counts == [12 * 8 + 8 * 4, (12 * 8 + 8 * 4) // 4]


def test_planning_is_pure_and_repeatable(graphs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = graphs["mlp"]
    plans = [backends.get("hls4ml").plan(path, backends.BuildRequest()) for _ in range(2)]
    assert plans[0].digest == plans[1].digest
    other = backends.get("hls4ml").plan(path, backends.BuildRequest(reuse_factor=2))
    assert other.digest != plans[0].digest
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_it_says_so(graphs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    hls4ml = backends.get("hls4ml")
    plan = hls4ml.plan(graphs["mlp"][0], backends.BuildRequest())
    with pytest.raises(ToolNotFound, match=r"g\+\+"):
        hls4ml.build(plan, tmp_path, until="csim")


def test_rtl_is_not_its_business(graphs, tmp_path):
    for name in ("hls4ml", "reference"):
        backend = backends.get(name)
        plan = backend.plan(graphs["mlp"][0], backends.BuildRequest())
        with pytest.raises(BadRequest, match="da4ml"):
            backend.build(plan, tmp_path, until="rtl")


def test_the_reference_backend_predicts(graphs, tmp_path):
    path, x = graphs["mlp"]
    backend = backends.get("reference")
    result = backend.build(backend.plan(path, backends.BuildRequest()), tmp_path, until="csim")
    assert np.array_equal(result.predict(x), reference.run(program.read(path), x))


def test_an_unknown_backend_is_named_with_the_nearest():
    with pytest.raises(BadRequest, match=r"no backend 'hls4lm'\. Did you mean 'hls4ml'\?"):
        backends.get("hls4lm")


def test_no_tensorflow_is_loaded_for_a_graph(tmp_path):
    import subprocess

    script = (
        "import sys; from pathlib import Path; from fastml_kit import backends\n"
        "b = backends.get('hls4ml')\n"
        f"p = b.plan(Path({str(mlp(tmp_path / 'm.onnx'))!r}), backends.BuildRequest())\n"
        f"b.build(p, Path({str(tmp_path / 'out')!r}), until='estimate')\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
