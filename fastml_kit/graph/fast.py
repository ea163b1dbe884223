"""The fast engine: the same integers, carried exactly in float32, by onnxruntime.

A float32 holds every integer up to 2**24, and scaling by a power of two never rounds. Where the
bound that `graph.ranges` proves for every accumulator, partial sums included, stays below that,
matrix products and convolutions in float32 are integer arithmetic at the speed of BLAS; up to 2**53
the same holds of float64. The bound is worked out for each graph and asserted, never assumed.

Scales cost nothing: a tensor is stored as its value times ``2**unit``, and weights are scaled so
that what reaches a Quant already counts in that Quant's steps; it then only clips and rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.graph import ranges
from fastml_kit.graph.ir import Program
from fastml_kit.graph.lowering import Lowering

FLOAT64_SAFE = 2**53
#: Elements of the widest tensor that are worked on at a time: they stay in the cache.
CHUNK_ELEMENTS = 2**17


@dataclass(frozen=True)
class Fast:
    """A compiled graph. Call it with real values (samples, *input shape)."""

    program: Program
    dtype: type[np.floating[Any]]
    worst: float  # the largest bound on any accumulator or partial sum, in codes
    unit: int  # outputs are stored as value * 2**unit
    chunk: int  # samples a call of onnxruntime
    _ask: Callable[[NDArray[Any]], NDArray[Any]]

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the real outputs.

        Raises:
            BadRequest: the shape is wrong, or a value is NaN or infinite.
        """
        given = np.ascontiguousarray(values, dtype=self.dtype)
        if given.shape[1:] != self.program.input_shape:
            raise BadRequest(
                f"inputs have shape {given.shape[1:]}, the graph wants {self.program.input_shape}"
            )
        out, scale = np.empty((len(given), *self.program.output_shape)), 2.0**-self.unit
        for start in range(0, len(given), self.chunk):
            part = given[start : start + self.chunk]
            # One NaN or infinity shows in the sum, which costs less than to look at each.
            if not np.isfinite(part.sum()) and not np.isfinite(part).all():
                raise BadRequest("some inputs are NaN or infinite")
            np.multiply(self._ask(part), scale, out=out[start : start + self.chunk])
        return out


def compile(program: Program, *, threads: int = 1) -> Fast:
    """Compile `program` for `threads` threads, in float32 if its bounds allow, else in float64.

    Raises:
        UnsupportedModel: an accumulator may need more than 53 bits, or an operation has no exact
            form here; the reference engine takes the graph.
    """
    import onnxruntime

    worst, where = ranges.worst(program)
    dtype = np.float32 if worst <= ranges.FLOAT32_SAFE else np.float64
    if worst > FLOAT64_SAFE:
        raise UnsupportedModel(f"{where} may need more than 53 bits; use the reference engine")
    model, unit, widest = Lowering(program, dtype).model()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has no Conv in float64, for one
        line = " ".join(str(error).split())[:200]
        raise UnsupportedModel(
            f"onnxruntime cannot run the graph in {np.dtype(dtype)}, which {where} needs: {line}"
        ) from error
    x = session.get_inputs()[0].name
    return Fast(
        program,
        dtype,
        worst,
        unit,
        max(CHUNK_ELEMENTS // widest, 16),
        lambda values: session.run(None, {x: values})[0],
    )


def run(program: Program, values: ArrayLike) -> NDArray[np.float64]:
    """Compile `program` and run it once; see `Fast`."""
    return compile(program)(values)
