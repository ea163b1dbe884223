"""A dataflow graph of FINN's as plain data: its nodes, its streams, its RTL under stable names."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

#: FINN nodes that are written by its RTL library, and what they are to the stitcher.
RTL_KINDS = {
    "ConvolutionInputGenerator_rtl": "swg",
    "FMPadding_rtl": "padding",
    "MVAU_rtl": "mvau",
    "StreamingDataWidthConverter_rtl": "width",
    "Thresholding_rtl": "thresholding",
}
#: FINN nodes that it has in HLS only, for which the kit has modules of its own.
KIT_KINDS = {"DuplicateStreams_hls": "duplicate", "ElementwiseAdd_hls": "add", "Pool_hls": "pool"}
#: Attributes that say where FINN put something, or what it has not done yet.
_ELSEWHERE = re.compile(
    r"dir|path|code_gen|exec|backend|partition|slr|mem_port|FIFO|rtlsim|vlnv|synth|hook|res_est"
)


def kind_of(node: Any) -> str:
    """Return what `node` is to the stitcher, or "" if no RTL can be made of it."""
    return RTL_KINDS.get(node.op_type) or KIT_KINDS.get(node.op_type) or ""


def describe(model: Any, part: str, target: Path) -> dict[str, Any]:
    """Return nodes and streams of a generated dataflow model, and copy its files to `target`.

    The answer is the same for every build of one graph, though FINN draws the names of some
    tensors and of its folders at random.
    """
    from qonnx.custom_op.registry import getCustomOp

    target.mkdir(exist_ok=True)
    nodes: list[dict[str, Any]] = []
    streams: dict[str, dict[str, Any]] = {}
    for node in model.graph.node:
        custom, kind = getCustomOp(node), kind_of(node)
        data = [name for name in node.input if model.get_initializer(name) is None]
        entry: dict[str, Any] = {
            "name": node.name,
            "kind": kind,
            "op": node.op_type,
            "inputs": data,
            "outputs": list(node.output),
            "cycles": int(custom.get_exp_cycles()),
            "estimate": _plain(custom.node_res_estimation(part)),
            "parameters": _parameters(custom),
        }
        if kind == "mvau":
            entry["weight_bits"] = int(custom.get_input_datatype(1).bitwidth())
        if kind in RTL_KINDS.values():
            entry |= _files(custom, node.name, target)
        nodes.append(entry)
        for index, name in enumerate(data):
            streams.setdefault(name, _stream(custom, "in", index))
        for index, name in enumerate(node.output):
            streams[name] = _stream(custom, "out", index)
    names = {name: f"stream{number}" for number, name in enumerate(streams)}
    for entry in nodes:
        for side in ("inputs", "outputs"):
            entry[side] = [names[name] for name in entry[side]]
    return {
        "nodes": nodes,
        "streams": {names[name]: stream for name, stream in streams.items()},
        "input": names[model.graph.input[0].name],
        "output": names[model.graph.output[0].name],
    }


def write(report: Mapping[str, Any], path: Path) -> None:
    """Write a description as JSON."""
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _files(custom: Any, name: str, target: Path) -> dict[str, Any]:
    """Copy a node's Verilog and memory files; return their names, sources in order."""
    sources, memories = [], []
    for path in map(Path, custom.get_rtl_file_list(abspath=True)):
        shutil.copyfile(path, target / path.name)
        sources.append(path.name)
    for path in sorted(Path(custom.get_nodeattr("code_gen_dir_ipgen")).glob("*.dat")):
        kept = path.name if path.name.startswith(name) else f"{name}_{path.name}"
        shutil.copyfile(path, target / kept)
        memories.append(kept)
    module = custom.get_nodeattr("gen_top_module")
    return {"module": module, "sources": sources, "memories": memories}


def _parameters(custom: Any) -> dict[str, Any]:
    """Return the attributes of a node that say what it computes, as plain values."""
    found = {}
    for name, (_, required, *_) in custom.get_nodeattr_types().items():
        given = any(attribute.name == name for attribute in custom.onnx_node.attribute)
        if _ELSEWHERE.search(name) or (required and not given):
            continue  # to ask for a required one that is not there would raise
        value = _plain(custom.get_nodeattr(name))
        if isinstance(value, int | float | str | list):
            found[name] = value
    return found


def _stream(custom: Any, side: str, index: int) -> dict[str, Any]:
    """Return how a stream is packed: words of so many bits, each of some elements."""
    way = "input" if side == "in" else "output"
    folded = list(getattr(custom, f"get_folded_{way}_shape")(index))
    kind = getattr(custom, f"get_{way}_datatype")(index)
    width = getattr(custom, f"get_{side}stream_width_padded")(index)
    return {
        "word_bits": int(width),
        "words": int(np.prod(folded[:-1])),
        "elements": int(folded[-1]),
        "element_bits": int(kind.bitwidth()),
        "signed": bool(kind.signed()),
    }


def _plain(value: Any) -> Any:
    """Return NumPy's scalars and arrays as Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
