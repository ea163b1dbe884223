"""A FINN build as one design: patches that fit, queues by name, exact in RTL and as a netlist."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastml_kit.backends.base import BuildPlan, BuildRequest, BuildResult
from fastml_kit.backends.finn_backend import FinnBackend
from fastml_kit.errors import BadRequest, BuildFailed, UnsupportedModel
from fastml_kit.graph import reference
from fastml_kit.graph.host import quantize_input
from fastml_kit.rtl import fifos, instances, patches, stitch, stream, synthesize
from fastml_kit.tests import networks

STREAM = {"word_bits": 8, "words": 4, "elements": 2, "element_bits": 3, "signed": False}
CHAIN = {
    "nodes": [
        {"name": "copy", "kind": "duplicate", "op": "DuplicateStreams_hls",
         "inputs": ["s0"], "outputs": ["s1", "s2"], "parameters": {}},
        {"name": "sum", "kind": "add", "op": "ElementwiseAdd_hls",
         "inputs": ["s1", "s2"], "outputs": ["s3"], "parameters": {}},
    ],
    "streams": {**dict.fromkeys(("s0", "s1", "s2"), STREAM), "s3": {**STREAM, "element_bits": 4}},
    "input": "s0",
    "output": "s3",
}  # fmt: skip
SIDE = {"frac": 0, "shape": [8]}


def library(name: str) -> str:
    """Return a file of FINN's RTL library, as it is installed."""
    spec = find_spec("finn")
    assert spec is not None and spec.submodule_search_locations is not None
    (found,) = Path(next(iter(spec.submodule_search_locations))).glob(f"finn-rtllib/*/**/{name}")
    return found.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({patch.name for patch in patches.PATCHES}))
def test_every_patch_fits_the_installed_library(name: str) -> None:
    text = library(name)
    patched = patches.apply(name, text)
    for patch in patches.PATCHES:
        assert patch.name != name or (patch.new in patched and patch.why)
    with pytest.raises(BuildFailed, match=rf"the patch of {name} .* fits 0 times, not 1"):
        patches.apply(name, patched.replace(patches_of(name)[0].new, ""))


def patches_of(name: str) -> list[patches.Patch]:
    return [patch for patch in patches.PATCHES if patch.name == name]


def test_a_file_without_patches_is_left_alone() -> None:
    assert patches.apply("dwc_axi.sv", "module x;") == "module x;"


def made(folder: Path, dataflow: dict[str, Any]) -> BuildResult:
    """Return a build that holds no more than `dataflow`: nodes of the kit's own need no files."""
    folder.mkdir()
    (folder / "dataflow.json").write_text(json.dumps(dataflow))
    interface = {
        "input": {**dataflow["streams"][dataflow["input"]], **SIDE},
        "output": {**dataflow["streams"][dataflow["output"]], **SIDE, "offset": [0.5] * 8},
    }
    plan = BuildPlan("finn", folder / "none.onnx", BuildRequest())
    return BuildResult(plan, "csim", folder, "twice", interface=interface)


def test_queues_have_the_depths_that_were_asked_for() -> None:
    queues = stitch.fifos(CHAIN, {"before_sum_1": 7})
    assert [(queue.name, queue.stream, queue.depth) for queue in queues] == [
        ("before_copy", "s0", stitch.DEFAULT_DEPTH),
        ("before_sum_0", "s1", stitch.DEFAULT_DEPTH),
        ("before_sum_1", "s2", 7),
    ]
    with pytest.raises(BadRequest, match=r"no FIFO 'before_sum'.*before_sum_0"):
        stitch.fifos(CHAIN, {"before_sum": 7})
    with pytest.raises(BadRequest, match="FIFO 'before_copy' of depth 1; at least 2, or 0"):
        stitch.fifos(CHAIN, {"before_copy": 1})
    assert stitch.fifos(CHAIN, {"before_copy": 0})[0].depth == 0


@pytest.mark.parametrize("first", [32, 0])
def test_a_copy_added_to_itself_is_twice_the_input(tmp_path: Path, first: int) -> None:
    """The smallest design with a fork and a join, and with what the host adds to its answers."""
    built = made(tmp_path / "finn", CHAIN)
    depths = {"before_sum_0": 2, "before_copy": first}
    design = stitch.stitch(built, tmp_path / "design", depths=depths)
    assert (tmp_path / "design" / "twice.sv").read_text().count("kit_fifo #") == 2 + bool(first)
    values = np.random.default_rng(0).integers(0, 8, (200, 8)).astype(float)
    ran = stream.simulate(
        design.sources, design.top, design.interface, values, tmp_path / "sim",
        stall_in=0.3, stall_out=0.4,
    )  # fmt: skip
    assert np.array_equal(ran.values, 2 * values + 0.5)
    assert ran.high_water.keys() == {"before_copy", "before_sum_0", "before_sum_1"}
    assert (ran.high_water["before_copy"] > 0) == (first > 0)
    again = stitch.stitch(built, tmp_path / "again", depths=depths)
    for one, two in zip(design.sources, again.sources, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_a_pool_that_is_no_maximum_is_refused_by_name() -> None:
    node = {"name": "Pool_hls_0", "kind": "pool", "parameters": {"Function": "AccPool"},
            "inputs": ["s0"], "outputs": ["s1"]}  # fmt: skip
    with pytest.raises(UnsupportedModel, match="Pool_hls_0 is no max-pool"):
        instances.instance(node, ["before_Pool_hls_0"], CHAIN["streams"])  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_network_with_every_kind_of_layer_is_exact_from_graph_to_netlist(tmp_path: Path) -> None:
    """Padding, strides, a residual sum and a max-pool: RTL and netlist under stalls."""
    plan = FinnBackend().plan(
        networks.residual(tmp_path / "net.onnx"), BuildRequest(name="net", interval_cycles=100)
    )
    program = plan.facts["program"]
    rng = np.random.default_rng(0)
    values = quantize_input(program, rng.integers(0, 17, (200, *program.input_shape)) / 16)
    wanted = reference.run(program, values)
    built = FinnBackend().build(plan, tmp_path / "finn", until="rtl", samples=values)
    described = json.loads((built.folder / "dataflow.json").read_text())
    depths = fifos.depths(described)
    design = stitch.stitch(built, tmp_path / "design", depths=depths)
    memories = [Path(name) for name in design.interface["data_files"]]

    folder = tmp_path / "sim"
    binary, _ = stream.build(design.sources, design.top, folder)
    for stall in (0.0, 0.35):
        ran = stream.run(
            binary, design.interface, values, folder, data_files=memories,
            stall_in=stall, stall_out=stall,
        )  # fmt: skip
        assert np.array_equal(ran.values, wanted)
        assert all(fill <= depths[name] for name, fill in ran.high_water.items())
        if not stall:
            assert ran.interval_cycles == plan.facts["folding"].interval
            assert plan.facts["folding"].interval >= fifos.lower_bound(described)

    made = synthesize.synthesize(
        design.sources, design.top, "xc7", tmp_path / "xc7",
        keep=design.interface["modules"], data_files=memories,
    )  # fmt: skip
    for resource in ("lut", "ff", "dsp"):
        parts = sum(getattr(part, resource) for part in made.parts.values())
        assert parts <= getattr(made.cost, resource) <= 1.02 * parts + 10
    ran = stream.simulate(
        [made.netlist], design.top, design.interface, values[:20], tmp_path / "netlist",
        stall_in=0.3, stall_out=0.4, watch=False,
    )  # fmt: skip
    assert np.array_equal(ran.values, wanted[:20])

    skip = max(depths, key=lambda name: depths[name] if "ElementwiseAdd" in name else 0)
    tight = stitch.stitch(built, tmp_path / "tight", depths={**depths, skip: 2})
    with pytest.raises(BuildFailed, match=f"'{skip}'"):
        stream.simulate(
            tight.sources, tight.top, tight.interface, values, tmp_path / "stuck",
            data_files=memories,
        )  # fmt: skip


@pytest.mark.slow
def test_products_in_dsp_blocks_are_exact_as_a_netlist_too(tmp_path: Path) -> None:
    """Verilator simulates FINN's behavioural model of the DSP slice; the netlist has the slice."""
    hand: dict[str, dict[str, Any]]
    hand = {"dense1": {"PE": 5, "SIMD": 3, "compute": "dsp"}, "dense2": {"compute": "dsp"}}
    plan = FinnBackend().plan(
        networks.mlp(tmp_path / "net.onnx"), BuildRequest(name="net", folding=hand)
    )
    program = plan.facts["program"]
    rng = np.random.default_rng(0)
    values = quantize_input(program, rng.integers(0, 17, (100, *program.input_shape)) / 16)
    wanted = reference.run(program, values)
    built = FinnBackend().build(plan, tmp_path / "finn", until="rtl", samples=values)
    design = stitch.stitch(built, tmp_path / "design")
    memories = [Path(name) for name in design.interface["data_files"]]
    mapped = synthesize.synthesize(
        design.sources, design.top, "xc7", tmp_path / "xc7", data_files=memories
    )
    assert mapped.cost.dsp == built.plan.facts["cost"].dsp > 0
    for sources, watch in ((list(design.sources), True), ([mapped.netlist], False)):
        ran = stream.simulate(
            sources, design.top, design.interface, values, tmp_path / "sim",
            data_files=memories, stall_in=0.3, stall_out=0.4, watch=watch,
        )  # fmt: skip
        assert np.array_equal(ran.values, wanted)
