"""A model that the user brings, through notebooks and kernels, as far as it can climb."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastml_kit import flow, runner, verify
from fastml_kit.tests import networks, onnxgraphs
from fastml_kit.tests.onnxgraphs import node

X = np.random.default_rng(3).integers(0, 17, (40, 6)) / 16


def request(folder: Path, graph: Path, x: Any = X, **more: Any) -> dict[str, Any]:
    np.save(folder / "x.npy", x)
    return {"graph": str(graph), "data": str(folder / "x.npy"), **more}


def records(run: runner.RunReport) -> dict[str, Any]:
    summary = json.loads((run.folder / "run.json").read_text())
    return {record["name"]: record["value"] for record in summary["records"]}


def skips(run: runner.RunReport) -> dict[str, str]:
    summary = json.loads((run.folder / "run.json").read_text())
    return {skip["name"]: skip["reason"] for skip in summary["skipped"]}


def test_a_float_graph_climbs_one_rung_and_says_why_no_other(tmp_path: Path) -> None:
    constants = {"w": np.random.default_rng(0).normal(0, 1, (6, 4))}
    nodes = [node("MatMul", ["x", "w"], "s"), node("Tanh", ["s"], "y")]
    graph = onnxgraphs.save(tmp_path / "plain.onnx", nodes, constants, (6,), to=(4,))
    run = runner.run(None, request(tmp_path, graph, flow="both"))
    assert run.status == "ok", run.stages
    assert run.run.startswith("onnx-plain-")
    found = records(run)
    assert found["verify.qonnx.samples"] == len(X)
    assert found["import.onnxruntime.distance"] < 1e-5
    assert not [name for name in found if name.endswith(".mismatches")]
    reasons = skips(run)
    rungs = [rung for rung in verify.ENGINES if rung not in ("qat", "qonnx")]
    assert {f"verify.{rung}" for rung in rungs} <= reasons.keys()
    assert all("'w' is not quantized" in reasons[f"verify.{rung}"] for rung in rungs)


def test_a_run_is_whole_and_known_by_content(tmp_path: Path) -> None:
    graph, copy = networks.mlp(tmp_path / "net.onnx"), tmp_path / "elsewhere" / "net.onnx"
    np.save(tmp_path / "y.npy", np.arange(len(X)) % 3)
    given = request(tmp_path, graph, labels=str(tmp_path / "y.npy"))
    first = runner.run(None, given, until="import")
    assert first.status == "ok", first.stages
    kept = first.folder / "import" / "given"
    assert (kept / "model.onnx").read_bytes() == graph.read_bytes()
    assert np.array_equal(np.load(kept / "data.npy"), X)
    found = records(first)
    for engine in ("qonnx", "fast"):
        assert found[f"verify.{engine}.samples"] == len(X)
        assert found[f"verify.{engine}.mismatches"] == 0
    assert found["import.original.mismatches"] == 0
    assert 0 < found["quality.accuracy"] < 1
    vectors = np.load(first.folder / "import" / "vectors.npz")
    assert len(np.unique(vectors["y"])) > 10

    copy.parent.mkdir()
    shutil.copyfile(graph, copy)
    again = runner.run(None, {**given, "graph": str(copy)}, until="import")
    assert again.run == first.run
    assert again.stages[0].reused == f"{first.run}/import"
    networks.mlp(graph, seed=1)  # the same path, other content
    other = runner.run(None, given, until="import")
    assert other.run != first.run
    assert not other.stages[0].reused


def test_a_keras_model_with_channels_last_is_equal_to_its_graph(tmp_path: Path) -> None:
    from fastml_kit.models import keras2

    model = networks.keras_model("cnn", seed=5, width=12)
    keras2.save(model, tmp_path / "own.h5")
    np.save(tmp_path / "x.npy", networks.images(50, seed=1))
    given = {"keras": str(tmp_path / "own.h5"), "data": str(tmp_path / "x.npy")}
    run = runner.run(None, given, until="import")
    assert run.status == "ok", run.stages
    assert run.run.startswith("keras-own-")
    found = records(run)
    for engine in ("qat", "qonnx", "fast"):
        assert found[f"verify.{engine}.samples"] == 50
        assert found[f"verify.{engine}.mismatches"] == 0


@pytest.mark.slow
def test_an_inexact_keras_model_is_remarked_upon_wherever_it_goes(tmp_path: Path) -> None:
    from qkeras import QActivation, QDense, quantized_bits

    from fastml_kit.models import keras2
    from fastml_kit.models.keras2 import keras

    scaled = quantized_bits(4, 0, 1, alpha="auto")
    inputs = keras.Input((6,))
    hidden = QActivation("quantized_bits(6, 2, alpha=1)")(inputs)
    model = keras.Model(inputs, QDense(3, kernel_quantizer=scaled, use_bias=False)(hidden))
    keras2.save(model, tmp_path / "own.h5")
    np.save(tmp_path / "x.npy", X)
    given = {"keras": str(tmp_path / "own.h5"), "data": str(tmp_path / "x.npy")}
    refused = runner.run(None, given, until="import")
    assert refused.status == "failed"
    assert "alpha='auto'" in str(refused.stages[0].reason)
    run = runner.run(None, {**given, "exact": False})
    assert run.status == "ok", run.stages
    summary = json.loads((run.folder / "run.json").read_text())
    assert summary["records"]
    assert all("not exact" in record["remark"] for record in summary["records"])


@pytest.mark.slow
def test_a_missing_format_is_asked_for_and_taken(tmp_path: Path) -> None:
    constants = {"w": np.random.default_rng(0).integers(-7, 8, (6, 4)) / 8}
    graph = onnxgraphs.save(
        tmp_path / "open.onnx", [node("MatMul", ["x", "w"], "y")], constants, (6,), to=(4,)
    )
    given = request(tmp_path, graph, X + 0.01)
    refused = runner.run(None, given, until="import")
    assert refused.status == "failed"
    assert "input_format" in str(refused.stages[0].reason)
    run = runner.run(None, {**given, "input_format": "8,4"}, until="import")
    assert run.status == "ok", run.stages
    assert records(run)["import.moved_inputs"] == X.size
    assert records(run)["verify.qonnx.mismatches"] == 0


@pytest.mark.slow
def test_a_foreign_graph_goes_all_the_way_in_bare_papermill_too(tmp_path: Path) -> None:
    graph = networks.mlp(tmp_path / "net.onnx")
    given = request(tmp_path, graph, flow="both")
    notebook = flow.FLOW.path(flow.FLOW.stage("report"))
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(notebook)]
    command += [str(tmp_path / "out.ipynb")]
    for name, value in given.items():
        command += ["-p", name, value]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    run = runner.run(None, given)
    assert run.status == "ok"
    assert all(stage.reused for stage in run.stages)
    found = records(run)
    for engine in set(verify.ENGINES) - {"qat", "reference"}:  # what the others are compared with
        assert found[f"verify.{engine}.samples"] == len(X)
        assert found[f"verify.{engine}.mismatches"] == 0


@pytest.mark.slow
@pytest.mark.needs_data
def test_tfc_tells_digits_as_it_did_where_it_was_trained(tmp_path: Path) -> None:
    folder = Path(os.environ["FASTML_DATA"])
    images = np.load(folder / "mnist" / "mnist_test_first5000.npz")
    np.save(tmp_path / "y.npy", images["y"])
    x = (images["x"].reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    graph = folder / "oracles" / "qonnx_zoo" / "TFC_1W1A.onnx"
    given = request(tmp_path, graph, x, labels=str(tmp_path / "y.npy"))
    run = runner.run(None, given)
    assert run.status == "ok", run.stages
    assert records(run)["quality.accuracy"] == 0.907
    assert records(run)["import.original.mismatches"] == 0
    assert "at most 20,000 are tried" in skips(run)["verify.rtl"]
