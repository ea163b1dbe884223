"""What the host does before a circuit: put real inputs on the grid of the graph's first Quant.

Circuits and compiled projects begin behind that Quant, with wires that hold only its codes.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.graph.program import Node, Program


def input_quant(program: Program) -> Node:
    """Return the Quant that reads the program's input.

    Raises:
        UnsupportedModel: the input goes anywhere else as well, or that Quant has a zero point or
            scales by channel, so that its codes are not what a wire of one format carries.
    """
    users = [node for node in program.nodes if program.input in node.inputs]
    if len(users) != 1 or users[0].op != "Quant":
        raise UnsupportedModel(
            f"input {program.input!r} must go into one Quant; it goes into "
            f"{', '.join(f'{n.op} {n.name!r}' for n in users) or 'nothing'}."
        )
    first = users[0]
    if first.attrs.get("zero_point", 0) or first.attrs.get("fracs") is not None:
        raise UnsupportedModel(
            f"Quant {first.name!r} of the input has a zero point or scales by channel, which the "
            "host does not apply; give the input one scale, and zero point 0"
        )
    return first


def quantize_input(program: Program, values: ArrayLike) -> NDArray[np.float64]:
    """Return real `values`, (samples, *input shape), as the first Quant makes them.

    Raises:
        BadRequest: the shape is wrong, or a value is NaN or infinite.
        UnsupportedModel: as `input_quant`.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape[1:] != program.input_shape:
        raise BadRequest(
            f"inputs have shape {values.shape[1:]}, the graph wants {program.input_shape}"
        )
    quant = input_quant(program).attrs
    codes = quant["spec"].to_codes(values, quant["rounding"], quant["overflow"])
    on_grid: NDArray[np.float64] = quant["spec"].to_values(codes)
    return on_grid
