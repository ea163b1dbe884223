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

from fastml_kit.backends.finn_backend import channels, describe, surroundings

#: What asks for an RTL unit where FINN would choose HLS.
PREFER_RTL = ("ConvolutionInputGenerator", "FMPadding", "MVAU", "Thresholding")


#: Attributes whose first number is the batch.
SHAPES = (
    *("lhs_shape", "rhs_shape", "in_shape", "out_shape"),
    *("transpose_in_shape", "transpose_out_shape"),
)
#: From this step on, images are channel last inside, and where they leave.
LAST = "keep_channels_last"
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
        self.step = ""
        self.done: set[str] = set()
        self.verified: list[dict[str, Any]] = []

    def run(self) -> None:
        """Take every step, keep its model, and compare what it computes."""
        for number, name in enumerate(self.job["steps"]):
            self.step, self.done = name, {*self.done, name}
            own: Callable[[], None] | None = getattr(self, f"_{name}", None)
            if own is not None:
                own()
            elif name in self.known:
                self.model = self.known[name](self.model, self.config)
            else:
                raise ValueError(
                    f"FINN has no step {name!r}; it knows {', '.join(sorted(self.known))}"
                )
            self.model.save(str(self.folder / "steps" / f"{number:02d}_{name}.onnx"))
            self._verify()
        (self.folder / "verified.json").write_text(json.dumps(self.verified), encoding="utf-8")
        report = describe.describe(self.model, self.job["part"], self.folder / "rtl")
        planned = [node for node in report["nodes"] if node["kind"] != "width"]
        for node, fold in zip(planned, self.job["folds"], strict=True):
            node |= {key: fold[key] for key in ("layer", "compute", "ram_style") if key in fold}
        describe.write(report, self.folder / "dataflow.json")

    # -- steps of the kit's own, between FINN's

    def _keep_channels_last(self) -> None:
        self.model = channels.keep_last(self.model)

    def _prefer_rtl(self) -> None:
        for node in self._nodes():
            if node.op_type in PREFER_RTL:
                self._custom(node).set_nodeattr("preferred_impl_style", "rtl")

    def _widen_weights(self) -> None:
        """Give weights back the type that was planned, of which FINN leaves out what is unused.

        Without a sign, or with the most negative code, it would choose a unit that is in HLS only.
        """
        from qonnx.core.datatype import DataType

        for node in self._nodes():
            if node.op_type.startswith("MVAU"):
                largest = int(np.abs(self.model.get_initializer(node.input[1])).max())
                kind = DataType[f"INT{max(largest.bit_length() + 1, 2)}"]
                self._custom(node).set_nodeattr("weightDataType", kind.name)
                self.model.set_tensor_datatype(node.input[1], kind)

    def _fold(self) -> None:
        """Give every node the folding that the plan chose for it, in the order they come."""
        folds = self.job["folds"]
        made = [describe.kind_of(node) or node.op_type for node in self._nodes()]
        planned = [fold["kind"] for fold in folds]
        if made != planned:
            raise ValueError(
                f"FINN made the nodes {', '.join(made)}; {', '.join(planned)} was planned"
            )
        for node, fold in zip(self._nodes(), folds, strict=True):
            custom = self._custom(node)
            for name in ("PE", "SIMD", "parallel_window", "deep_pipeline"):
                if name in fold and name in custom.get_nodeattr_types():
                    custom.set_nodeattr(name, fold[name])

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
        # Images leave channel last from one step on, and come so after the partition.
        inner, outer = (name in self.done for name in (LAST, PARTITION))
        made = execute(self.model, self.samples["inputs"], comes_last=outer, leaves_last=inner)
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


def execute(model: Any, inputs: Any, *, comes_last: bool, leaves_last: bool) -> Any:
    """Return what `model` makes of codes (samples, *shape); images are channel first outside.

    Of the model, the input's images may be channel last, and those of the output.
    """
    from qonnx.core import onnx_exec

    many = _for_batch(model, len(inputs))
    x, y = many.graph.input[0].name, many.graph.output[0].name
    if comes_last and inputs.ndim == 4:
        inputs = np.moveaxis(inputs, 1, -1)
    shaped = inputs.reshape(many.get_tensor_shape(x)).astype(np.float32)
    made = onnx_exec.execute_onnx(many, {x: shaped})[y]
    return np.moveaxis(made, -1, 1) if leaves_last and made.ndim == 4 else made


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
            vectors = custom.get_nodeattr("numInputVectors")  # FMPadding's is a plain number
            alone = isinstance(vectors, int)
            custom.set_nodeattr("numInputVectors", size if alone else [size, *vectors[1:]])
        for name in ("BatchSize", "batch_size", "numInputs"):
            if name in known:
                custom.set_nodeattr(name, size)
        for name in SHAPES:
            if name in known and len(shape := list(custom.get_nodeattr(name))) > 1:
                custom.set_nodeattr(name, [size, *shape[1:]])
    for tensor in (*copy.graph.input, *copy.graph.value_info, *copy.graph.output):
        if copy.get_initializer(tensor.name) is None:
            tensor.type.tensor_type.shape.dim[0].dim_value = size
    return copy


def _execute(job: dict[str, Any], folder: Path) -> None:
    from qonnx.core.modelwrapper import ModelWrapper

    inputs = np.load(folder / job["samples"])["inputs"]
    made = execute(ModelWrapper(job["graph"]), inputs, comes_last=True, leaves_last=True)
    np.save(folder / "outputs.npy", np.rint(made).astype(np.int64))


def _node_of(error: BaseException) -> str:
    """Return the node that FINN was at when `error` was raised, or "" where it was at none."""
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        own = frame.f_locals
        inside = getattr(own.get("self"), "onnx_node", None)
        for value in (own.get("node"), own.get("n"), inside):
            found = str(getattr(value, "name", "")) if hasattr(value, "op_type") else found
    return found


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
            "node": _node_of(error),
            "error": f"{type(error).__name__}: {error}",
        }
        (folder / "failure.json").write_text(json.dumps(failure), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
