"""hls4ml: a QONNX graph becomes a C++ project for Vitis HLS, compiled and asked with g++ alone.

Widths are chosen so that nothing is lost: the input takes the format of the Quant that reads it,
and hls4ml's `auto` infers every accumulator from it. The request's `accumulator` narrows them,
to see what that costs. hls4ml: Duarte et al., arXiv:1804.06913.
"""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit import tools
from fastml_kit.backends.base import BuildPlan, BuildRequest, BuildResult, Predict, Stage, reached
from fastml_kit.errors import BadRequest, BuildFailed, FastmlError, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import program, ranges
from fastml_kit.graph.host import quantize_input

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

    @property
    def multipliers(self) -> int:
        """Multipliers that work side by side (an estimate: HLS may still share or drop some)."""
        return -(-self.weights * self.positions_at_once // self.reuse_factor)


class Hls4mlBackend:
    """QONNX to C++ through hls4ml's Vitis backend; no vendor tool is needed up to csim."""

    name = "hls4ml"

    def plan(self, graph: Path, request: BuildRequest) -> BuildPlan:
        """Choose hls4ml's configuration; the only file of the plan is that configuration."""
        with _hls4ml_errors(graph):
            config = self._configure(_channels_last(graph), graph, request)
        return BuildPlan(
            self.name, graph, request, {"hls4ml_config.json": json.dumps(config, indent=1)}
        )

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
            predict=_predictor(project, plan.graph) if reached("csim", until) else None,
            interface={"layers": _layer_facts(project)},
        )

    def _configure(self, model: Any, graph: Path, request: BuildRequest) -> dict[str, Any]:
        import hls4ml

        bounds = ranges.analyse(program.read(graph))
        specs = [found.spec for found in bounds.values()]
        widest = FixedSpec(
            max(s.integer + (not s.signed) for s in specs) + max(s.frac for s in specs),
            max(s.integer + (not s.signed) for s in specs),
        )
        config: dict[str, Any] = hls4ml.utils.config_from_onnx_model(
            model, granularity="name", backend="Vitis", default_precision=str(widest)
        )
        config["Model"]["ReuseFactor"] = request.reuse_factor
        config["Model"]["Strategy"] = "Latency" if request.reuse_factor == 1 else "Resource"
        for name, layer in config["LayerName"].items():
            if "ReuseFactor" in layer:
                layer["ReuseFactor"] = request.reuse_factor
            if "accum" in layer["Precision"] and request.accumulator != "auto":
                layer["Precision"] |= {"accum": request.accumulator, "result": request.accumulator}
            if name == model.graph.input[0].name:
                layer["Precision"]["result"] = str(next(iter(bounds.values())).spec)
        return config

    def _convert(self, plan: BuildPlan, folder: Path) -> Any:
        import hls4ml

        return hls4ml.converters.convert_from_onnx_model(
            _channels_last(plan.graph),
            hls_config=json.loads(plan.files["hls4ml_config.json"]),
            backend="Vitis",
            output_dir=str(folder),
            project_name=plan.request.name,
            part=plan.request.part,
            clock_period=plan.request.clock_ns,
            io_type=plan.request.io_type,
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
        with redirect_stdout(said):
            yield
    except FastmlError:
        raise
    except Exception as error:  # hls4ml raises bare exceptions of many kinds
        tail = "\n".join(said.getvalue().splitlines()[-15:])
        raise BuildFailed(f"hls4ml failed on {graph.name}: {error}\n{tail}") from error


def _channels_last(graph: Path) -> Any:
    """Read the graph in the form that hls4ml takes: clean names, images channel last."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    model = cleanup_model(ModelWrapper(str(graph)))
    if len(model.get_tensor_shape(model.graph.input[0].name)) == 4:
        model = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
        model = cleanup_model(model.transform(GemmToMatMul()))
    return model


def _predictor(project: Any, graph: Path) -> Predict:
    read = program.read(graph)
    outputs = list(project.get_output_variables())
    if len(outputs) != 1:
        raise UnsupportedModel(f"hls4ml gave the model {len(outputs)} outputs; one is expected")

    def predict(values: NDArray[Any]) -> NDArray[np.float64]:
        # The C++ begins behind the first Quant: its input type would cut off and wrap instead.
        on_grid = quantize_input(read, values)
        # hls4ml reads memory, not strides: the array must be contiguous after the transpose.
        last = on_grid.transpose(0, 2, 3, 1) if on_grid.ndim == 4 else on_grid
        out = project.predict(np.ascontiguousarray(last, dtype=np.float32))
        return np.asarray(out, dtype=np.float64).reshape(len(values), -1)

    return predict


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
            )
        )
    return tuple(facts)
