"""hls4ml: a QONNX graph becomes a C++ project for Vitis HLS, compiled and asked with g++ alone.

hls4ml gets its list of layers from the integer program (`hls4ml_layers`), with the type of every
result, weight and accumulator written out, so that nothing is lost: what hls4ml 1.3.0 reads out of
QONNX itself is less, and loses more. The request's `accumulator` narrows the sums, to see what
that costs. hls4ml: Duarte et al., arXiv:1804.06913.
"""

import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit import tools
from fastml_kit.backends.base import BuildPlan, BuildRequest, BuildResult, Predict, Stage, reached
from fastml_kit.backends.hls4ml_design import Design
from fastml_kit.backends.hls4ml_layers import design_of
from fastml_kit.backends.hls4ml_sharing import configuration
from fastml_kit.errors import BadRequest, BuildFailed, FastmlError, UnsupportedModel
from fastml_kit.graph import program
from fastml_kit.graph.host import input_quant, quantize_input

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerFacts:
    """What hls4ml made of one layer: its output type, and how often a multiplier is used."""

    name: str
    kind: str
    result: str
    weights: int
    positions_at_once: int  # of a convolution
    reuse_factor: int  # granted: the valid one nearest to what was asked
    strategy: str = ""  # latency or resource, of a layer of weights
    fifo: int | None = None  # words that the queue of its output holds, in io_stream

    @property
    def multipliers(self) -> int:
        """Multipliers that work side by side (an estimate: HLS may still share or drop some)."""
        return -(-self.weights * self.positions_at_once // self.reuse_factor)


class Hls4mlBackend:
    """QONNX to C++ through hls4ml's Vitis backend; no vendor tool is needed up to csim."""

    name = "hls4ml"

    def plan(self, graph: Path, request: BuildRequest) -> BuildPlan:
        """Choose layers and types; the only file of the plan is hls4ml's configuration.

        Raises:
            UnsupportedModel: a node has no exact form in hls4ml, or the C++ would be too large;
                the message names which, and what to do.
            BadRequest: a layer, a reuse factor or a type in the request is none; see
                `hls4ml_sharing`.
        """
        return plan_program(program.read(graph), graph, request)

    def build(self, plan: BuildPlan, folder: Path, *, until: Stage) -> BuildResult:
        """Write the C++ project in `folder`, and compile it from stage `csim` on.

        Raises:
            ToolNotFound: there is no g++.
            BuildFailed: hls4ml or g++ failed; the message ends with what was printed.
        """
        if reached("rtl", until):
            raise BadRequest(
                "hls4ml's RTL comes from Vitis (see rtl.vendor); the open way is da4ml"
            )
        if reached("csim", until):
            tools.require("g++")
        with _hls4ml_errors(plan.graph):
            project = self._convert(plan, folder)
            _check(project, plan.facts["design"], json.loads(plan.files["hls4ml_config.json"]))
            if reached("csim", until):
                project.compile()
            else:
                project.write()
        return BuildResult(
            plan=plan,
            stage=until,
            folder=folder,
            top=plan.request.name,
            sources=tuple(sorted((folder / "firmware").glob("*.cpp"))),
            predict=_predictor(project, plan.facts["design"]) if reached("csim", until) else None,
            interface={"layers": _layer_facts(project)},
        )

    def _convert(self, plan: BuildPlan, folder: Path) -> Any:
        from hls4ml.converters import create_config
        from hls4ml.model import ModelGraph

        design: Design = plan.facts["design"]
        config = create_config(
            output_dir=str(folder),
            project_name=plan.request.name,
            backend="Vitis",
            part=plan.request.part,
            clock_period=plan.request.clock_ns,
            io_type=plan.request.io_type,
        )
        config["HLSConfig"] = json.loads(plan.files["hls4ml_config.json"])
        output = design.wires[design.program.output].layer
        # hls4ml changes the list that it is given, and the plan must stay as it is.
        layers = [dict(layer) for layer in design.layers]
        project = ModelGraph.from_layer_list(config, layers, [layers[0]["name"]], [output])
        for name, knobs in plan.request.layers.items():
            if "fifo" in knobs:
                layer = project.graph[name]
                if _queue(layer, project) is None:
                    raise BadRequest(
                        f"layer {name!r} has no queue behind it: a port, or a reshape in place"
                    )
                layer.get_output_variable().pragma = ("stream", knobs["fifo"])
        return project


def plan_program(read: program.Program, graph: Path, request: BuildRequest) -> BuildPlan:
    """Return the plan for an already read program; see `Hls4mlBackend.plan`."""
    design = design_of(read, stream=request.io_type == "io_stream", merge=request.merge_activations)
    config = configuration(design, request)
    files = {"hls4ml_config.json": json.dumps(config, indent=1)}
    return BuildPlan(
        Hls4mlBackend.name, graph, request, files, facts={"design": design, "config": config}
    )


@contextmanager
def _hls4ml_errors(graph: Path) -> Iterator[None]:
    """Turn hls4ml's errors into ours; what it prints goes into the message, and nowhere else."""
    if "keras" not in sys.modules:
        # hls4ml imports Keras 3 for its own converters, and Keras 3 its TensorFlow backend:
        # 2 s and 300 MB that a QONNX graph has no use for.
        os.environ.setdefault("KERAS_BACKEND", "numpy")
    said = io.StringIO()
    try:
        with redirect_stdout(said), warnings.catch_warnings():
            # It sets the strategy of a pointwise convolution twice, to the same.
            warnings.filterwarnings("ignore", "Overriding attribute 'strategy'")
            yield
    except FastmlError:
        raise
    except Exception as error:  # hls4ml raises bare exceptions of many kinds
        lines = said.getvalue().splitlines()
        # g++ says what is wrong once, and where that came from in fifty lines more.
        tail = "\n".join([line for line in lines if "error:" in line][:5] or lines[-15:])
        raise BuildFailed(f"hls4ml failed on {graph.name}: {error}\n{tail}") from error


def _check(project: Any, design: Design, config: dict[str, Any]) -> None:
    """Hold hls4ml's graph against the design: every layer with its type, every weight its value.

    Raises:
        UnsupportedModel: hls4ml changed a type or a weight, or put in a layer that rounds.
    """
    given = {layer["name"]: layer for layer in design.layers}
    for layer in project.get_layers():
        name, precision = layer.name, layer.get_output_variable().type.precision
        if name not in given:
            if layer.class_name not in ("Clone", "Repack", "ZeroPadding1D", "ZeroPadding2D"):
                raise UnsupportedModel(f"hls4ml put in {layer.class_name} {name!r} on its own")
            continue
        convert = layer.model.config.backend.convert_precision_string
        asked = config["LayerName"][name]["Precision"]["result"]
        wanted = convert(asked)
        if precision != wanted and layer.class_name != "Reshape":
            raise UnsupportedModel(f"hls4ml gave {name!r} the type {precision} for {asked}")
        for kind, weights in layer.weights.items():
            data: Any = given[name].get("depthwise_data") if kind == "weight" else None
            data = given[name].get(f"{kind}_data") if data is None else data
            wanted = convert(config["LayerName"][name]["Precision"][kind])
            same = np.array_equal(np.sort(np.ravel(weights.data)), np.sort(np.ravel(data)))
            if not same or weights.type.precision != wanted:
                raise UnsupportedModel(f"hls4ml changed the {kind} of {name!r} or its type")


def _predictor(project: Any, design: Design) -> Predict:
    read = design.program
    start, end = design.wires[input_quant(read).output], design.wires[read.output]
    widths = [design.found[tensor].spec.width for tensor in (input_quant(read).output, read.output)]
    kind = np.float32 if max(widths) <= 24 else np.float64  # which must carry every code
    places = np.argsort(end.order)

    # The compiled function lets go of Python's lock. In io_parallel it keeps nothing between its
    # calls but its weights, which this one loads; streams keep their line buffers in statics.
    cores = 1 if design.stream else len(os.sched_getaffinity(0))
    project.predict(np.zeros((1, len(start.order)), dtype=kind))

    def one(rows: NDArray[Any]) -> NDArray[Any]:
        # hls4ml drops the batch axis of one sample.
        return np.asarray(project.predict(rows), dtype=np.float64).reshape(len(rows), len(places))

    def predict(values: NDArray[Any], threads: int = cores) -> NDArray[np.float64]:
        # The C++ begins behind the first Quant: its input type would cut off and wrap instead.
        on_grid = quantize_input(read, values).reshape(len(values), len(start.order))
        rows = np.ascontiguousarray(on_grid[:, start.order], dtype=kind)
        parts = np.array_split(rows, max(1, min(threads, cores, len(rows) // 64)))
        with ThreadPoolExecutor(len(parts)) as pool:
            out = np.concatenate(list(pool.map(one, map(np.ascontiguousarray, parts))))
        return np.asarray(out[:, places].reshape(len(values), *read.output_shape))

    return predict


def _queue(layer: Any, project: Any) -> int | None:
    """Return the depth of the queue behind a layer, if it has one inside the design."""
    variable = layer.get_output_variable()
    ports = {v.name for v in (*project.get_input_variables(), *project.get_output_variables())}
    pragma = getattr(variable, "pragma", None)
    inside = variable.name not in ports and isinstance(pragma, tuple) and pragma[0] == "stream"
    return int(pragma[1]) if inside and pragma is not None else None


def _layer_facts(project: Any) -> tuple[LayerFacts, ...]:
    facts = []
    for layer in project.get_layers():
        if layer.class_name == "Input":
            continue
        weight = layer.weights.get("weight")
        facts.append(
            LayerFacts(
                layer.name,
                layer.class_name,
                str(layer.get_output_variable().type.precision),
                weights=0 if weight is None else int(np.prod(weight.shape)),
                positions_at_once=int(layer.get_attr("parallelization_factor", 1)),
                reuse_factor=int(layer.get_attr("reuse_factor", 1)),
                strategy="" if weight is None else str(layer.get_attr("strategy", "")),
                fifo=_queue(layer, project),
            )
        )
    return tuple(facts)
