"""FINN: a network as a pipeline of streaming layers, each folded to the speed that it needs.

`plan` writes the graph in FINN's dialect, foresees the layers and chooses each one's folding; it
starts nothing. `build` takes finn-plus through its named steps in a process of its own, with no
Vivado, and verifies every step's model on samples: first the graph, then FINN's hardware layers,
executed in Python. What comes out is FINN's RTL for every layer and `dataflow.json`, which
`fastml_kit.rtl.stitch` joins to a whole design. What FINN writes in HLS only (max-pool, sums and
copies of streams) the stitcher takes from the kit.

The circuit's input is codes of the graph's first quantizer, applied by the host; the host also adds
the last layer's bias, where no quantizer follows it: `interface["output"]["offset"]`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastml_kit import devices
from fastml_kit.backends.base import (
    BuildPlan,
    BuildRequest,
    BuildResult,
    Cost,
    Predict,
    Stage,
    reached,
)
from fastml_kit.backends.finn_backend import finn_graph, folding, lowering, network, process
from fastml_kit.backends.finn_backend.folding_costs import weight_style
from fastml_kit.backends.finn_backend.folding_models import Fold, Layer, Mvau, legal
from fastml_kit.errors import BadRequest, BuildFailed, unknown_name
from fastml_kit.fixedpoint import Codes, FixedSpec
from fastml_kit.graph import program as programs
from fastml_kit.graph import reference
from fastml_kit.graph.host import input_quant, quantize_input
from fastml_kit.graph.ir import Program

#: Random samples that a build verifies with, where it is given none.
SAMPLES = 256


class FinnBackend:
    """QONNX graph -> folded streaming layers in RTL.

    Reads `interval_cycles`, `fold_for`, `device_share`, `folding`, `part`, `clock_ns` and `name`.
    """

    name = "finn"

    def plan(self, graph: Path, request: BuildRequest) -> BuildPlan:
        """Lower the graph and fold it; write nothing.

        `facts["folding"]` is the `folding.Plan`, `facts["lowered"]` the graph for FINN.

        Raises:
            UnsupportedModel: a node has no unit in FINN's RTL library or in the kit's.
            DoesNotFit: no folding reaches the interval within the device.
            BadRequest: the part is unknown, or a layer cannot be folded as asked.
        """
        program = programs.read(graph)
        lowered = lowering.lower(program)
        found = network.of(lowered)
        device = devices.of_part(request.part)
        if request.folding:
            chosen = _by_hand(found, request.folding, device)
        else:
            chosen = folding.solve(
                found.layers,
                budget=folding.Resources.of(device, request.device_share),
                interval=request.interval_cycles or None,
                latency=request.fold_for == "latency",
                edges=found.edges,
            )
        job = {
            "graph": "lowered.onnx",
            "samples": "samples.npz",
            "part": request.part,
            "clock_ns": request.clock_ns,
            "steps": process.STEPS,
            "folds": [_given(*pair) for pair in zip(chosen.layers, chosen.folds, strict=True)],
        }
        total = chosen.total
        return BuildPlan(
            backend=self.name,
            graph=graph,
            request=request,
            files={"job.json": json.dumps(job, indent=1) + "\n"},
            facts={
                "program": program,
                "lowered": lowered,
                "folding": chosen,
                "lower_bound": folding.lower_bound(chosen.layers, chosen.folds),
                "cost": Cost(
                    source="estimate",
                    lut=round(total.lut),
                    ff=round(total.ff),
                    dsp=round(total.dsp),
                    bram36=total.bram36,
                    latency_cycles=chosen.latency,
                    interval_cycles=chosen.interval,
                ),
            },
        )

    def build(
        self, plan: BuildPlan, folder: Path, *, until: Stage, samples: ArrayLike | None = None
    ) -> BuildResult:
        """Build `plan` in `folder` as far as `until`: a cost, FINN's layers, their RTL.

        `samples`, real values of the graph's input shape, are what every step is verified with;
        without them, random codes and the extreme ones. FINN takes all its steps at once, so that
        "csim" already leaves the RTL.

        Raises:
            BuildFailed: a step of FINN's failed, or its model gives other codes.
            ToolNotFound: finn-plus is missing.
        """
        lowered, program = plan.facts["lowered"], plan.facts["program"]
        result = BuildResult(
            plan=plan,
            stage="estimate",
            folder=folder,
            top=f"{plan.request.name}_finn",
            costs=(plan.facts["cost"],),
        )
        if not reached("csim", until):
            return result
        import onnx

        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(lowered.model, folder / "lowered.onnx")
        inputs = _samples(program, lowered) if samples is None else _codes(program, samples)
        inputs = inputs.reshape(len(inputs), *lowered.input_shape)
        job = json.loads(plan.files["job.json"])
        process.run(folder, job, inputs, _circuit_codes(program, lowered, inputs))
        dataflow = json.loads((folder / "dataflow.json").read_text(encoding="utf-8"))
        result = replace(
            result,
            stage="csim",
            predict=_predict(folder, program, lowered),
            interface=_interface(plan, lowered, dataflow, result.top),
            costs=(*result.costs, _finn_cost(folder, dataflow)),
        )
        return replace(result, stage="rtl") if reached("rtl", until) else result


def verified(result: BuildResult) -> list[dict[str, Any]]:
    """Return a row for each verified step of a build: its name, samples, and how many differ."""
    rows: list[dict[str, Any]] = json.loads(
        (result.folder / "verified.json").read_text(encoding="utf-8")
    )
    return rows


def _by_hand(
    found: network.Network, asked: Mapping[str, Mapping[str, Any]], device: devices.Device
) -> folding.Plan:
    """Return the plan of a given folding; layers that it leaves out are not parallel at all."""
    names = [layer.name for layer in found.layers]
    for name in asked:
        if name not in names:
            raise unknown_name("layer", name, names)
    folds = tuple(_fold(layer, asked.get(layer.name, {})) for layer in found.layers)
    layers, edges = tuple(found.layers), tuple(found.edges)
    return folding.Plan(layers, folds, edges, folding.Resources.of(device))


def _given(layer: Layer, fold: Fold) -> dict[str, Any]:
    """Return what FINN and the stitcher are told of one layer."""
    given = {"layer": layer.name, "kind": layer.kind, **fold.attributes(layer)}
    if isinstance(layer, Mvau):
        given |= {"compute": fold.compute, "ram_style": weight_style(layer, fold)}
    return given


def _fold(layer: Layer, asked: Mapping[str, Any]) -> Fold:
    words = {"PE": "pe", "SIMD": "simd"}
    given = {words.get(key, key): value for key, value in asked.items()}
    ways = legal(layer)
    fits = [way for way in ways if all(getattr(way, k, None) == v for k, v in given.items())]
    if not fits:
        pairs = sorted({(way.pe, way.simd) for way in ways})
        raise BadRequest(
            f"layer {layer.name!r} cannot be folded as {dict(asked)}; PE and SIMD may be "
            f"{', '.join(map(str, pairs[:12]))}{' ...' if len(pairs) > 12 else ''}"
        )
    return fits[0]


def _samples(program: Program, lowered: lowering.Lowered) -> Codes:
    """Return random codes of the input, and the smallest and the largest one everywhere."""
    spec, rng = lowered.input_spec, np.random.default_rng(0)
    shape = (SAMPLES, *program.input_shape)
    codes = rng.integers(spec.low, spec.high + 1, shape)
    codes[0], codes[1] = spec.low, spec.high
    return np.asarray(codes, dtype=np.int64)


def _codes(program: Program, values: ArrayLike) -> Codes:
    spec: FixedSpec = input_quant(program).attrs["spec"]
    return spec.to_codes(quantize_input(program, values))


def _circuit_codes(program: Program, lowered: lowering.Lowered, inputs: Codes) -> Codes:
    """Return the codes that the reference engine expects at the circuit's output."""
    values = lowered.input_spec.to_values(inputs.reshape(len(inputs), *program.input_shape))
    made = reference.run(program, values).reshape(len(inputs), -1)
    codes = np.rint(made * 2.0**lowered.output_frac).astype(np.int64) - lowered.offsets
    down = lowered.output_frac - lowered.circuit_frac
    if (codes & ((1 << down) - 1)).any():
        raise BuildFailed("the circuit's codes are no whole numbers; this is a fault in lowering")
    return codes >> down


def _predict(folder: Path, program: Program, lowered: lowering.Lowered) -> Predict:
    """Return a function that has FINN execute its own hardware layers, in its own process."""

    def predict(values: ArrayLike) -> Any:
        inputs = _codes(program, values)
        inputs = inputs.reshape(len(inputs), *lowered.input_shape)
        made = process.execute(folder, inputs).reshape(len(inputs), -1)
        whole = made * 2.0**-lowered.circuit_frac + lowered.offsets * 2.0**-lowered.output_frac
        return whole.reshape(len(inputs), *program.output_shape)

    return predict


def _interface(
    plan: BuildPlan, lowered: lowering.Lowered, dataflow: Mapping[str, Any], top: str
) -> dict[str, Any]:
    """Say how samples lie on the design's streams; see `fastml_kit.rtl.stream`."""
    program = plan.facts["program"]
    streams = dataflow["streams"]
    order = np.argsort(finn_graph.elements(lowered.input_shape))
    return {
        "top": top,
        "interval_cycles": plan.facts["folding"].interval,
        "input": {
            **streams[dataflow["input"]],
            "frac": lowered.input_spec.frac,
            "shape": list(program.input_shape),
            "order": order.tolist(),
        },
        "output": {
            **streams[dataflow["output"]],
            "frac": lowered.circuit_frac,
            "shape": list(program.output_shape),
            "order": np.argsort(finn_graph.elements(lowered.circuit_shape)).tolist(),
            "offset": (lowered.offsets * 2.0**-lowered.output_frac).tolist(),
        },
    }


def _finn_cost(folder: Path, dataflow: Mapping[str, Any]) -> Cost:
    """Return FINN's own estimates, which leave out more than they count (see the notebook)."""
    estimates = [node["estimate"] for node in dataflow["nodes"]]
    report = folder / "report" / "estimate_network_performance.json"
    said = json.loads(report.read_text(encoding="utf-8"))

    def total(name: str) -> float:
        return float(sum(estimate.get(name, 0) for estimate in estimates))

    return Cost(
        source="estimate",
        lut=round(total("LUT")),
        dsp=round(total("DSP")),
        bram36=total("BRAM_18K") / 2,
        latency_cycles=int(said["critical_path_cycles"]),
        interval_cycles=int(said["max_cycles"]),
    )
