"""The FINN backend: pure plans, builds that are exact and repeatable, failures told by name."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastml_kit import backends, tools
from fastml_kit.backends import finn_backend
from fastml_kit.backends.base import BuildPlan, BuildRequest, BuildResult
from fastml_kit.backends.finn_backend import FinnBackend, process, verified
from fastml_kit.backends.finn_backend.finn_graph import sum_spec
from fastml_kit.backends.finn_backend.folding import DoesNotFit
from fastml_kit.backends.finn_backend.folding_models import streams
from fastml_kit.errors import BadRequest, BuildFailed, ToolNotFound
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import reference
from fastml_kit.graph.ir import Constant, Program
from fastml_kit.rtl import fifos
from fastml_kit.tests import networks
from fastml_kit.tests.programs import inputs
from fastml_kit.tests.test_finn_lowering import convolve, convolve_from, flat, image, layered

HAND = {"dense1": {"PE": 5, "SIMD": 2}, "act1": {"PE": 1}}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    networks.mlp(folder / "mlp.onnx")
    networks.residual(folder / "cnn.onnx")
    return folder


def plan_of(graph: Path, **request: Any) -> BuildPlan:
    return FinnBackend().plan(graph, BuildRequest(**request))


def values_for(plan: BuildPlan, samples: int, seed: int = 1) -> NDArray[np.float64]:
    """Return values on the input's grid, off it, and beyond its ends."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 17, (samples, *plan.facts["program"].input_shape)) / 16
    values[0] += 1 / 32  # ties
    values[1] *= 5
    return values


@dataclass(frozen=True)
class Watched:
    """Builds, and what they left behind in places that are not theirs."""

    results: list[BuildResult]
    left: dict[str, list[str]]
    environment_changed: bool


def watched(around: Path, builds: list[tuple[BuildPlan, Path]]) -> Watched:
    """Build everything at once, with home, working and temporary folder fresh ones in `around`."""
    places = {name: around / name for name in ("home", "cwd", "tmp")}
    for place in places.values():
        place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(places["home"]))
        patch.setenv("TMPDIR", str(places["tmp"]))
        for name in [name for name in os.environ if name.startswith(("FINN_", "XILINX_"))]:
            patch.delenv(name)
        patch.chdir(places["cwd"])
        before = dict(os.environ)
        with ThreadPoolExecutor() as pool:
            jobs = [pool.submit(FinnBackend().build, *job, until="rtl") for job in builds]
            results = [job.result() for job in jobs]
        changed = dict(os.environ) != before or Path.cwd() != places["cwd"]
    left = {name: sorted(map(str, place.rglob("*"))) for name, place in places.items()}
    return Watched(results, left, changed)


@pytest.fixture(scope="module")
def by_hand(graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    around = tmp_path_factory.mktemp("by_hand")
    plan = plan_of(graphs / "mlp.onnx", folding=HAND)
    return watched(around, [(plan, around / "out")])


@pytest.fixture(scope="module")
def twins(graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Build one plan twice, at once, in folders of different depth."""
    around = tmp_path_factory.mktemp("twins")
    plan = plan_of(graphs / "cnn.onnx", interval_cycles=120)
    return watched(around, [(plan, around / "one"), (plan, around / "the" / "other")])


@pytest.fixture(params=["by_hand", "twins"])
def built(request: pytest.FixtureRequest) -> BuildResult:
    watched: Watched = request.getfixturevalue(request.param)
    return watched.results[0]


def dataflow(result: BuildResult) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((result.folder / "dataflow.json").read_text())
    return told


# -- planning


def test_the_backend_is_found_by_name() -> None:
    assert isinstance(backends.get("finn"), FinnBackend)


def test_planning_writes_nothing_and_is_the_same_each_time(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    before, environment = sorted(graphs.iterdir()), dict(os.environ)
    plans = [plan_of(graphs / "cnn.onnx", interval_cycles=120) for _ in range(2)]
    assert plans[0].digest == plans[1].digest
    assert dict(plans[0].files) == dict(plans[1].files)
    assert not list(tmp_path.rglob("*"))
    assert sorted(graphs.iterdir()) == before
    assert dict(os.environ) == environment


def test_another_process_plans_the_same(graphs: Path) -> None:
    graph = graphs / "cnn.onnx"
    program = (
        "import sys; from pathlib import Path; from fastml_kit.tests.test_finn_backend import *;"
        f"print(plan_of(Path({str(graph)!r}), interval_cycles=120).digest);"
        "assert 'finn' not in sys.modules"  # FINN itself is for the child alone
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == plan_of(graph, interval_cycles=120).digest


@pytest.mark.parametrize(
    "request_",
    [
        {"interval_cycles": 200},
        {"interval_cycles": 120, "clock_ns": 5.0},
        {"folding": {"dense": {"PE": 3}}},
    ],
)
def test_what_is_asked_for_is_in_the_digest(graphs: Path, request_: dict[str, Any]) -> None:
    graph = graphs / "cnn.onnx"
    assert plan_of(graph, **request_).digest != plan_of(graph, interval_cycles=120).digest


def test_an_estimate_needs_no_folder_and_no_finn(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "_locate", lambda name: None)
    plan = plan_of(graphs / "mlp.onnx", interval_cycles=0)
    result = FinnBackend().build(plan, tmp_path / "out", until="estimate")
    assert (result.stage, result.predict) == ("estimate", None)
    assert not (tmp_path / "out").exists()
    (cost,) = result.costs
    assert cost.interval_cycles == plan.facts["folding"].interval
    assert cost.interval_cycles >= plan.facts["lower_bound"]


def test_the_lowest_latency_costs_more_and_a_share_of_the_device_bounds_it(graphs: Path) -> None:
    graph = graphs / "cnn.onnx"
    cheap = plan_of(graph, interval_cycles=120).facts["cost"]
    quick = plan_of(graph, interval_cycles=120, fold_for="latency").facts["cost"]
    assert quick.latency_cycles < cheap.latency_cycles
    assert quick.lut > cheap.lut
    share = 1.02 * cheap.lut / 53_200
    tight = plan_of(graph, interval_cycles=120, fold_for="latency", device_share=share)
    assert tight.facts["cost"].lut <= share * 53_200
    with pytest.raises(DoesNotFit, match="lut"):
        plan_of(graph, interval_cycles=120, device_share=share / 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fold_for": "speed"}, "no goal of folding 'speed'.*cost, latency"),
        ({"device_share": 0.0}, "device_share=0.0; above 0, and at most 1"),
        ({"interval_cycles": -1}, "interval_cycles=-1; cycles from one sample to the next"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        BuildRequest(**wrong)


def test_an_interval_that_no_folding_reaches_is_refused_with_the_best_one(graphs: Path) -> None:
    with pytest.raises(DoesNotFit, match="interval=3: layer 'conv1") as refused:
        plan_of(graphs / "cnn.onnx", interval_cycles=3)
    best = refused.value.best_interval
    assert best is not None
    assert plan_of(graphs / "cnn.onnx", interval_cycles=best).facts["folding"].interval == best
    with pytest.raises(DoesNotFit):
        plan_of(graphs / "cnn.onnx", interval_cycles=best - 1)


@pytest.mark.parametrize(
    ("folding", "message"),
    [
        (
            {"dense1": {"PE": 3}},
            r"layer 'dense1' cannot be folded as .*3.*PE and SIMD may be.*5, 6",
        ),
        ({"dense1": {"SIMD": 4, "PE": 5}}, r"layer 'dense1' cannot be folded as"),
        ({"dense1": {"pee": 5}}, r"layer 'dense1' cannot be folded as .*pee"),
        ({"dense9": {"PE": 1}}, r"dense9.*dense1.*dense2"),
    ],
)
def test_a_folding_that_cannot_be_is_refused_with_the_choices(
    graphs: Path, folding: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        plan_of(graphs / "mlp.onnx", folding=folding)


def test_an_unknown_part_is_refused(graphs: Path) -> None:
    with pytest.raises(BadRequest, match="xc7nothing"):
        plan_of(graphs / "mlp.onnx", part="xc7nothing")


# -- building


def test_every_step_gives_the_reference_engines_codes(built: BuildResult) -> None:
    assert built.stage == "rtl"
    rows = verified(built)
    steps = process.STEPS[: process.STEPS.index(process.EXECUTED) + 1]
    assert [row["step"] for row in rows] == list(steps)
    assert {(row["samples"], row["differ"]) for row in rows} == {(finn_backend.SAMPLES, 0)}


def test_finns_hardware_layers_predict_what_the_reference_engine_does(built: BuildResult) -> None:
    values = values_for(built.plan, samples=20)
    assert built.predict is not None
    want = reference.run(built.plan.facts["program"], values)
    assert len(np.unique(want, axis=0)) > 10
    np.testing.assert_array_equal(built.predict(values), want)


def test_the_host_adds_the_last_bias(built: BuildResult) -> None:
    program = built.plan.facts["program"]
    output = built.interface["output"]
    last = program.constants[program.nodes[-1].inputs[1]]
    np.testing.assert_array_equal(output["offset"], last.codes * 2.0**-last.frac)
    assert output["shape"] == list(program.output_shape)
    assert sorted(built.interface["input"]["order"]) == list(range(np.prod(program.input_shape)))


def test_finn_makes_the_layers_that_the_plan_foresaw(built: BuildResult) -> None:
    plan, told = built.plan.facts["folding"], dataflow(built)
    nodes = [node for node in told["nodes"] if node["kind"] != "width"]
    assert [(n["layer"], n["kind"]) for n in nodes] == [
        (layer.name, layer.kind) for layer in plan.layers
    ]
    assert [node["cycles"] for node in nodes] == list(plan.cycles)
    for node, layer, fold in zip(nodes, plan.layers, plan.folds, strict=True):
        given = node["parameters"]
        assert {key: given[key] for key in fold.attributes(layer)} == fold.attributes(layer)
        taken, made = streams(layer, fold)
        for names, want in ((node["inputs"], taken), (node["outputs"], made)):
            found = [told["streams"][name] for name in names]
            assert {(s["words"], s["elements"]) for s in found} == {want[:2]}, node["name"]
            assert max(s["element_bits"] for s in found) == want.bits, node["name"]


def test_the_layers_are_joined_as_the_plan_foresaw(built: BuildResult) -> None:
    plan, told = built.plan.facts["folding"], dataflow(built)
    nodes = told["nodes"]
    makers = {name: node for node in nodes for name in node["outputs"]}
    places = {layer.name: place for place, layer in enumerate(plan.layers)}
    edges = []
    for node in nodes:
        for name in node["inputs"] if node["kind"] != "width" else ():
            while name in makers and makers[name]["kind"] == "width":
                (name,) = makers[name]["inputs"]
            if name in makers:
                edges.append((places[makers[name]["layer"]], places[node["layer"]]))
            else:
                assert name == told["input"]
    assert sorted(edges) == sorted(plan.edges)


def test_the_bound_of_what_was_built_is_that_of_the_plan(built: BuildResult) -> None:
    assert fifos.lower_bound(dataflow(built)) == built.plan.facts["lower_bound"]


def test_all_files_that_the_description_names_are_there(built: BuildResult) -> None:
    named = {
        file
        for node in dataflow(built)["nodes"]
        for file in (*node.get("sources", ()), *node.get("memories", ()))
    }
    assert named == {path.name for path in (built.folder / "rtl").iterdir()}


def test_a_folding_by_hand_is_honoured(by_hand: Watched) -> None:
    nodes = {n["layer"]: n for n in dataflow(by_hand.results[0])["nodes"] if "layer" in n}
    first, act, second = (nodes[name]["parameters"] for name in ("dense1", "act1", "dense2"))
    assert (first["PE"], first["SIMD"], act["PE"]) == (5, 2, 1)
    assert (second["PE"], second["SIMD"]) == (1, 1)
    assert nodes["dense1"]["cycles"] == 6 // 2
    assert nodes["dense2"]["cycles"] == 5 * 3


def test_one_plan_gives_the_same_bytes_twice_also_at_once(twins: Watched) -> None:
    one, other = (
        {
            str(path.relative_to(result.folder)): path.read_bytes()
            for path in (*(result.folder / "rtl").iterdir(), result.folder / "dataflow.json")
        }
        for result in twins.results
    )
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert len(one) > 20


@pytest.mark.parametrize("name", ["by_hand", "twins"])
def test_a_build_touches_nothing_but_its_folder(name: str, request: Any) -> None:
    seen: Watched = request.getfixturevalue(name)
    assert seen.left == {"home": [], "cwd": [], "tmp": []}
    assert not seen.environment_changed


# -- failing


def test_a_missing_finn_is_named(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "_locate", lambda name: None)
    with pytest.raises(ToolNotFound, match=r"finn: .*make run"):
        FinnBackend().build(plan_of(graphs / "mlp.onnx"), tmp_path, until="csim")


@pytest.mark.slow
def test_a_step_that_gives_other_codes_is_named(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = finn_backend._circuit_codes

    def corrupted(*args: Any) -> Any:
        codes = honest(*args)
        codes[[7, 9], 0] += 1
        return codes

    monkeypatch.setattr(finn_backend, "_circuit_codes", corrupted)
    message = "failed in step_tidy_up: .*2 of 256 samples give other codes.*sample 7.*keep the fol"
    with pytest.raises(BuildFailed, match=message):
        FinnBackend().build(plan_of(graphs / "mlp.onnx"), tmp_path, until="csim")
    assert not (tmp_path / "dataflow.json").exists()


@pytest.mark.slow
def test_a_step_that_finn_does_not_know_is_named(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STEPS", (*process.STEPS[:1], "step_to_the_moon"))
    message = "failed in step_to_the_moon: .*no step 'step_to_the_moon'; it knows .*step_tidy_up"
    with pytest.raises(BuildFailed, match=message):
        FinnBackend().build(plan_of(graphs / "mlp.onnx"), tmp_path, until="csim")


@pytest.mark.slow
def test_a_failure_within_a_node_names_the_node(graphs: Path, tmp_path: Path) -> None:
    plan = plan_of(graphs / "mlp.onnx", interval_cycles=8)
    job = json.loads(plan.files["job.json"])
    job["folds"][0]["PE"] = "five"
    plan.files["job.json"] = json.dumps(job)  # type: ignore[index]
    with pytest.raises(BuildFailed, match="failed in fold at node 'MVAU_rtl_0'"):
        FinnBackend().build(plan, tmp_path, until="csim")


@pytest.mark.slow
def test_layers_that_the_plan_did_not_foresee_are_told(graphs: Path, tmp_path: Path) -> None:
    plan = plan_of(graphs / "mlp.onnx", interval_cycles=8)
    job = json.loads(plan.files["job.json"])
    del job["folds"][-1]
    plan.files["job.json"] = json.dumps(job)  # type: ignore[index]
    message = "failed in fold: .*mvau, thresholding, mvau; mvau, thresholding was planned.*report"
    message += " the graph"
    with pytest.raises(BuildFailed, match=message):
        FinnBackend().build(plan, tmp_path, until="csim")


# -- forms that FINN's own steps leave in the midst, or take for another


def residuals() -> Program:
    m = image()
    grown = layered(m)
    for _ in range(2):
        convolve(m, 2, (1, 1), True, strides=(1, 1), pads=(0,) * 4)
        m.quant(FixedSpec(4, 2))
        m.put("Add", grown)
        m.quant(FixedSpec(4, 2, signed=False))
        grown = m.at
    m.put("Flatten")
    m.put("MatMul", m.constant(m.shape[0], 3))
    return m.program(m.shape)


def forked_input() -> Program:
    m = image()
    trunk = m.at
    convolve(m, 2, (1, 1), False, strides=(1, 1), pads=(0,) * 4)
    left = m.at
    convolve_from(m, trunk, left)
    m.put("Add", left)
    m.quant(FixedSpec(4, 4))
    m.put("Flatten")
    m.put("MatMul", m.constant(m.shape[0], 3))
    return m.program(m.shape)


def image_at_the_end() -> Program:
    m = image()
    convolve(m, 3, (2, 2), True, strides=(1, 1), pads=(0,) * 4)
    return m.program(m.shape)


def one_bit() -> Program:
    """Return layers with 1-bit activations, weights without a sign, and the least of 4 bits."""
    m = flat(4)
    m.constants |= {
        "positive": Constant(np.arange(16).reshape(4, 4) % 7, 1),
        "least": Constant(np.array([[-8], [7], [3], [1]]), 1),
    }
    m.put("MatMul", "positive")
    m.quant(FixedSpec(1, 3, signed=False))
    m.put("MatMul", "least")
    return m.program(m.shape)


@pytest.mark.slow
@pytest.mark.parametrize("make", [residuals, forked_input, image_at_the_end, one_bit])
def test_a_form_is_built_as_planned(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program: Program = make()
    monkeypatch.setattr(finn_backend.programs, "read", lambda path: program)
    plan = plan_of(Path(__file__), interval_cycles=0)
    result = FinnBackend().build(plan, tmp_path, until="rtl")
    test_every_step_gives_the_reference_engines_codes(result)
    test_the_layers_are_joined_as_the_plan_foresaw(result)
    told, layers = dataflow(result), plan.facts["folding"].layers
    nodes = [node for node in told["nodes"] if node["kind"] != "width"]
    assert [node["kind"] for node in nodes] == [layer.kind for layer in layers]
    for node, layer in zip(nodes, layers, strict=True):
        if layer.kind == "mvau":
            assert node["weight_bits"] == layer.weight_bits
        if layer.kind == "add":  # the sum of the extremes must fit
            first, second, out = (told["streams"][n] for n in (*node["inputs"], *node["outputs"]))
            total = sum_spec(
                *(FixedSpec(s["element_bits"], 0, s["signed"]) for s in (first, second))
            )
            assert out["element_bits"] == total.width
            assert (first["signed"], second["signed"]) != (True, False)
    values = inputs(program, 20)
    assert result.predict is not None
    np.testing.assert_array_equal(result.predict(values), reference.run(program, values))
