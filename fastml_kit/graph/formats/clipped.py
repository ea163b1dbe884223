"""Operators on integers, with clipping: the form of the QONNX paper that computes on integers.

Activations are uint8 tensors, with a zero point where there are negative codes, whose narrower
widths a Clip between integers expresses; weights are 8-bit initializers; MatMulInteger and
ConvInteger add up in int32. Between them biases are added in float32, and QuantizeLinear rescales
by a power of two, rounds half to even and saturates.
That loses nothing, since `graph.ranges` proves that every sum stays below 2**24; where it might
not, the graph is refused, and so is by name what has no form here.

On x86 processors without VNNI onnxruntime adds up pairs of uint8 times int8 in 16 bits, which
saturate. Where a pair might, the weights are uint8 with a zero point of 128, which it multiplies
exactly on every processor.

The forms: Pappalardo et al., arXiv:2206.07527. No tool ships this one; it is written from their
description.
"""

from math import prod
from pathlib import Path

import numpy as np

from fastml_kit.files import write_whole
from fastml_kit.graph import check, fast, program, ranges
from fastml_kit.graph.formats.conversion import Conversion
from fastml_kit.graph.formats.integers import Integers
from fastml_kit.graph.ir import Program


def to_clipped(path: Path, target: Path) -> Conversion:
    """Write the QONNX file `path` to `target` as operators on integers, with any batch.

    The graph goes from real inputs to real outputs, with the values of the original; its input must
    be quantized first (`importing.import_graph` puts a Quant there).

    Raises:
        RunError: `path` is missing or no ONNX file.
        UnsupportedModel: a node has no exact form, by name: widths over 8 bits, one bit, zero
            points, roundings other than half to even, sums of over 24 bits.
    """
    import onnx

    lowered = Integers(program.read(path))
    model = lowered.build()
    with check.refusing("onnx's checker refuses the converted graph"):
        onnx.checker.check_model(model, full_check=True)
    write_whole(target, model.SerializeToString(deterministic=True))
    return Conversion(
        path=target,
        source="qonnx",
        target="qop",
        converted=tuple(lowered.converted),
        stayed=tuple(lowered.stayed),
        standalone=True,
    )


def session(graph: Program, *, threads: int = 1) -> fast.Fast:
    """Compile `graph` for onnxruntime's 8-bit kernels; call the result with real values.

    Raises:
        UnsupportedModel: as `to_clipped`.
    """
    import onnxruntime

    model = Integers(graph).build()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    with check.refusing("onnxruntime cannot run the graph on 8-bit integers"):
        ask = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    widest = max(prod(bound.low.shape) for bound in ranges.analyse(graph).values())
    chunk = max(fast.CHUNK_ELEMENTS // max(widest, prod(graph.input_shape)), 16)
    x, (worst, _) = graph.input, ranges.worst(graph)
    return fast.Fast(
        graph, np.float32, worst, 0, chunk, lambda values: ask.run(None, {x: values})[0]
    )
