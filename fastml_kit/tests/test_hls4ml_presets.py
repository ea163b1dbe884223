"""The published settings of AD08 and RN07: what they ask for, and what their types do to codes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastml_kit.backends import BuildRequest
from fastml_kit.backends.hls4ml_backend import Hls4mlBackend
from fastml_kit.backends.hls4ml_presets import preset
from fastml_kit.errors import BadRequest
from fastml_kit.graph import fast
from fastml_kit.graph import program as programs
from fastml_kit.tests import published
from fastml_kit.tests.programs import inputs


def predicted(path: Path, request: BuildRequest, folder: Path, samples: int) -> Any:
    """Return what the C++ gives, and what the graph gives."""
    backend, program = Hls4mlBackend(), programs.read(path)
    values = inputs(program, samples)
    built = backend.build(backend.plan(path, request), folder, until="csim")
    assert built.predict
    return built.predict(values), fast.run(program, values)


def test_ad08_asks_for_its_reuse_and_types(tmp_path: Path) -> None:
    request = preset("ad08", published.ad08(tmp_path / "m.onnx"))
    assert request.io_type == "io_stream"
    dense = [request.layers[f"dense{number}"] for number in range(1, 7)]
    # 144 does not share 64 x 72 weights evenly; 128 is the nearest that does.
    assert [knobs["reuse"] for knobs in dense] == [128, 144, 8, 144, 144, 144]
    assert [knobs["types"]["weight"] for knobs in dense] == ["fixed<13,7>"] * 5 + ["fixed<13,1>"]
    assert request.layers["relu3"]["types"] == {"result": "ufixed<7,6,RND,SAT>"}


def test_rn07_asks_for_its_reuse_types_and_queues(tmp_path: Path) -> None:
    path = published.rn07(tmp_path / "m.onnx")
    request = preset("rn07", path)
    names = [*(f"conv{number}" for number in range(1, 6)), "dense"]
    reuse = [request.layers[name]["reuse"] for name in names]
    assert reuse == [96, 2048, 2048, 16384, 16384, 20480]
    assert {request.layers[name]["types"]["accum"] for name in names} == {"fixed<17,7>"}
    built = Hls4mlBackend().build(
        Hls4mlBackend().plan(path, request), tmp_path / "project", until="estimate"
    )
    granted = {layer.name: layer.reuse_factor for layer in built.interface["layers"]}
    assert [granted[name] for name in names] == reuse
    queues = {layer.name: layer.fifo for layer in built.interface["layers"] if layer.fifo}
    assert queues == {
        "conv1": 2, "conv2_pad": 1067, "conv2": 2, "conv3_pad": 72, "conv3": 35, "conv4": 2,
        "conv5_pad": 24, "conv5": 2,
    }  # fmt: skip


def test_without_its_types_a_preset_leaves_ours(tmp_path: Path) -> None:
    path = published.ad08(tmp_path / "m.onnx")
    request = preset("ad08", path, types=False)
    assert not any("types" in knobs for knobs in request.layers.values())
    assert request.layers["dense3"] == {"reuse": 8, "strategy": "resource"}


def test_a_preset_for_another_network_is_refused(tmp_path: Path) -> None:
    path = published.ad08(tmp_path / "m.onnx")
    with pytest.raises(BadRequest, match=r"no hls4ml preset 'ad8'.*'ad08'"):
        preset("ad8", path)
    kws = published.kws(tmp_path / "kws.onnx")
    with pytest.raises(BadRequest, match=r"'rn07' is for 6 layers of weights; kws.onnx has 4"):
        preset("rn07", kws)


@pytest.mark.slow
def test_the_types_of_ad08_were_chosen_for_its_weights_and_ours_lose_nothing(
    tmp_path: Path,
) -> None:
    path = published.ad08(tmp_path / "m.onnx")
    own, want = predicted(path, preset("ad08", path, types=False), tmp_path / "own", 64)
    np.testing.assert_array_equal(own, want)
    theirs, _ = predicted(path, preset("ad08", path), tmp_path / "theirs", 64)
    assert np.mean(theirs != want) > 0.5
