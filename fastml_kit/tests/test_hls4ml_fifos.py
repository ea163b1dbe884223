"""Queues of hls4ml's streams: the analysed fills against simulated and against published ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastml_kit.backends import BuildRequest
from fastml_kit.backends.base import BuildPlan
from fastml_kit.backends.hls4ml_backend import Hls4mlBackend, plan_program
from fastml_kit.backends.hls4ml_fifos import depths, fill, run, turns, with_depths
from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.graph.ir import Node, Program
from fastml_kit.tests import published
from fastml_kit.tests.programs import cnn, mlp

GRAPH = Path(__file__)  # any file: a plan only hashes it

#: The most that each queue held in co-simulation, of RN07 with two reuse factors: `hls4ml-finn-
#: mlperftiny/CIFAR10`, `max_depth_*.json`, Apache-2.0. Their queue behind a padding of nothing,
#: before the fourth convolution, is the one behind our third.
COSIMULATED = {
    8192: {"conv2_pad": 1066, "conv3_pad": 71, "conv3": 2, "conv5_pad": 23},
    16384: {"conv2_pad": 1066, "conv3_pad": 71, "conv3": 34, "conv5_pad": 23},
}


def plan_of(program: Program, **asked: Any) -> BuildPlan:
    return plan_program(program, GRAPH, BuildRequest(io_type="io_stream", **asked))


@pytest.mark.parametrize("reuse", COSIMULATED)
def test_rn07s_queues_hold_what_co_simulation_found_or_up_to_three_words_more(
    reuse: int, tmp_path: Path
) -> None:
    request = BuildRequest(io_type="io_stream", merge_activations=True, reuse_factor=reuse)
    found = depths(Hls4mlBackend().plan(published.rn07(tmp_path / "m.onnx"), request))
    for name, most in COSIMULATED[reuse].items():
        assert 0 <= found[name] - 1 - most <= 3, name
    assert {found[name] for name in ("conv1", "conv2", "conv4", "conv5")} == {2}


def test_a_queue_holds_what_is_written_before_it_is_read() -> None:
    taken, made = run(turns({"class_name": "Dense"}, 5, 3), [0, 1, 2])
    assert (taken, made) == ([1, 2, 3], [8])
    assert fill([0, 1, 2], taken) == 1
    assert fill([0, 1, 2, 3], [3, 4, 5, 6]) == 3


def test_a_stride_leaves_windows_out() -> None:
    """5 x 3 pixels under a window of 2 x 2 in steps of 2: 2 x 1 whole ones, at the 7th and 13th."""
    layer = {
        "class_name": "Conv2D", "in_height": 5, "in_width": 3, "filt_height": 2, "filt_width": 2,
        "stride_height": 2, "stride_width": 2,
    }  # fmt: skip
    each = list(turns(layer, 4, 15))
    assert [number for number, (_, _, gives) in enumerate(each) if gives] == [4, 10]
    assert sum(cycles for _, cycles, _ in each) == 13 + 2 * 4


def test_depths_go_into_the_project_and_a_given_one_stays(tmp_path: Path) -> None:
    program = cnn()
    plan = plan_of(program, layers={"conv": {"reuse": 18, "fifo": 9}})
    found = depths(plan)
    assert found.keys() == {"conv_pad", "conv", "relu", "pool"}
    request = with_depths(plan.request, found)
    assert request.layers["conv"] == {"reuse": 18, "fifo": 9}
    built = Hls4mlBackend().build(plan_program(program, GRAPH, request), tmp_path, until="estimate")
    got = {layer.name: layer.fifo for layer in built.interface["layers"] if layer.fifo}
    assert got == {**found, "conv": 9}
    assert f"depth={found['conv_pad']}" in (tmp_path / "firmware" / "model.cpp").read_text()


def test_what_is_not_known_is_refused() -> None:
    program = mlp()
    with pytest.raises(BadRequest, match="io_stream"):
        depths(plan_program(program, GRAPH, BuildRequest()))
    fork = Node("Add", "sum", (program.output, program.output), "z", {})
    with pytest.raises(UnsupportedModel, match="'sum' is where paths part or meet"):
        depths(plan_of(replace(program, nodes=(*program.nodes, fork), output="z")))
    with pytest.raises(UnsupportedModel, match="the timing of Resize 'up' is not known"):
        list(turns({"class_name": "Resize", "name": "up"}, 1, 4))
