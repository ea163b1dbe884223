"""da4ml: from the graph straight to Verilog, without HLS; fully unrolled, one inference a cycle.

`plan` already holds all the Verilog, because da4ml needs no tool to make it; `build` writes it.
The design's top adds a valid line and a reset to da4ml's bare pipeline, and is all that
`fastml_kit.rtl` needs to know:

    clk, rst (synchronous, active high), valid_in, data_in -> valid_out, data_out

It takes a word every cycle, and cannot be stalled. `rtl/interface.json` says where each element
lies in the words, in what format, and after how many cycles the answer comes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.backends import da4ml_trace
from fastml_kit.backends.base import (
    BuildPlan,
    BuildRequest,
    BuildResult,
    Cost,
    Predict,
    Stage,
    reached,
)
from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.graph import program as programs
from fastml_kit.graph.host import quantize_input

TOP = """\
// A da4ml pipeline with a valid line: an answer leaves {latency} cycles after its question came.
`timescale 1 ns / 1 ps
module {top} (
    input clk,
    input rst,
    input valid_in,
    input [{in_high}:0] data_in,
    output valid_out,
    output [{out_high}:0] data_out
);
    reg [{latency_high}:0] valid;
    always @(posedge clk) valid <= rst ? {latency}'b0 : {{valid, valid_in}};
    assign valid_out = valid[{latency_high}];

    {pipeline} pipeline (.clk(clk), .model_inp(data_in), .model_out(data_out));
endmodule
"""


class Da4mlBackend:
    """QONNX graph -> da4ml -> C++ interpreter and Verilog.

    Reads `name`, `latency_cutoff` and `most_multiplications`.
    """

    name = "da4ml"

    def plan(self, graph: Path, request: BuildRequest) -> BuildPlan:
        """Trace the graph into adders and registers; write nothing.

        Raises:
            BadRequest: the request's name is no identifier, or its `latency_cutoff` is below 1.
            UnsupportedModel: a node has no exact form in da4ml, or the design is too large.
        """
        return plan_program(programs.read(graph), graph, request)

    def build(self, plan: BuildPlan, folder: Path, *, until: Stage) -> BuildResult:
        """Build `plan` in `folder` as far as `until`: a cost, an interpreter, Verilog files.

        The result's `predict` takes real values of the graph's input shape, quantizes them as
        the graph's first node does (that is the host's work), and returns exact output values.
        """
        result = BuildResult(
            plan=plan,
            stage="estimate",
            folder=folder,
            top=plan.facts["interface"]["top"],
            costs=(plan.facts["cost"],),
            interface=plan.facts["interface"],
        )
        if reached("csim", until):
            result = replace(result, stage="csim", predict=plan.facts["predict"])
        if reached("rtl", until):
            for name, text in plan.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            sources = tuple(folder / name for name in plan.files if name.endswith(".v"))
            result = replace(result, stage="rtl", sources=sources)
        return result


def plan_program(program: programs.Program, graph: Path, request: BuildRequest) -> BuildPlan:
    """Return the plan for an already read `program`; see `Da4mlBackend.plan`."""
    from da4ml.trace.pipeline import to_pipeline
    from da4ml.types import minimal_kif

    if not request.latency_cutoff >= 1:
        raise BadRequest(
            f"latency_cutoff={request.latency_cutoff} adder delays between registers; at least 1"
        )
    multiplications = da4ml_trace.multiplications(program, request.most_multiplications)
    logic = da4ml_trace.trace(program)
    pipeline = to_pipeline(logic, request.latency_cutoff, verbose=False)
    if not any(sum(minimal_kif(interval)) for interval in pipeline.inp_qint):
        raise UnsupportedModel("da4ml backend: the output depends on no input; train the model")
    latency = len(pipeline.solutions) + 1  # a register before each stage and one after the last
    interface = {
        "top": f"{request.name}_top",
        "latency_cycles": latency,
        "interval_cycles": 1,
        "input": _word(pipeline.inp_qint, program.input_shape),
        "output": _word(pipeline.out_qint, program.output_shape),
    }
    return BuildPlan(
        backend=Da4mlBackend.name,
        graph=graph,
        request=request,
        files=_verilog(pipeline, request.name, interface),
        facts={
            "multiplications": multiplications,
            "interface": interface,
            "predict": _predict(logic, program),
            "cost": Cost(
                source="estimate",
                lut=round(logic.cost),
                ff=pipeline.reg_bits,
                dsp=0,
                bram36=0,
                latency_cycles=latency,
                interval_cycles=1,
            ),
        },
    )


def _predict(logic: Any, program: programs.Program) -> Predict:
    """Return a function that runs `logic` in da4ml's C++ interpreter."""

    def predict(values: NDArray[Any]) -> NDArray[np.float64]:
        on_grid = quantize_input(program, values).reshape(len(values), prod(program.input_shape))
        return np.asarray(logic.predict(on_grid)).reshape(len(values), *program.output_shape)

    return predict


def _word(intervals: Sequence[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Say how elements are packed into one word: the first in the lowest bits, without gaps.

    An element of width 0 has no bits in the word: an input that nothing reads, or a constant 0.
    """
    from da4ml.types import minimal_kif

    formats = [minimal_kif(interval) for interval in intervals]
    widths = [int(sum(kif)) for kif in formats]
    return {
        "bits": sum(widths),
        "shape": list(shape),
        "offset": [0, *np.cumsum(widths[:-1]).tolist()],
        "width": widths,
        "frac": [int(kif.fractional) for kif in formats],
        "signed": [bool(kif.keep_negative) for kif in formats],
    }


def _verilog(pipeline: Any, name: str, interface: Mapping[str, Any]) -> dict[str, str]:
    """Return every file of the design, by its path below the build folder."""
    import da4ml.codegen.rtl as generator
    from da4ml.codegen.rtl.verilog import pipeline_logic_gen

    latency = interface["latency_cycles"]
    modules = pipeline_logic_gen(pipeline, f"{name}_pipeline")
    modules[interface["top"]] = TOP.format(
        top=interface["top"],
        pipeline=f"{name}_pipeline",
        latency=latency,
        latency_high=latency - 1,
        in_high=interface["input"]["bits"] - 1,
        out_high=interface["output"]["bits"] - 1,
    )
    library = Path(generator.__file__).parent / "verilog" / "source"
    text = "\n".join(modules.values())
    for source in sorted(library.glob("*.v")):
        if re.search(rf"\b{source.stem} #\(", text):
            modules[source.stem] = source.read_text(encoding="utf-8")
    files = {f"rtl/{module}.v": text for module, text in modules.items()}
    return files | {"rtl/interface.json": json.dumps(interface, indent=1) + "\n"}
