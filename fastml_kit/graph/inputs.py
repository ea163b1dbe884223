"""Real inputs as integer codes, fine enough that no quantizer sees a difference."""

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.graph.ir import Node, Program, Tensor

#: Fractional bits of inputs that need no more.
INPUT_FRAC = 24


def read_input(program: Program, values: NDArray[np.float64]) -> Tensor:
    """Return real inputs as codes: exactly, or, in front of quantizers, as good as exactly.

    With 24 fractional bits if they suffice. Otherwise with so many that the largest value has 58
    bits, and what still remains is rounded away from zero: no Quant can tell, whose ties are on a
    coarser grid.
    """
    if not np.isfinite(values).all():
        raise BadRequest(f"{np.count_nonzero(~np.isfinite(values))} inputs are NaN or infinite")
    largest = float(np.abs(values).max(initial=0))
    scaled = values * 2.0**INPUT_FRAC
    if np.array_equal(scaled, np.trunc(scaled)) and largest < 2.0**28:
        return Tensor(scaled.astype(np.int64), INPUT_FRAC)
    frac = 58 - int(np.frexp(largest)[1])
    scaled = values * 2.0**frac
    exact = np.array_equal(scaled, np.trunc(scaled))
    users = [node for node in program.nodes if program.input in node.inputs]
    finest = max((quantizer_frac(node) for node in users), default=frac)
    if not exact and finest + 2 > frac:
        raise BadRequest(
            f"the inputs reach {largest:g} and need more than 58 bits before "
            f"{users[0].op} {users[0].name!r}; quantize or scale them first"
        )
    return Tensor(np.copysign(np.ceil(np.abs(scaled)), scaled).astype(np.int64), frac)


def quantizer_frac(node: Node) -> int:
    """Return the fractional bits a quantizer's ties lie on; for anything else, out of reach."""
    if node.op == "BipolarQuant":
        return 0
    return int(node.attrs["spec"].frac) if node.op == "Quant" else 2**31
