"""FINN's own last mile, where Vivado and Vitis HLS are: from folded layers to a Zynq bitfile.

`rtl.stitch` joins FINN's layers without a vendor. FINN's own way goes further, to a placed and
routed design and a bitfile with its driver. `script` writes a folder that takes it: the model as
the kit folded it, FINN's configuration, and a program that needs FINN but not this kit, so that the
folder can be carried to where the tools are. `run` starts it; the readers take what it leaves.

None of it was ever run here with the tools: no Vivado. FINN 1.6.1's own code was, all the way, with
stand-ins for Vivado, Vitis HLS and FINN's simulation of FIFOs. Two things differ from the kit's
circuit. What it computes in LUTs is an HLS unit here, as FINN's RTL has DSPs only; so is a layer
with SIMD = MW, where that RTL loses words under back-pressure. FIFOs are as FINN sizes them.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastml_kit import files, tools
from fastml_kit.backends.base import BuildResult, Cost
from fastml_kit.errors import BadRequest, BuildFailed, ToolNotFound, unknown_name
from fastml_kit.rtl.process import run_logged

#: What can be asked for: FINN's name of it, its steps, and what it stands on.
OUTPUTS: dict[str, tuple[str, list[str], str]] = {
    "stitched_ip": ("stitched_ip", ["step_create_stitched_ip"], ""),
    "rtlsim": ("rtlsim_performance", ["step_measure_rtlsim_performance"], "stitched_ip"),
    "ooc_synth": ("out_of_context_synth", ["step_out_of_context_synthesis"], "stitched_ip"),
    "bitfile": ("bitfile", ["step_prepare_synthesis", "step_synthesize_bitfile"], ""),
    "driver": ("pynq_driver", ["step_make_driver", "step_deployment_package"], "bitfile"),
}
USUAL = ("stitched_ip", "ooc_synth", "bitfile", "driver")
#: These come first, whatever is asked for: each layer's code and IP, and the FIFOs between them.
FIRST = ["step_hw_codegen", "step_hw_ipgen", "step_set_fifo_depths"]
#: Those of FINN's Zynq boards that have a part which the kit can fold for.
BOARDS = {"Pynq-Z1": "xc7z020clg400-1", "Pynq-Z2": "xc7z020clg400-1"}
PACKAGE = ("bitfile/finn-accel.bit", "bitfile/finn-accel.hwh", "driver/settings.json")

SCRIPT = """\
'''Take model.onnx through the steps of config.json with FINN, Vivado and Vitis HLS.

What they make is in output/. Source Vivado's settings64.sh first. At its first start FINN fetches
its HLS library and board files; AUTOMATIC_DEPENDENCY_UPDATES=false keeps it from doing so again.'''
import argparse
import os
import sys
import sysconfig
import types
from importlib.util import find_spec
from pathlib import Path
HERE = Path(__file__).resolve().parent
# FINN's worker processes begin by importing this file, and need all of this as well.
(HERE / "build").mkdir(exist_ok=True)
os.environ |= {"FINN_BUILD_DIR": f"{HERE}/build", "FINN_SETTINGS": f"{HERE}/settings.json"}
if find_spec("torch") is None:  # FINN imports it for a layer that is not used here
    names = ("torch", "torch.nn", "torch.nn.functional")
    torch, nn, functional = (sys.modules.setdefault(n, types.ModuleType(n)) for n in names)
    torch.nn, nn.functional, torch.Tensor = nn, functional, type("Tensor", (), {})

def main(check, start):
    if check:
        import finn.xsi
        for name in finn.xsi._LAZY_NAMES:  # else they would look for Vivado's simulator
            setattr(finn.xsi, name, None)
    else:
        from finn.interface import run_finn
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):  # else FINN puts another libpython first
            for path in "/lib/x86_64-linux-gnu/", sysconfig.get_config_var("LIBDIR"):
                run_finn.prepend_ld_library_paths([path])
        run_finn.ensure_ld_library_path()  # may start this program anew
        settings = run_finn.FINNSettings.init(flow_config=HERE / "config.json")
        run_finn.prepare_finn(settings, accept_defaults=True, batch=True)
    from finn.builder.build_dataflow import build_dataflow_cfg, resolve_build_steps
    from finn.builder.build_dataflow_config import DataflowBuildConfig
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp
    config = DataflowBuildConfig.from_json((HERE / "config.json").read_text())
    config.output_dir, config.start_step = str(HERE / "output"), start
    if not check:
        return 1 if build_dataflow_cfg("" if start else "model.onnx", config) else 0
    steps = resolve_build_steps(config)
    for node in steps[0](ModelWrapper("model.onnx"), config).graph.node:
        print("layer", node.name, getCustomOp(node).get_exp_cycles())
    print(*("step " + step.__name__ for step in steps), sep="\\n")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", help="go on with this step, from the model of the one before")
    parser.add_argument("--check", action="store_true", help="no tool: generate the layers' code")
    asked = parser.parse_args()
    sys.argv[0] = __file__  # for a new start from here
    os.chdir(HERE)
    sys.exit(main(asked.check, asked.start))
"""


class Row(NamedTuple):
    """What one instance takes."""

    name: str  # FINN's; "(top)" is everything together
    layer: str | None  # the graph's; None for FIFOs, DMA and the shell
    cost: Cost


def script(
    result: BuildResult, *, outputs: Sequence[str] = USUAL, board: str = "Pynq-Z2", folder: Path
) -> Path:
    """Write what takes a FINN build on with Vivado to `folder`; return the program to start.

    `board` is what a bitfile is for. The program's --check was run here, but no more: no Vivado.

    Raises:
        BadRequest: `result` holds no folded layers, an output or the board is unknown, or does
            not go with the rest.
    """
    request = result.plan.request
    config = _configuration(outputs, board, request.part, request.clock_ns)
    model, layers = _model(result)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_whole(folder / "model.onnx", model)
    for name, content in ("config", config), ("layers", layers), ("settings", {}):
        files.write_whole(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
    files.write_whole(folder / "build.py", SCRIPT)
    return folder / "build.py"


def run(program: Path, *, start: str | None = None) -> Path:
    """Start what `script` wrote in a process of its own; return the folder of its output.

    `start` goes on with that step after a failure. Never run here: no Vivado.

    Raises:
        ToolNotFound: FINN, Vivado or Vitis HLS is not here.
        BadRequest: `program` is not `script`'s, or has no such step to go on with.
        BuildFailed: a step failed; the message ends with FINN's last lines.
    """
    folder = program.resolve().parent
    if not program.is_file() or not (folder / "config.json").is_file():
        raise BadRequest(f"{program} is not what `finn_vivado.script` writes; call that first")
    later = _table(folder / "config.json")["steps"][1:]
    if start is not None and start not in later:
        raise unknown_name("step to go on with", start, later)
    command = [sys.executable, str(folder / program.name), *(["--start", start] if start else [])]
    run_logged(command, folder=folder, log=folder / "build.log", environment=_environment())
    return folder / "output"


def read_ooc(path: Path) -> Cost:
    """Read the counts of `report/ooc_synth_and_timing.json`: placed and routed, without a shell.

    FINN rounds Vivado's block RAM tiles down to whole ones; here the halves count.
    Never run here on a real run's report: no Vivado.

    Raises:
        BuildFailed: the file is no such report, or was cut short.
    """
    return _cost(_table(path), str(path))


def read_ooc_fmax(path: Path) -> float:
    """Return the MHz that the routed design of `report/ooc_synth_and_timing.json` reaches.

    FINN's own `fmax_mhz` takes a slack that it did not find for 0; that is refused here.
    Never run here on a real run's report: no Vivado.

    Raises:
        BuildFailed: the file is no such report, or tells no slack or no clock.
    """
    clock, slack = (_table(path).get(name, "") for name in ("clk_period_ns", "WNS"))
    if type(clock) not in (int, float) or type(slack) not in (int, float) or not clock > slack:
        raise BuildFailed(f"{path} tells a clock of {clock} ns and a slack of {slack} ns; see what "
                          "Vivado wrote to ooc_timing.rpt")  # fmt: skip
    return float(1000 / (clock - slack))


def read_post_synth(path: Path, layers: Mapping[str, str] | None = None) -> tuple[Row, ...]:
    """Read `report/post_synth_resources.json`: what each instance of the whole design takes.

    It is written after place and route. `layers` is what `script` wrote to layers.json.
    Never run here on a real run's report: no Vivado.

    Raises:
        BuildFailed: the file is no such report, or was cut short.
    """
    table = _table(path)
    if "(top)" not in table:
        raise BuildFailed(f"{path} lacks (top), the whole design; the synthesis was cut short")
    rows = []
    for name, counts in table.items():
        found = [to for own, to in (layers or {}).items() if f"_{name}".endswith(f"_{own}")]
        rows.append(Row(name, found[0] if found else None, _cost(counts, f"{path}: {name}")))
    return tuple(rows)


def deployment(output: Path) -> dict[str, str]:
    """List the package for the board, `output/deploy`: SHA-256 by relative path.

    Never run here on a real run's package: no Vivado.

    Raises:
        BuildFailed: a file of `PACKAGE` is missing or empty, or the settings tell no shapes.
    """
    package = output / "deploy"
    for name in PACKAGE:
        path = package / name
        if not path.is_file() or not path.stat().st_size:
            raise BuildFailed(f"{path} is missing or empty; ask for 'bitfile' and 'driver'")
    driver = _table(path).get("driver_information")
    if not isinstance(driver, dict) or "io_shape_dict" not in driver:
        raise BuildFailed(f"{path} does not tell the shapes of inputs and outputs")
    return files.sha256_tree(package)


def _configuration(outputs: Sequence[str], board: str, part: str, clock: float) -> dict[str, Any]:
    for name in outputs:
        if name not in OUTPUTS:
            raise unknown_name("output", name, OUTPUTS)
        if (base := OUTPUTS[name][2]) and base not in outputs:
            raise BadRequest(f"the output {name!r} stands on {base!r}; ask for both")
    if board not in BOARDS:
        raise unknown_name("board", board, BOARDS)
    if "bitfile" in outputs and BOARDS[board] != part:
        raise BadRequest(f"the build is for {part}, but {board} has {BOARDS[board]}; plan again "
                         "with that part, or leave out 'bitfile' and 'driver'")  # fmt: skip
    asked = [OUTPUTS[name] for name in OUTPUTS if name in outputs]
    return {
        "synth_clk_period_ns": clock,
        "fpga_part": part,
        "board": board,
        "shell_flow_type": "vivado_zynq",
        "generate_outputs": [product for product, _, _ in asked]
        + ["deployment_package"] * ("driver" in outputs),
        "steps": FIRST + [step for _, steps, _ in asked for step in steps],
    }


def _model(result: BuildResult) -> tuple[bytes, dict[str, str]]:
    """Return the folded model, HLS where RTL will not do, and the layer that each unit is of."""
    # Folded, and with the layers' cycles, by which FINN divides at the end of its synthesis.
    found = sorted((result.folder / "steps").glob("*_step_generate_estimate_reports.onnx"))
    if result.plan.backend != "finn" or not found:
        raise BadRequest(f"{result.folder} holds no layers that FINN folded; take the backend "
                         "'finn', and build until 'csim' at least")  # fmt: skip
    import onnx

    model = onnx.load(found[0])
    folds = json.loads(result.plan.files["job.json"])["folds"]  # in the order of the units
    numbers: Counter[str] = Counter()
    layers = {}
    for node in model.graph.node:
        fold = {} if node.op_type.startswith("StreamingDataWidthConverter") else folds.pop(0)
        sizes = {attribute.name: attribute.i for attribute in node.attribute}
        fast = node.op_type == "MVAU_rtl" and sizes["SIMD"] == sizes["MW"]
        if fast or fold.get("compute") == "lut":
            node.op_type, node.domain = "MVAU_hls", "finn.custom_op.fpgadataflow.hls"
            kept = [attribute for attribute in node.attribute if attribute.name != "resType"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("resType", fold["compute"])])
        node.name = f"{node.op_type}_{numbers[node.op_type]}"
        numbers[node.op_type] += 1
        if fold:
            layers[node.name] = fold["layer"]
    return model.SerializeToString(), layers


def _environment() -> dict[str, str]:
    tools.require("finn")
    vivado = tools.require("vivado")
    version = tools.find("vivado").version
    root = os.environ.get("XILINX_VIVADO") or str(vivado.resolve().parent.parent)
    if version is None or version not in root:
        raise ToolNotFound(f"vivado: FINN reads its version from its folder, and {root} tells "
                           "none; set XILINX_VIVADO as settings64.sh does")  # fmt: skip
    hls = tools.require("vitis-run" if version > "2024.2" else "vitis_hls")  # FINN's own choice
    return {
        "PATH": f"{vivado.parent}:{hls.parent}:{os.environ.get('PATH', '')}",
        "XILINX_VIVADO": root,
        "XILINX_HLS": os.environ.get("XILINX_HLS") or str(hls.resolve().parent.parent),
    }


def _table(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise BuildFailed(f"{path} is no complete report of FINN's: {error}") from error


def _cost(table: Any, where: str) -> Cost:
    if not isinstance(table, dict) or not {"LUT", "FF"} <= table.keys():
        raise BuildFailed(f"{where} lacks LUT or FF; the report was cut short")
    names = ("LUT", "FF", "DSP", "BRAM_36K", "BRAM_18K")
    if wrong := [c for c in (table.get(n, 0) for n in names) if type(c) is not int or c < 0]:
        raise BuildFailed(f"{where} holds {wrong[0]!r}, where a count belongs")
    lut, ff, dsp, whole, half = map(table.get, names)
    bram36 = None if whole is None or half is None else whole + half / 2
    return Cost("vivado", lut, ff, dsp, bram36)
