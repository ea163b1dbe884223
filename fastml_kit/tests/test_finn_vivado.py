"""FINN's own last mile: what can be known of it without Vivado.

The files in `reports` were made here. Those named .rpt, .txt and .xml are written by hand in the
layout of Vivado's; the two .json are FINN's own, made of them by its own steps, and a slow test
makes them anew. No number in them is a measurement.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.backends.base import BuildPlan, BuildRequest, BuildResult, Cost
from fastml_kit.errors import BadRequest, BuildFailed, ToolNotFound
from fastml_kit.rtl import finn_vivado

REPORTS = Path(__file__).parent / "reports"
OOC = REPORTS / "ooc_synth_and_timing.json"
POST_SYNTH = REPORTS / "post_synth_resources.json"
ALL = tuple(finn_vivado.OUTPUTS)
#: A layer for each way to come through: in RTL; in LUTs; with its whole input in one cycle.
FOLDING: dict[str, dict[str, Any]] = {
    "dense1": {"PE": 5, "SIMD": 3, "compute": "dsp"},
    "dense2": {"PE": 2, "SIMD": 1, "compute": "lut"},
    "dense3": {"PE": 1, "SIMD": 4, "compute": "dsp"},
}


def folded(folder: Path, part: str = "xc7z020clg400-1", backend: str = "finn") -> BuildResult:
    """Return a build with a folded model as FINN has it: units' names, kinds and sizes."""
    from onnx import helper, save

    def unit(op: str, **sizes: Any) -> Any:
        domain = "finn.custom_op.fpgadataflow.rtl"
        return helper.make_node(op, ["x"], ["y"], name="?", domain=domain, **sizes)

    nodes = [
        unit("MVAU_rtl", MW=6, MH=5, SIMD=3, PE=5),
        unit("StreamingDataWidthConverter_rtl"),
        unit("Thresholding_rtl", PE=1),
        unit("MVAU_rtl", MW=5, MH=4, SIMD=1, PE=2),
        unit("Thresholding_rtl", PE=2),
        unit("StreamingDataWidthConverter_rtl"),
        unit("MVAU_rtl", MW=4, MH=3, SIMD=4, PE=1),
    ]
    (folder / "steps").mkdir(parents=True)
    graph = helper.make_graph(nodes, "folded", [], [])
    save(helper.make_model(graph), folder / "steps" / "10_step_generate_estimate_reports.onnx")
    layers = ["dense1", "act1", "dense2", "act2", "dense3"]
    folds = [
        {"layer": name, "kind": "mvau", **FOLDING[name]}
        if name in FOLDING
        else {"layer": name, "kind": "thresholding", "PE": 1}
        for name in layers
    ]
    plan = BuildPlan(
        backend=backend,
        graph=folder / "graph.onnx",
        request=BuildRequest(part=part, clock_ns=8.0),
        files={"job.json": json.dumps({"folds": folds})},
    )
    return BuildResult(plan=plan, stage="csim", folder=folder, top="top")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# -- the script


def test_the_program_is_valid_python_and_stands_alone(tmp_path: Path) -> None:
    program = finn_vivado.script(folded(tmp_path / "finn"), folder=tmp_path / "vivado")
    compile(program.read_text(), str(program), "exec")
    assert "fastml_kit" not in program.read_text()
    names = {path.name for path in program.parent.iterdir()}
    assert names == {"build.py", "config.json", "layers.json", "model.onnx", "settings.json"}
    assert str(tmp_path) not in "".join(
        (program.parent / name).read_text() for name in names - {"model.onnx"}
    )


def test_units_that_finns_rtl_cannot_do_become_hls_and_keep_their_layers(tmp_path: Path) -> None:
    import onnx

    program = finn_vivado.script(folded(tmp_path / "finn"), folder=tmp_path / "vivado")
    assert read(program.parent / "layers.json") == {
        "MVAU_rtl_0": "dense1",
        "Thresholding_rtl_0": "act1",
        "MVAU_hls_0": "dense2",
        "Thresholding_rtl_1": "act2",
        "MVAU_hls_1": "dense3",
    }
    nodes = {node.name: node for node in onnx.load(program.parent / "model.onnx").graph.node}
    domains = {name: node.domain.rpartition(".")[2] for name, node in nodes.items()}
    assert all(name.split("_")[-2] == domain for name, domain in domains.items())
    made = {
        name: next((a.s.decode() for a in node.attribute if a.name == "resType"), None)
        for name, node in nodes.items()
        if node.op_type.startswith("MVAU")
    }
    assert made == {"MVAU_rtl_0": None, "MVAU_hls_0": "lut", "MVAU_hls_1": "dsp"}


def test_steps_and_products_are_those_of_the_outputs_in_finns_order(tmp_path: Path) -> None:
    result = folded(tmp_path / "finn")

    def config(*outputs: str) -> Any:
        return read(
            finn_vivado.script(result, outputs=outputs, folder=tmp_path / "v").parent
            / "config.json"
        )

    least = config("ooc_synth", "stitched_ip")
    assert least["generate_outputs"] == ["stitched_ip", "out_of_context_synth"]
    assert least["steps"] == [
        *finn_vivado.FIRST,
        "step_create_stitched_ip",
        "step_out_of_context_synthesis",
    ]
    assert (least["synth_clk_period_ns"], least["fpga_part"]) == (8.0, "xc7z020clg400-1")
    assert config("bitfile")["steps"][-1] == "step_synthesize_bitfile"
    whole = config(*ALL)
    assert whole["generate_outputs"][-1] == "deployment_package"
    assert whole["steps"][-1] == "step_deployment_package"
    assert len(set(whole["steps"])) == len(whole["steps"]) == 10


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"outputs": ("bitfle",)}, "Did you mean 'bitfile'"),
        ({"outputs": ("driver",)}, "'driver' stands on 'bitfile'"),
        ({"outputs": ("ooc_synth",)}, "'ooc_synth' stands on 'stitched_ip'"),
        ({"board": "pynq-z2"}, "Did you mean 'Pynq-Z2'"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_written(
    tmp_path: Path, request_: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        finn_vivado.script(folded(tmp_path / "finn"), folder=tmp_path / "v", **request_)
    assert not (tmp_path / "v").exists()


def test_a_bitfile_for_another_part_is_refused_but_its_counts_are_not(tmp_path: Path) -> None:
    result = folded(tmp_path / "finn", part="xc7a100tcsg324-1")
    with pytest.raises(BadRequest, match=r"xc7a100tcsg324-1, but Pynq-Z2 has xc7z020clg400-1"):
        finn_vivado.script(result, folder=tmp_path / "v")
    program = finn_vivado.script(
        result, outputs=("stitched_ip", "ooc_synth"), folder=tmp_path / "v"
    )
    assert read(program.parent / "config.json")["fpga_part"] == "xc7a100tcsg324-1"


def test_a_build_without_folded_layers_is_refused(tmp_path: Path) -> None:
    result = folded(tmp_path / "finn")
    (tmp_path / "finn" / "steps" / "10_step_generate_estimate_reports.onnx").unlink()
    with pytest.raises(BadRequest, match="build until 'csim'"):
        finn_vivado.script(result, folder=tmp_path / "v")
    with pytest.raises(BadRequest, match="take the backend 'finn'"):
        finn_vivado.script(folded(tmp_path / "b", backend="da4ml"), folder=tmp_path / "v")


# -- running it


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return finn_vivado.script(folded(tmp_path / "finn"), folder=tmp_path / "vivado")


def amd(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str, year: str = "2022.2") -> Path:
    """Put stand-ins for AMD's tools on PATH, in a folder named as Vivado's own are."""
    programs = folder / "Vivado" / year / "bin"
    programs.mkdir(parents=True)
    for name in names:
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    for name in ("XILINX_VIVADO", "XILINX_HLS", "FASTML_VIVADO"):
        monkeypatch.delenv(name, raising=False)
    return programs


@pytest.mark.parametrize(
    ("here", "year", "missing"),
    [
        ((), "2022.2", "FASTML_VIVADO"),
        (("vivado",), "2022.2", "FASTML_VITIS_HLS"),
        (("vivado", "vitis_hls"), "2025.1", "FASTML_VITIS_RUN"),
        (("vivado", "vitis-run"), "2024.2", "FASTML_VITIS_HLS"),
    ],
)
def test_without_amds_tools_the_error_names_what_finds_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Path,
    here: tuple[str, ...],
    year: str,
    missing: str,
) -> None:
    amd(tmp_path, monkeypatch, *here, year=year)
    with pytest.raises(ToolNotFound, match=missing):
        finn_vivado.run(program)
    assert not (program.parent / "build.log").exists()


def test_a_vivado_whose_folder_tells_no_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Path
) -> None:
    amd(tmp_path, monkeypatch, "vivado", "vitis_hls", year="newest")
    with pytest.raises(ToolNotFound, match="set XILINX_VIVADO"):
        finn_vivado.run(program)


def test_the_program_finds_the_tools_and_a_failure_shows_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Path
) -> None:
    root = amd(tmp_path, monkeypatch, "vivado", "vitis_hls").parent
    program.write_text(
        "import os, shutil, sys\n"
        "print(*sys.argv[1:], os.getcwd(), os.environ['XILINX_VIVADO'], os.environ['XILINX_HLS'])\n"
        "print(shutil.which('vivado'), shutil.which('vitis_hls'))\n"
        "sys.exit('no licence' if len(sys.argv) > 1 else 0)\n"
    )
    assert finn_vivado.run(program) == program.parent / "output"
    said = (program.parent / "build.log").read_text().split()
    assert said == [
        str(program.parent),
        *(str(root),) * 2,
        *(str(root / "bin" / n) for n in ("vivado", "vitis_hls")),
    ]
    with pytest.raises(BuildFailed, match=r"--start step_create_stitched_ip .*\n.*\nno licence"):
        finn_vivado.run(program, start="step_create_stitched_ip")


def test_a_step_that_the_program_does_not_have_is_refused(program: Path) -> None:
    with pytest.raises(BadRequest, match="Did you mean 'step_make_driver'"):
        finn_vivado.run(program, start="step_make_drivers")
    with pytest.raises(BadRequest, match="call that first"):
        finn_vivado.run(program.parent / "other.py")


# -- reading what it leaves


def test_placed_counts_keep_the_half_block_that_finn_rounds_away() -> None:
    assert finn_vivado.read_ooc(OOC) == Cost("vivado", lut=4127, ff=5230, dsp=12, bram36=3.5)
    assert read(OOC)["BRAM"] == 3


def test_the_clock_comes_from_the_slack_and_never_from_its_absence(tmp_path: Path) -> None:
    assert finn_vivado.read_ooc_fmax(OOC) == 125.0
    table = read(OOC)
    cut = tmp_path / OOC.name
    for change in ({"WNS": None}, {"clk_period_ns": "10.0"}, {"WNS": 10.0}, {"WNS": float("nan")}):
        cut.write_text(json.dumps(table | change))
        with pytest.raises(BuildFailed, match=r"ooc_timing\.rpt"):
            finn_vivado.read_ooc_fmax(cut)
    cut.write_text(json.dumps(table | {"WNS": -2.5}))
    assert finn_vivado.read_ooc_fmax(cut) == 80.0


def test_the_whole_design_comes_as_rows_by_layer() -> None:
    layers = {"MVAU_rtl_0": "dense1", "Thresholding_rtl_0": "act1", "MVAU_hls_0": "dense2"}
    rows = {row.name: row for row in finn_vivado.read_post_synth(POST_SYNTH, layers)}
    assert rows["(top)"].cost == Cost("vivado", lut=7013, ff=9377, dsp=12, bram36=6.5)
    own = {row.layer: row.cost for row in rows.values() if row.layer}
    assert own == {
        "dense1": Cost("vivado", lut=901, ff=1120, dsp=12, bram36=0.5),
        "act1": Cost("vivado", lut=512, ff=733, dsp=0, bram36=0.0),
        "dense2": Cost("vivado", lut=2210, ff=2702, dsp=0, bram36=4.0),
    }
    assert {row.layer for row in finn_vivado.read_post_synth(POST_SYNTH)} == {None}


def test_a_layers_name_does_not_take_the_rows_of_one_that_ends_alike(tmp_path: Path) -> None:
    counts = {"LUT": 1, "FF": 1}
    path = tmp_path / "post_synth_resources.json"
    path.write_text(
        json.dumps({"(top)": counts, "P_1_MVAU_rtl_1": counts, "P_1_MVAU_rtl_11": counts})
    )
    rows = finn_vivado.read_post_synth(path, {"MVAU_rtl_1": "one", "MVAU_rtl_11": "eleven"})
    assert [row.layer for row in rows] == [None, "one", "eleven"]
    assert rows[0].cost == Cost("vivado", lut=1, ff=1)  # what is not told is None, not 0


@pytest.mark.parametrize("reader", [finn_vivado.read_ooc, finn_vivado.read_post_synth])
@given(st.data())
def test_a_report_cut_short_is_refused(
    tmp_path_factory: pytest.TempPathFactory, reader: Any, data: st.DataObject
) -> None:
    text = (OOC if reader is finn_vivado.read_ooc else POST_SYNTH).read_text()
    path = tmp_path_factory.getbasetemp() / "cut.json"
    path.write_text(text[: data.draw(st.integers(0, len(text.rstrip()) - 1))])
    with pytest.raises(BuildFailed, match="no complete report"):
        reader(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"LUT": None}, "holds None"),
        ({"LUT": "12"}, "holds '12', where a count belongs"),
        ({"FF": -1}, "holds -1"),
        ({"DSP": 1.5}, "holds 1.5"),
        ({"BRAM_18K": True}, "holds True"),
    ],
)
def test_what_is_no_count_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(read(OOC) | change))
    with pytest.raises(BuildFailed, match=said):
        finn_vivado.read_ooc(path)
    path.write_text(json.dumps({"(top)": read(OOC) | change}))
    with pytest.raises(BuildFailed, match=rf"\(top\).*({said})"):
        finn_vivado.read_post_synth(path)


@pytest.mark.parametrize("text", ["[]", "3", '{"(top)": 3}', '{"MVAU_rtl_0": {"LUT": 1, "FF": 1}}'])
def test_what_is_no_table_of_counts_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "post_synth_resources.json"
    path.write_text(text)
    with pytest.raises(BuildFailed, match=r"\(top\)|no complete report"):
        finn_vivado.read_post_synth(path)


def package(output: Path) -> Path:
    for name in finn_vivado.PACKAGE:
        (output / "deploy" / name).parent.mkdir(parents=True, exist_ok=True)
        (output / "deploy" / name).write_text('{"driver_information": {"io_shape_dict": {}}}')
    return output / "deploy"


def test_the_package_is_listed_with_its_hashes(tmp_path: Path) -> None:
    folder = package(tmp_path)
    listed = finn_vivado.deployment(tmp_path)
    assert listed.keys() == set(finn_vivado.PACKAGE)
    (folder / finn_vivado.PACKAGE[0]).write_text("another bitfile")
    changed = finn_vivado.deployment(tmp_path)
    assert [name for name in listed if listed[name] != changed[name]] == [finn_vivado.PACKAGE[0]]


@pytest.mark.parametrize("name", finn_vivado.PACKAGE)
def test_a_package_with_a_missing_or_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = package(tmp_path)
    (folder / name).write_text("")
    with pytest.raises(BuildFailed, match=f"{name} is missing or empty"):
        finn_vivado.deployment(tmp_path)
    (folder / name).unlink()
    with pytest.raises(BuildFailed, match=f"{name} is missing or empty"):
        finn_vivado.deployment(tmp_path)


@pytest.mark.parametrize("text", ["{}", '{"driver_information": 3}', '{"driver_information": {}}'])
def test_a_package_whose_driver_knows_no_shapes_is_refused(tmp_path: Path, text: str) -> None:
    (package(tmp_path) / "driver" / "settings.json").write_text(text)
    with pytest.raises(BuildFailed, match="shapes"):
        finn_vivado.deployment(tmp_path)


# -- against FINN itself

#: A Vivado that does nothing, but leaves files by the names that FINN looks for.
VIVADO = """
import re, shutil, sys
from pathlib import Path

script = Path(sys.argv[-1]).resolve()
folder, text, reports = script.parent, script.read_text(), Path({reports!r})
if script.name == "ooc_pnr.tcl":
    for path in reports.glob("ooc_*.[rt][px]t"):
        shutil.copy(path, folder)
elif "finn_vivado_stitch_proj" in text:
    (folder / "finn_vivado_stitch_proj.xpr").touch()
    (folder / "ip").mkdir(exist_ok=True)
    for name in re.findall(r'create_bd_design "(\\w+)"', text):
        wrapper = folder / "finn_vivado_stitch_proj.srcs/sources_1/bd" / name / "hdl"
        wrapper.mkdir(parents=True)
        (wrapper / (name + "_wrapper.v")).touch()
else:
    for name in ("runs/impl_1/top_wrapper.bit", "srcs/sources_1/bd/top/hw_handoff/top.hwh",
                 "runs/impl_1/top_wrapper_timing_summary_routed.rpt"):
        path = folder / ("finn_zynq_link." + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("nothing")
    shutil.copy(reports / "post_synth_report.xml", folder / "synth_report.xml")
"""
#: An HLS compiler of the same kind.
VITIS_HLS = """
import re, sys
from pathlib import Path

name = re.search(r"project_\\w+", Path(sys.argv[-1]).read_text()).group()
(Path.cwd() / name / "sol1/impl/ip").mkdir(parents=True)
"""
#: What FINN would build from Vivado's simulator, and fetch with git.
STAND_INS = """
        import finn.xsi
        for name in finn.xsi._LAZY_NAMES:
            setattr(finn.xsi, name, None)
        finn.xsi.ensure_available = lambda: True
        run_finn.DependencyUpdater.update = lambda self: None
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    from fastml_kit import backends
    from fastml_kit.tests import networks

    folder = tmp_path_factory.mktemp("finn")
    graph = networks.mlp(folder / "graph.onnx", sizes=(6, 5, 4, 3))
    backend = backends.get("finn")
    plan = backend.plan(graph, BuildRequest(name="mlp", folding=FOLDING))
    return backend.build(plan, folder / "finn", until="csim")


def python(*words: str | Path, folder: Path) -> str:
    named = {k: v for k, v in os.environ.items() if not k.startswith(("FINN_", "XILINX_"))}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=named, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_finn_takes_the_configuration_and_generates_every_layers_code(
    built: BuildResult, tmp_path: Path
) -> None:
    program = finn_vivado.script(built, outputs=ALL, folder=tmp_path / "vivado")
    said = [line.split() for line in python(program, "--check", folder=tmp_path).splitlines()]
    assert [words[1] for words in said if words[0] == "step"] == read(
        program.parent / "config.json"
    )["steps"]
    cycles = {words[1]: int(words[2]) for words in said if words[0] == "layer"}
    layers = read(program.parent / "layers.json")
    named = {layers[name]: count for name, count in cycles.items() if name in layers}
    # (MH / PE) * (MW / SIMD), as the plan folded them
    assert [named[name] for name in FOLDING] == [1 * 2, 2 * 5, 3 * 1]
    assert {name for name in cycles if name.startswith("MVAU")} == {
        "MVAU_rtl_0",
        "MVAU_hls_0",
        "MVAU_hls_1",
    }
    code = {
        name: next((program.parent / "build").glob(f"code_gen_ipgen_{name}_*/*.cpp")).read_text()
        for name in ("MVAU_hls_0", "MVAU_hls_1")
    }
    assert "ap_resource_lut" in code["MVAU_hls_0"] and "ap_resource_dsp" in code["MVAU_hls_1"]


@pytest.mark.slow
def test_an_unknown_key_or_step_does_not_pass_finns_own_check(
    built: BuildResult, tmp_path: Path
) -> None:
    program = finn_vivado.script(built, folder=tmp_path / "vivado")
    config = read(program.parent / "config.json")
    for change in ({"no_such_key": 1}, {"steps": [*config["steps"], "step_no_such"]}):
        (program.parent / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(AssertionError, match="no_such"):
            python(program, "--check", folder=tmp_path)


@pytest.mark.slow
def test_finn_goes_all_the_way_and_what_it_writes_is_what_is_read_here(
    built: BuildResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of FINN's own code runs, to the driver; only AMD's tools are stood in for."""
    outputs = tuple(name for name in ALL if name != "rtlsim")
    program = finn_vivado.script(built, outputs=outputs, folder=tmp_path / "vivado")
    config = read(program.parent / "config.json")
    config["auto_fifo_strategy"] = "force_minimal_fifos"  # to size them, FINN simulates in Vivado
    (program.parent / "config.json").write_text(json.dumps(config))
    begins = "        from finn.interface import run_finn\n"
    assert program.read_text().count(begins) == 1
    program.write_text(program.read_text().replace(begins, begins + STAND_INS))
    tools = amd(tmp_path, monkeypatch, "vivado", "vitis_hls")
    for name, text in (("vivado", VIVADO.format(reports=str(REPORTS))), ("vitis_hls", VITIS_HLS)):
        (tools / name).write_text(f"#!{sys.executable}\n{text}")
    monkeypatch.setenv("FINN_DEPS", str(tmp_path / "deps"))  # else it makes a folder in FINN's own
    output = finn_vivado.run(program)

    made, kept = read(output / "report" / OOC.name), read(OOC)
    for name in ("vivado_proj_folder", "routed_dcp"):  # where they were made
        assert Path(made.pop(name)).is_relative_to(program.parent)
        kept.pop(name)
    assert made == kept
    assert read(output / "report" / POST_SYNTH.name) == read(POST_SYNTH)
    layers = read(program.parent / "layers.json")
    rows = finn_vivado.read_post_synth(output / "report" / POST_SYNTH.name, layers)
    assert {row.layer for row in rows} == {None, "dense1", "act1", "dense2"}
    assert finn_vivado.deployment(output).keys() == set(finn_vivado.PACKAGE)
    driver = read(output / "deploy" / "driver" / "settings.json")["driver_information"]
    assert driver["io_shape_dict"]["ishape_folded"] == [[1, 6 // 3, 3]]  # SIMD of the first layer
    assert driver["fclk_mhz"] == 100.0


@pytest.mark.slow
def test_the_boards_have_the_parts_that_finn_says(tmp_path: Path) -> None:
    code = (
        "import json; from fastml_kit.backends.finn_backend import surroundings; import pathlib\n"
        "surroundings.prepare(pathlib.Path.cwd()); from finn.util import basic\n"
        "print(json.dumps(basic.pynq_part_map))"
    )
    parts = json.loads(python("-c", code, folder=tmp_path).splitlines()[-1])
    assert finn_vivado.BOARDS.items() <= parts.items()
