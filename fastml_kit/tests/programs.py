"""Small graphs made by hand, and random ones, for the tests of backends and of the rtl room."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.program import Constant, Node, Program


def quant(name: str, x: str, y: str, spec: FixedSpec, rounding: str = "ROUND") -> Node:
    """Return a Quant node that saturates."""
    return Node("Quant", name, (x,), y, {"spec": spec, "rounding": rounding, "overflow": "SAT"})


def weights(rng: np.random.Generator, *shape: int, bits: int = 4, frac: int = 3) -> Constant:
    """Return random weights of `bits` bits, without the most negative code."""
    top = 2 ** (bits - 1) - 1
    return Constant(rng.integers(-top, top + 1, shape), frac)


def mlp(
    sizes: tuple[int, ...] = (5, 4, 3),
    *,
    x: FixedSpec = FixedSpec(5, 1, signed=False),
    hidden: FixedSpec = FixedSpec(4, 2, signed=False),
    bits: int = 4,
    seed: int = 0,
) -> Program:
    """Return dense layers with biases, a Quant before the first and between any two.

    An unsigned `hidden` format is a ReLU by itself.
    """
    rng = np.random.default_rng(seed)
    nodes, constants, at = [quant("in", "x", "t0", x)], {}, "t0"
    for i, (width, following) in enumerate(pairwise(sizes)):
        constants[f"w{i}"] = weights(rng, width, following, bits=bits)
        constants[f"b{i}"] = weights(rng, following, bits=bits + 1, frac=4)
        nodes += [
            Node("MatMul", f"dense{i}", (at, f"w{i}"), f"m{i}", {}),
            Node("Add", f"bias{i}", (f"m{i}", f"b{i}"), f"a{i}", {}),
        ]
        at = f"a{i}"
        if i < len(sizes) - 2:
            nodes.append(quant(f"act{i}", at, f"t{i + 1}", hidden))
            at = f"t{i + 1}"
    return Program(tuple(nodes), constants, "x", (sizes[0],), at, (sizes[-1],))


def cnn(
    *, channels: int = 2, filters: int = 4, group: int = 1, stride: int = 1, seed: int = 0
) -> Program:
    """Return a padded convolution with bias, ReLU, a Quant, a 2x2 max-pool and a dense layer."""
    rng = np.random.default_rng(seed)
    height, width = 5, 4
    convolution: dict[str, Any] = {"strides": (stride, 1), "pads": (1, 1, 1, 1), "group": group}
    flat = filters * (((height - 1) // stride + 1) // 2) * (width // 2)
    nodes = (
        quant("in", "x", "t0", FixedSpec(4, 2)),
        Node("Conv", "conv", ("t0", "w0", "b0"), "c", convolution),
        Node("Relu", "relu", ("c",), "r", {}),
        quant("act", "r", "t1", FixedSpec(3, 2, signed=False)),
        Node(
            "MaxPool",
            "pool",
            ("t1",),
            "p",
            {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)},
        ),
        Node("Flatten", "flatten", ("p",), "f", {}),
        Node("MatMul", "dense", ("f", "w1"), "y", {}),
    )
    constants = {
        "w0": weights(rng, filters, channels // group, 3, 3),
        "b0": weights(rng, filters, bits=5, frac=4),
        "w1": weights(rng, flat, 3),
    }
    return Program(nodes, constants, "x", (channels, height, width), "y", (3,))


def inputs(program: Program, samples: int, seed: int = 0) -> np.ndarray:
    """Return random values on the grid of the program's first Quant, its bounds included."""
    spec: FixedSpec = program.nodes[0].attrs["spec"]
    codes = np.random.default_rng(seed).integers(
        spec.low, spec.high + 1, (samples, *program.input_shape)
    )
    codes[0], codes[-1] = spec.low, spec.high
    return spec.to_values(codes)


specs = st.builds(
    FixedSpec,
    width=st.integers(2, 6),
    integer=st.integers(-1, 4),
    signed=st.booleans(),
)
programs = st.one_of(
    st.builds(
        mlp,
        sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple),
        x=specs,
        hidden=specs,
        bits=st.integers(2, 5),
        seed=st.integers(0, 2**32 - 1),
    ),
    st.builds(
        cnn,
        group=st.sampled_from([1, 2]),
        stride=st.sampled_from([1, 2]),
        seed=st.integers(0, 2**32 - 1),
    ),
)
