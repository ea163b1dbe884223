"""hls4ml at the sizes of MLPerf Tiny: compiled C++ with the reference's codes, in minutes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastml_kit.backends import BuildRequest
from fastml_kit.backends.hls4ml_backend import Hls4mlBackend
from fastml_kit.backends.hls4ml_presets import preset
from fastml_kit.graph import fast, reference
from fastml_kit.graph import program as programs
from fastml_kit.tests import published
from fastml_kit.tests.programs import inputs

SAMPLES = 32


def assert_exact(path: Path, request: BuildRequest, folder: Path, distinct: int) -> None:
    backend, program = Hls4mlBackend(), programs.read(path)
    built = backend.build(backend.plan(path, request), folder, until="csim")
    assert built.predict
    values = inputs(program, SAMPLES)
    want = fast.run(program, values)
    np.testing.assert_array_equal(want[:2], reference.run(program, values[:2]))
    assert len(np.unique(want)) > distinct, "it says nothing"
    np.testing.assert_array_equal(built.predict(values), want)


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"io_type": "io_stream", "merge_activations": True, "reuse_factor": 128},
    ],
)
def test_keyword_spotting_of_260_thousand_weights(asked: dict[str, Any], tmp_path: Path) -> None:
    path = published.kws(tmp_path / "kws.onnx")
    assert_exact(path, BuildRequest(**asked), tmp_path / "project", 100)


@pytest.mark.slow
def test_ad08_with_its_reuse(tmp_path: Path) -> None:
    path = published.ad08(tmp_path / "ad08.onnx")
    assert_exact(path, preset("ad08", path, types=False), tmp_path / "project", 500)


@pytest.mark.slow
def test_rn07_with_its_reuse_its_queues_and_merged_activations(tmp_path: Path) -> None:
    path = published.rn07(tmp_path / "rn07.onnx")
    assert_exact(path, preset("rn07", path, types=False), tmp_path / "project", 100)
