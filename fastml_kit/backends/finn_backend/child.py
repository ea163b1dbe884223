"""FINN's steps, in a process of their own: python -m fastml_kit.backends.finn_backend.child JOB

FINN takes over standard output, keeps its settings in the environment and in the home folder, and
looks for a simulator of Xilinx's when it is imported. None of that may reach a notebook, so the
steps run here, with every path below the job's folder. JOB is a JSON file (see `build`); what
comes back is a model after each step, `verified.json`, `dataflow.json` and all RTL, or
`failure.json`, which says in which step and at which node it ended.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastml_kit.backends.finn_backend import describe, surroundings

#: What asks for an RTL unit where FINN would choose HLS.
PREFER_RTL = ("ConvolutionInputGenerator", "FMPadding", "MVAU", "Thresholding")


#: From this step on, the model is the circuit alone.
PARTITION = "step_create_dataflow_partition"


class Job:
    """A graph on its way through the steps."""

    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        from finn.builder import build_dataflow_config as config
        from finn.builder.build_dataflow_steps import build_dataflow_step_lookup
        from qonnx.core.modelwrapper import ModelWrapper

        self.job, self.folder = job, folder
        self.known = build_dataflow_step_lookup
        self.config = config.DataflowBuildConfig(
            output_dir=str(folder),
            synth_clk_period_ns=job["clock_ns"],
            fpga_part=job["part"],
            generate_outputs=[config.DataflowOutputType.ESTIMATE_REPORTS],
            standalone_thresholds=True,
            save_intermediate_models=False,
            mvau_wwidth_max=2**20,  # the plan chose the folding; FINN must not narrow it
        )
        self.model = ModelWrapper(str(folder / job["graph"]))
        self.samples = np.load(folder / job["samples"])
        self.step, self.node = "", ""
        self.verified: list[dict[str, Any]] = []

    def run(self) -> None:
        """Take every step, keep its model, and compare what it computes."""
        for number, name in enumerate(self.job["steps"]):
            self.step, self.node = name, ""
            own: Callable[[], None] | None = getattr(self, f"_{name}", None)
            if own is not None:
                own()
            else:
                self.model = self.known[name](self.model, self.config)
            self.model.save(str(self.folder / "steps" / f"{number:02d}_{name}.onnx"))
            self._verify()
        (self.folder / "verified.json").write_text(json.dumps(self.verified), encoding="utf-8")
        report = describe.describe(self.model, self.job["part"], self.folder / "rtl")
        planned = [node for node in report["nodes"] if node["kind"] != "width"]
        for node, fold in zip(planned, self.job["folds"], strict=True):
            node["layer"], node["compute"] = fold["layer"], fold["compute"]
        describe.write(report, self.folder / "dataflow.json")

    # -- steps of the kit's own, between FINN's

    def _prefer_rtl(self) -> None:
        for node in self._nodes():
            if node.op_type in PREFER_RTL:
                self._custom(node).set_nodeattr("preferred_impl_style", "rtl")

    def _fold(self) -> None:
        """Give every node the folding that the plan chose for it, in the order they come."""
        folds = [dict(fold) for fold in self.job["folds"]]
        for node in self._nodes():
            kind = describe.kind_of(node)
            if not folds or folds[0]["kind"] != kind:
                wanted = folds[0]["kind"] if folds else "nothing more"
                raise ValueError(f"FINN made a node of kind {kind!r} where {wanted} was planned")
            fold, custom = folds.pop(0), self._custom(node)
            for name in ("PE", "SIMD", "parallel_window"):
                if name in fold and name in custom.get_nodeattr_types():
                    custom.set_nodeattr(name, fold[name])
        if folds:
            raise ValueError(f"FINN made no node of kind {folds[0]['kind']!r}, which was planned")

    def _insert_width_converters(self) -> None:
        from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
        from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
        from qonnx.transformation.general import GiveUniqueNodeNames
        from qonnx.transformation.infer_datatypes import InferDataTypes
        from qonnx.transformation.infer_shapes import InferShapes

        for transformation in (InsertDWC(), SpecializeLayers(self.job["part"]),
                               GiveUniqueNodeNames(), InferShapes(), InferDataTypes()):  # fmt: skip
            self.model = self.model.transform(transformation)

    # -- verification

    def _verify(self) -> None:
        """Run the step's model on all samples, as long as FINN's nodes can be run in Python."""
        if any(node.op_type.endswith(("_rtl", "_hls")) for node in self._nodes()):
            return
        # The partition leaves the move to channel last to the host, and ends channel last too.
        streams = self.job["steps"].index(self.step) >= self.job["steps"].index(PARTITION)
        made = execute(self.model, self.samples["inputs"], streams=streams)
        want = self.samples["outputs"]
        wrong = np.flatnonzero((made.reshape(want.shape) != want).any(axis=1))
        self.verified.append({"step": self.step, "samples": len(want), "differ": len(wrong)})
        if len(wrong):
            raise ValueError(
                f"{len(wrong)} of {len(want)} samples give other codes after this step; the first "
                f"is sample {wrong[0]}"
            )

    def _nodes(self) -> list[Any]:
        return list(self.model.graph.node)

    def _custom(self, node: Any) -> Any:
        from qonnx.custom_op.registry import getCustomOp

        return getCustomOp(node)


def execute(model: Any, inputs: Any, *, streams: bool) -> Any:
    """Return what `model` makes of codes (samples, *shape); images are channel first outside.

    Where the model's tensors are `streams`, its images are channel last.
    """
    from qonnx.core import onnx_exec

    many = _for_batch(model, len(inputs))
    x, y = many.graph.input[0].name, many.graph.output[0].name
    if streams and inputs.ndim == 4:
        inputs = np.moveaxis(inputs, 1, -1)
    shaped = inputs.reshape(many.get_tensor_shape(x)).astype(np.float32)
    made = onnx_exec.execute_onnx(many, {x: shaped})[y]
    return np.moveaxis(made, -1, 1) if streams and made.ndim == 4 else made


def _for_batch(model: Any, size: int) -> Any:
    """Return a copy of `model` that takes `size` samples at once, its weights untouched."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp, is_custom_op

    copy = ModelWrapper(model.model, make_deepcopy=True)
    for node in copy.graph.node:
        if not is_custom_op(node.domain):
            if node.op_type == "Reshape":
                raise ValueError(f"Reshape {node.name!r} fixes the batch")
            continue
        custom = getCustomOp(node)
        known = custom.get_nodeattr_types()
        if "numInputVectors" in known:
            vectors = list(custom.get_nodeattr("numInputVectors"))
            custom.set_nodeattr("numInputVectors", [size, *vectors[1:]])
        for name in ("BatchSize", "batch_size", "numInputs"):
            if name in known:
                custom.set_nodeattr(name, size)
        for name in ("lhs_shape", "rhs_shape", "out_shape"):
            if name in known and len(shape := list(custom.get_nodeattr(name))) > 1:
                custom.set_nodeattr(name, [size, *shape[1:]])
    for tensor in (*copy.graph.input, *copy.graph.value_info, *copy.graph.output):
        if copy.get_initializer(tensor.name) is None:
            tensor.type.tensor_type.shape.dim[0].dim_value = size
    return copy


def _execute(job: dict[str, Any], folder: Path) -> None:
    from qonnx.core.modelwrapper import ModelWrapper

    inputs = np.load(folder / job["samples"])["inputs"]
    made = execute(ModelWrapper(job["graph"]), inputs, streams=True)
    np.save(folder / "outputs.npy", np.rint(made).astype(np.int64))


def main(path: str) -> int:
    """Run the job in the file `path`; return 0, or 1 with failure.json written."""
    file = Path(path).resolve()
    folder = file.parent
    job = json.loads(file.read_text(encoding="utf-8"))
    work = None
    try:
        surroundings.prepare(folder)
        surroundings.repair_windows()
        if job["mode"] == "execute":
            _execute(job, folder)
            return 0
        (folder / "steps").mkdir(exist_ok=True)
        work = Job(job, folder)
        work.run()
    except BaseException as error:  # noqa: BLE001 - whatever FINN's parts raise is reported
        traceback.print_exc()
        failure = {
            "step": work.step if work else "importing FINN",
            "node": work.node if work else "",
            "error": f"{type(error).__name__}: {error}",
        }
        (folder / "failure.json").write_text(json.dumps(failure), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
