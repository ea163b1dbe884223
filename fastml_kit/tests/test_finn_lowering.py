"""A graph in FINN's dialect gives the reference engine's codes; what has no form is refused."""

from dataclasses import replace
from itertools import pairwise, product
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from fastml_kit.backends.finn_backend import finn_graph, lowering, network
from fastml_kit.backends.finn_backend.finn_graph import sum_spec
from fastml_kit.backends.finn_backend.folding_models import Mvau
from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec, Rounding
from fastml_kit.graph import execute, ranges, reference
from fastml_kit.graph.host import quantize_input
from fastml_kit.graph.ir import Constant, Node, Program
from fastml_kit.tests.mixtures import Mixture
from fastml_kit.tests.programs import inputs, mlp

ROUNDINGS = get_args(Rounding)
#: More samples than this are drawn; fewer are all there are.
MANY = 300


def executed(lowered: lowering.Lowered, program: Program, values: np.ndarray) -> np.ndarray:
    """Return what the lowered graph makes of `values`, with what the host does at both ends."""
    codes = lowered.input_spec.to_codes(quantize_input(program, values))
    made = execute.run(lowered.model, codes.reshape(len(codes), *lowered.input_shape))
    np.testing.assert_array_equal(made, np.rint(made))
    flat = made.reshape(len(made), -1) * 2.0**-lowered.circuit_frac
    whole = flat + lowered.offsets * 2.0**-lowered.output_frac
    return whole.reshape(len(made), *program.output_shape)


def every_input(program: Program) -> np.ndarray:
    """Return all inputs that the program tells apart, or many of them, the extremes included."""
    spec, size = program.nodes[0].attrs["spec"], int(np.prod(program.input_shape))
    if size * spec.width > 8:
        return inputs(program, MANY)
    codes = np.array(list(product(range(spec.low, spec.high + 1), repeat=size)))
    return spec.to_values(codes.reshape(-1, *program.input_shape))


def assert_exact(program: Program) -> lowering.Lowered:
    """Lower `program`, compare it with the reference engine, and return it."""
    lowered, values = lowering.lower(program), every_input(program)
    np.testing.assert_array_equal(
        executed(lowered, program, values), reference.run(program, values)
    )
    return lowered


# -- random programs of all that FINN takes


class Growing(Mixture):
    """A mixture that remembers the ranges of its tensors, so that it grows quickly."""

    def restart(self, spec: FixedSpec) -> None:
        """Begin with a quantizer of this format instead."""
        self.nodes.clear()
        self.at = "x"
        self.quant(spec)

    def put(self, op: str, *more: str, source: str = "", **attrs: Any) -> str:
        """Append a node, as `Mixture` does."""
        output, name = f"t{len(self.nodes)}", f"{op.lower()}{len(self.nodes)}"
        node = Node(op, name, (source or self.at, *more), output, attrs)
        self.nodes.append(node)
        program = self.program(self.shape)
        if len(self.nodes) == 1:
            self.found = ranges.analyse(program)
        else:
            self.found[output] = ranges.bound(node, program, self.found)
        self.at, self.shape = output, self.found[output].low.shape[1:]
        return output


def kernel(m: Growing, *shape: int) -> str:
    """Add random weights of 2 to 8 bits, one of them zero now and then."""
    name = m.constant(*shape, top=int(m.rng.choice([1, 7, 127])), frac=m.draw(0, 5))
    codes = m.constants[name].codes
    codes[(codes == 0) & (m.rng.random(codes.shape) < 0.9)] = 1
    return name


def convolve(m: Growing, filters: int, size: tuple[int, int], bias: bool, **slide: Any) -> None:
    """Append a convolution."""
    parts = [kernel(m, filters, m.shape[0], *size)]
    if bias:
        parts.append(m.constant(filters, top=20, frac=m.draw(3, 9)))
    m.put("Conv", *parts, group=1, dilations=(1, 1), **slide)


def elementwise(m: Growing, kind: str) -> None:
    """Append an operation that a quantizer takes in."""
    one = (1,) * (len(m.shape) - 1)
    if kind == "Relu":
        m.put("Relu")
    elif kind == "LeakyRelu":
        m.put("LeakyRelu", alpha=m.draw(0, 4), alpha_frac=3)
    elif kind == "Clip":
        low = None if m.draw(0, 3) == 0 else -m.draw(0, 5)
        m.put("Clip", low=low, high=m.draw(1, 9), frac=1)
    else:
        m.put(kind, m.constant(m.shape[0], *one, top=9, frac=m.draw(2, 6)))


def quantizer(m: Growing, kind: str, rounding: str) -> None:
    """Append what makes codes of at most 5 bits, around where the values really are."""
    found = m.found[m.at].spec
    spec = FixedSpec(
        m.draw(1, 6), found.integer - m.draw(0, 4), bool(m.draw(0, 2)), narrow=m.draw(0, 4) == 0
    )
    spec = replace(spec, width=max(spec.width, 2 if spec.signed or spec.narrow else 1))
    if kind == "Quant":
        m.quant(spec, rounding, zero_point=m.draw(-1, 2) if m.draw(0, 4) == 0 else 0)
    elif kind == "channels":
        fracs = spec.frac - m.rng.integers(0, 3, (1, m.shape[0], *(1,) * (len(m.shape) - 1)))
        fracs.flat[0] = spec.frac
        m.quant(spec, rounding, fracs=fracs)
    elif kind == "Trunc":
        drop, out = max(found.width - 4, 1), found.frac
        m.put("Trunc", frac=out, zero_point=m.draw(-1, 2), drop=drop, rounding=rounding, spec=None)
    elif kind == "MultiThreshold":
        rows = np.sort(m.rng.uniform(-0.5, 0.5, (m.shape[0], 3)) * 2.0**found.integer, axis=1)
        m.put("MultiThreshold", thresholds=rows, base=m.draw(-3, 1), step=m.draw(1, 3), frac=1)
    else:
        m.put("BipolarQuant", frac=1, steps=np.array(m.draw(1, 3)))


elementwises = st.lists(st.sampled_from(["Relu", "LeakyRelu", "Clip", "Add", "Sub"]), max_size=3)
quantizers = st.tuples(
    st.sampled_from(["Quant", "Quant", "Quant", "channels", "Trunc", "MultiThreshold", "Bipolar"]),
    st.sampled_from(ROUNDINGS),
)


@st.composite
def mlps(draw: st.DrawFn) -> Program:
    """Draw dense layers, each with any elementwise operations and a quantizer behind."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    m = Growing(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), (sizes[0],))
    for rows, columns in pairwise(sizes):
        m.put("MatMul", kernel(m, rows, columns))
        for kind in draw(elementwises):
            elementwise(m, kind)
        quantizer(m, *draw(quantizers))
    return end(draw, m)


@st.composite
def cnns(draw: st.DrawFn) -> Program:
    """Draw convolutions with padding, strides, pools and sums of two branches."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = Growing(rng, draw(st.sampled_from([(1, 4, 4), (2, 5, 3), (3, 1, 6)])))
    for _ in range(draw(st.integers(1, 2))):
        height, width = (draw(st.integers(1, min(3, side))) for side in m.shape[1:])
        pads = tuple(draw(st.integers(0, 1)) for _ in range(4))
        strides = tuple(draw(st.integers(1, 2)) for _ in range(2))
        convolve(
            m,
            draw(st.integers(1, 3)),
            (height, width),
            draw(st.booleans()),
            strides=strides,
            pads=pads,
        )
        before = draw(elementwises)
        for kind in before:
            elementwise(m, kind)
        pool = draw(st.sampled_from(["none", "before", "after"]))
        if pool == "before":
            max_pool(m, draw)
        quantizer(m, *draw(quantizers))
        if pool == "after":
            max_pool(m, draw)
        if draw(st.booleans()):
            residual(m, draw)
    m.put("Flatten")
    return end(draw, m)


def max_pool(m: Growing, draw: st.DrawFn) -> None:
    """Append a pool of windows that fit."""
    size = tuple(min(2, side) for side in m.shape[1:])
    strides = tuple(draw(st.integers(1, 2)) for _ in range(2))
    m.put("MaxPool", kernel_shape=size, strides=strides, pads=(0,) * 4, dilations=(1, 1))


def residual(m: Growing, draw: st.DrawFn) -> None:
    """Append a branch that a sum joins again: with a quantizer of one scale, or with none."""
    frac = m.found[m.at].frac
    trunk, kept = m.at, m.shape
    convolve(m, kept[0], (1, 1), draw(st.booleans()), strides=(1, 1), pads=(0,) * 4)
    m.quant(FixedSpec(4, 4 - frac), draw(st.sampled_from(ROUNDINGS)))
    m.put("Add", trunk)
    for kind in draw(elementwises):
        elementwise(m, kind)
    m.quant(FixedSpec(4, 5 - frac, signed=draw(st.booleans())), draw(st.sampled_from(ROUNDINGS)))


def end(draw: st.DrawFn, m: Growing) -> Program:
    """Perhaps append a last layer with a bias that the host adds, and return the program."""
    if draw(st.booleans()):
        m.put("MatMul", kernel(m, m.shape[0], 3))
        if draw(st.booleans()):
            m.put(draw(st.sampled_from(["Add", "Sub"])), m.constant(3, top=9, frac=m.draw(0, 9)))
    return m.program(m.shape)


@settings(max_examples=80)
@given(program=st.one_of(mlps(), cnns()))
def test_random_networks_give_the_reference_engines_codes(program: Program) -> None:
    try:
        lowered = assert_exact(program)
    except UnsupportedModel as error:  # random weights can leave a quantizer with one code
        if "always gives the code" not in str(error):
            raise
        event("refused: a constant quantizer")
        return
    event("lowered")
    found = network.of(lowered)
    assert sum(layer.kind == "mvau" for layer in found.layers) == sum(
        node.op in ("MatMul", "Conv") for node in program.nodes
    )


# -- rounding


@st.composite
def requantizers(draw: st.DrawFn) -> Program:
    """Draw one weight, one bias and one Quant, over every code of a small input."""
    source, to = draw(formats), draw(formats)
    weight, bias = draw(st.integers(-7, 7).filter(bool)), draw(st.integers(-20, 20))
    kind, rounding = draw(st.sampled_from(["Relu", "LeakyRelu", ""])), draw(roundings)
    m = Growing(np.random.default_rng(0), (1,))
    m.restart(source)
    m.constants |= {"w": Constant(np.array([[weight]]), 0), "b": Constant(np.array([bias]), 2)}
    m.put("MatMul", "w")
    m.put("Add", "b")
    if kind:
        m.put(kind, alpha=3, alpha_frac=3)
    m.quant(to, rounding)
    return m.program((1,))


formats = st.builds(
    FixedSpec,
    width=st.integers(2, 6),
    integer=st.integers(-1, 4),
    signed=st.booleans(),
    narrow=st.booleans(),
)
roundings = st.sampled_from(ROUNDINGS)


@settings(max_examples=120)
@given(program=requantizers())
def test_every_code_is_requantized_as_the_graph_says(program: Program) -> None:
    try:
        assert_exact(program)
    except UnsupportedModel:
        made = reference.run(program, every_input(program))
        assert (made == made[0]).all()


def rounded(rounding: str) -> Program:
    """Return quarters, times one, rounded to whole numbers."""
    return Program(
        nodes=(
            Node("Quant", "in", ("x",), "t", attributes(FixedSpec(6, 4))),
            Node("MatMul", "times", ("t", "w"), "m", {}),
            Node("Quant", "out", ("m",), "y", attributes(FixedSpec(5, 5), rounding)),
        ),
        constants={"w": Constant(np.array([[1]]), 0)},
        input="x",
        input_shape=(1,),
        output="y",
        output_shape=(1,),
    )


def attributes(spec: FixedSpec, rounding: str = "ROUND") -> dict[str, Any]:
    """Return those of a Quant that saturates."""
    return {"spec": spec, "rounding": rounding, "overflow": "SAT"}


def test_ties_go_to_even_where_finns_own_rounding_would_send_them_up() -> None:
    program = rounded("ROUND")
    values = every_input(program)
    even = executed(lowering.lower(program), program, values)
    np.testing.assert_array_equal(even, np.round(values))
    half_up = executed(lowering.lower(rounded("HALF_CEIL")), rounded("HALF_CEIL"), values)
    np.testing.assert_array_equal(half_up, np.floor(values + 0.5))
    ties = values % 1 == 0.5
    # Every other tie has an even number below it, to which only the first of the two goes.
    np.testing.assert_array_equal(even != half_up, ties & (np.floor(values) % 2 == 0))
    assert np.count_nonzero(even != half_up) == 8


def test_a_threshold_lies_right_behind_a_tie_that_stays_below() -> None:
    lowered = lowering.lower(rounded("ROUND"))
    (name,) = [n.input[1] for n in lowered.model.graph.node if n.op_type == "MultiThreshold"]
    model = {t.name: t for t in lowered.model.graph.initializer}
    thresholds = numpy_helper.to_array(model[name])[0]
    # From -8 up to 8 in whole numbers, in quarters: even ones begin at their tie, odd ones after.
    levels = np.arange(-7, 9)
    np.testing.assert_array_equal(thresholds, 4 * levels - 2 + (levels % 2))


# -- the forms of single things


def flat(size: int = 3) -> Growing:
    """Return the beginning of a program on a vector of ufixed<4,2>."""
    m = Growing(np.random.default_rng(0), (size,))
    m.restart(FixedSpec(4, 2, signed=False))
    return m


def image(*shape: int) -> Growing:
    """Return the beginning of a program on an image (or series) of ufixed<4,2>."""
    m = Growing(np.random.default_rng(0), shape or (2, 4, 4))
    m.restart(FixedSpec(4, 2, signed=False))
    return m


def dense(m: Growing, outputs: int = 3) -> str:
    return m.put("MatMul", kernel(m, m.shape[-1], outputs))


def ops(lowered: lowering.Lowered) -> list[str]:
    return [node.op_type for node in lowered.model.graph.node]


def test_what_stands_before_a_quantizer_goes_into_its_thresholds() -> None:
    m = flat()
    dense(m)
    for kind in ("Add", "LeakyRelu", "Clip", "Sub"):
        elementwise(m, kind)
    m.quant(FixedSpec(3, 3))
    dense(m)
    lowered = assert_exact(m.program(m.shape))
    assert ops(lowered) == ["MatMul", "MultiThreshold", "MatMul"]
    assert list(lowered.layers.values()) == ["matmul1", "quant6", "matmul7"]


@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_a_scale_that_a_channel_has_of_its_own_costs_no_weight_bits(op: str) -> None:
    """As a normalization leaves them: 3-bit weights times a power of two for each output."""
    m = flat() if op == "MatMul" else image()
    own = np.array([0, 3, 1, 4])
    if op == "MatMul":
        dense(m, 4)
    else:
        convolve(m, 4, (2, 2), bias=True, strides=(1, 1), pads=(0, 0, 0, 0))
    (name,) = [name for name, c in m.constants.items() if c.codes.size > 8]
    axis = 1 if op == "MatMul" else 0
    narrow = np.clip(m.constants[name].codes, -3, 3)
    shaped = own.reshape([-1 if k == axis else 1 for k in range(narrow.ndim)])
    m.constants[name] = Constant(narrow << shaped, m.constants[name].frac)
    m.quant(FixedSpec(5, 7))
    if op == "Conv":
        m.put("Flatten")
    dense(m, 2)
    lowered = assert_exact(m.program(m.shape))
    first = next(n for n in lowered.model.graph.node if n.op_type == op)
    kept = {t.name: numpy_helper.to_array(t) for t in lowered.model.graph.initializer}
    assert np.abs(kept[first.input[1]]).max() <= 3


def test_a_quantizer_that_keeps_every_code_is_left_out() -> None:
    m = flat()
    m.quant(FixedSpec(6, 4))
    dense(m)
    assert ops(assert_exact(m.program(m.shape))) == ["MatMul"]


def test_the_last_bias_is_the_hosts_in_its_own_codes() -> None:
    program = mlp((3, 2))
    lowered = assert_exact(program)
    assert ops(lowered) == ["MatMul"]
    finer = program.constants["b0"].frac
    assert (lowered.circuit_frac, lowered.output_frac) == (4 + 3, max(4 + 3, finer))
    np.testing.assert_array_equal(
        lowered.offsets, program.constants["b0"].codes << (lowered.output_frac - finer)
    )


def test_a_bias_finer_than_the_sums_is_still_exact() -> None:
    m = flat()
    m.constants |= {"w": Constant(np.array([[3], [-2], [1]]), 0), "b": Constant(np.array([5]), 9)}
    m.put("MatMul", "w")
    m.put("Add", "b")
    lowered = assert_exact(m.program(m.shape))
    assert (lowered.circuit_frac, lowered.output_frac) == (2, 9)


def test_a_pool_of_unrounded_sums_comes_before_their_thresholds() -> None:
    m = image()
    convolve(m, 3, (3, 3), True, strides=(1, 1), pads=(1, 1, 1, 1))
    elementwise(m, "Relu")
    m.put("MaxPool", kernel_shape=(2, 2), strides=(2, 2), pads=(0,) * 4, dilations=(1, 1))
    m.quant(FixedSpec(3, 4, signed=False))
    lowered = assert_exact(m.program(m.shape))
    assert ops(lowered) == ["Conv", "MaxPool", "MultiThreshold"]


def test_a_sum_of_two_branches_keeps_what_both_owe() -> None:
    m = image()
    trunk = layered(m)
    convolve(m, 2, (1, 1), True, strides=(1, 1), pads=(0,) * 4)
    left = m.at
    convolve_from(m, trunk, left)
    m.put("Add", left)
    m.quant(FixedSpec(4, 4), "HALF_UP")
    lowered = assert_exact(m.program(m.shape))
    assert ops(lowered)[2:] == ["Conv", "Conv", "Add", "MultiThreshold"]
    kinds = [layer.kind for layer in network.of(lowered).layers]
    assert kinds[-5:] == ["duplicate", "mvau", "mvau", "add", "thresholding"]


def convolve_from(m: Growing, trunk: str, like: str) -> None:
    """Append a convolution of `trunk` whose sums have the scale of those in `like`."""
    (weights,) = [node.inputs[1] for node in m.nodes if node.output == like]
    frac = m.constants[weights].frac
    names = m.constant(2, 2, 1, 1, top=7, frac=frac), m.constant(2, top=20, frac=5)
    m.put("Conv", *names, source=trunk, group=1, dilations=(1, 1), strides=(1, 1), pads=(0,) * 4)


@given(first=formats, second=formats)
def test_the_type_of_a_sum_holds_it_where_the_unsigned_one_comes_first(
    first: FixedSpec, second: FixedSpec
) -> None:
    first, second = sorted((first, second), key=lambda spec: spec.signed)
    spec = sum_spec(first, second)
    assert spec.low <= first.low + second.low
    assert first.high + second.high <= spec.high


@pytest.mark.parametrize("signed_first", [True, False])
def test_a_sum_names_its_unsigned_summand_first(signed_first: bool) -> None:
    m = image()
    trunk = layered(m)
    convolve(m, 2, (1, 1), False, strides=(1, 1), pads=(0,) * 4)
    m.quant(FixedSpec(4, 2))
    m.put("Add", trunk if signed_first else m.at, source=m.at if signed_first else trunk)
    m.quant(FixedSpec(4, 4))
    lowered = assert_exact(m.program(m.shape))
    (names,) = [node.input for node in lowered.model.graph.node if node.op_type == "Add"]
    by_output = {node.output[0]: node for node in lowered.model.graph.node}
    assert lowered.layers[names[0]] == "quant2"
    assert by_output[names[1]].op_type == "MultiThreshold"


def test_one_bit_gets_a_second_one() -> None:
    m = flat()
    m.restart(FixedSpec(1, 1, signed=False))
    m.put("MatMul", m.constant(3, 3, top=7, frac=2))
    m.quant(FixedSpec(1, 1, signed=False))
    dense(m)
    lowered = assert_exact(m.program(m.shape))
    layers = [layer for layer in network.of(lowered).layers if isinstance(layer, Mvau)]
    assert [layer.act_bits for layer in layers] == [2, 2]
    assert lowered.input_spec.width == 1


def test_a_flatten_at_an_end_is_the_hosts() -> None:
    m = image()
    m.put("Flatten")
    dense(m, 4)
    lowered = assert_exact(m.program(m.shape))
    assert (lowered.input_shape, ops(lowered)) == ((32,), ["MatMul"])
    m = image()
    convolve(m, 2, (2, 2), True, strides=(1, 1), pads=(0,) * 4)
    m.put("Flatten")
    lowered = assert_exact(m.program(m.shape))
    assert (lowered.circuit_shape, ops(lowered)) == ((2, 3, 3), ["Conv"])


def test_an_input_that_is_reshaped_at_once_gets_its_new_shape_from_the_host() -> None:
    m = flat(8)
    m.put("Reshape", shape=(2, 2, 2))
    convolve(m, 3, (2, 2), False, strides=(1, 1), pads=(0,) * 4)
    m.put("Flatten")
    lowered = assert_exact(m.program(m.shape))
    assert lowered.input_shape == (2, 2, 2)
    assert ops(lowered) == ["Conv"]


def test_elements_come_channel_last() -> None:
    np.testing.assert_array_equal(
        finn_graph.elements((2, 1, 3)), np.arange(6).reshape(2, 1, 3).transpose(1, 2, 0).ravel()
    )
    np.testing.assert_array_equal(finn_graph.elements((4,)), np.arange(4))


# -- what has no form


def pool(m: Growing, **attrs: Any) -> None:
    base = {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0,) * 4, "dilations": (1, 1)}
    m.put("MaxPool", **{**base, **attrs})


def wide(m: Growing, top: int) -> None:
    m.constants["wide"] = Constant(np.array([[top], [1], [0]]), 2)
    m.put("MatMul", "wide")


def layered(m: Growing) -> str:
    """Append a layer and a quantizer; return its output."""
    dense(m) if len(m.shape) == 1 else conv(m)
    m.quant(FixedSpec(4, 2, signed=False))
    return m.at


def itself(m: Growing) -> None:
    m.put("Add", layered(m))


def own_input(m: Growing) -> None:
    trunk = m.at
    layered(m)
    m.put("Add", trunk)


def two_scales(m: Growing) -> None:
    trunk = layered(m)
    m.quant(FixedSpec(4, 3, signed=False))
    m.put("Add", trunk)


def two_shapes(m: Growing) -> None:
    trunk = layered(m)
    m.put("MaxPool", kernel_shape=(3, 3), strides=(1, 1), pads=(0,) * 4)
    m.put("Add", trunk)


def relu_into_sum(m: Growing) -> None:
    trunk = layered(m)
    m.quant(FixedSpec(3, 1, signed=False))
    m.put("Relu")
    m.put("Add", trunk)


def difference(m: Growing) -> None:
    trunk = m.at
    m.quant(FixedSpec(4, 2, signed=False), "FLOOR")
    m.put("Sub", trunk)


def from_a_constant(m: Growing) -> None:
    m.put("Sub", m.at, source=m.constant(3))


def place_by_place(m: Growing) -> None:
    m.put("Add", m.constant(2, 4, 4, top=9))
    m.quant(FixedSpec(3, 3))


def scales_by_row(m: Growing) -> None:
    m.quant(FixedSpec(3, 3), fracs=np.array([0, -1, 0, -1]).reshape(1, 1, 4, 1))


def unrounded_dense(m: Growing) -> None:
    dense(m)
    dense(m)


def unrounded_bias(m: Growing) -> None:
    dense(m)
    elementwise(m, "Add")
    dense(m)


def wide_input(m: Growing) -> None:
    m.restart(FixedSpec(9, 2, signed=False))
    dense(m)


def wrapping(m: Growing) -> None:
    dense(m)
    m.put("Quant", spec=FixedSpec(3, 2), rounding="FLOOR", overflow="WRAP")


def always_zero(m: Growing) -> None:
    m.quant(FixedSpec(3, 20, signed=False), "FLOOR")


def conv(m: Growing, group: int = 1, dilation: int = 1) -> None:
    rank = len(m.shape) - 1
    m.put("Conv", kernel(m, 2, m.shape[0] // group, *(2,) * rank), group=group, strides=(1,) * rank,
          dilations=(dilation,) * rank, pads=(0,) * 2 * rank)  # fmt: skip


REFUSALS: dict[str, tuple[Any, Any, str]] = {
    "grouped": (image, lambda m: conv(m, group=2), "Conv 'conv1' is grouped.*ordinary"),
    "dilated": (image, lambda m: conv(m, dilation=2), "Conv 'conv1' is dilated; use dilation 1"),
    "series": (lambda: image(2, 5), conv, "Conv 'conv1' works on 1 axes; write it over two"),
    "pool of a series": (
        lambda: image(2, 4),
        lambda m: pool(m, kernel_shape=(2,), strides=(2,), pads=(0, 0), dilations=(1,)),
        "MaxPool 'maxpool1' is padded or not over two axes; pool an image",
    ),
    "padded pool": (
        image, lambda m: pool(m, pads=(1, 1, 1, 1)), "MaxPool 'maxpool1' is padded.*without padding"
    ),
    "dilated pool": (
        image, lambda m: pool(m, dilations=(2, 2)), "MaxPool 'maxpool1' is dilated; use dilation 1"
    ),
    "product": (
        flat, lambda m: m.put("Mul", m.constant(3)), "Mul 'mul1' has no unit.*leave it out.*hls4ml"
    ),
    "average": (
        image,
        lambda m: m.put("SumPool", kernel_shape=(2, 2), strides=(2, 2), pads=(0,) * 4, shift=2),
        "SumPool 'sumpool1' has no unit",
    ),
    "sums": (flat, unrounded_dense, "MatMul 'matmul2' reads codes of .* bits; quantize its input"),
    "sums and bias": (
        flat, unrounded_bias, "MatMul 'matmul3' reads sums that no quantizer.*put a quantizer"
    ),
    "9-bit weights": (
        flat, lambda m: wide(m, 256), "MatMul 'matmul1' has weights of 10 bits; use at most 8"
    ),
    "adds itself": (flat, itself, "Add 'add3' adds a tensor to itself; double the weights"),
    "adds its input": (flat, own_input, "Add 'add3' adds the graph's own input.*put a layer"),
    "weights of -128": (
        flat, lambda m: wide(m, -128), "MatMul 'matmul1' has weights of 9 bits; use at most 8"
    ),
    "weights of -129": (
        flat, lambda m: wide(m, -129), "MatMul 'matmul1' has weights of 9 bits; use at most 8"
    ),
    "9-bit input": (
        flat, wide_input, "MatMul 'matmul1' reads codes of 9 bits; quantize its input to at most 8"
    ),
    "9-bit quantizer": (
        flat,
        lambda m: [dense(m), m.quant(FixedSpec(9, 5))],
        "Quant 'quant2' has .* levels; use at most 8 bits",
    ),
    "two scales": (
        flat, two_scales, "Add 'add4' adds codes of 1 and of 2 fractional bits.*one scale"
    ),
    "two shapes": (image, two_shapes, "Add 'add4' adds the shapes .*; make them equal"),
    "relu into a sum": (
        flat, relu_into_sum, "Relu 'relu4' stands before the sum 'add5'.*put a quantizer after"
    ),
    "relu at the end": (
        flat,
        lambda m: [dense(m), m.put("Relu")],
        "Relu 'relu2' stands before the graph's output.*put a quantizer after",
    ),
    "difference": (flat, difference, "Sub 'sub2' subtracts one tensor of data.*add a negated"),
    "from a constant": (flat, from_a_constant, "Sub 'sub1' subtracts from a constant; negate"),
    "bias by place": (
        image, place_by_place, "Add 'add1' has constants or scales that differ"
    ),
    "scales by row": (
        image, scales_by_row, "Quant 'quant1' has constants or scales that differ"
    ),
    "two axes": (
        lambda: image(2, 3), dense, "MatMul 'matmul1' works on more than one axis; flatten its"
    ),
    "reshaped stream": (
        flat,
        lambda m: [dense(m, 4), m.quant(), m.put("Reshape", shape=(2, 2))],
        r"Reshape 'reshape3' gives a stream the shape \(2, 2\); flatten instead",
    ),
    "wrapping": (flat, wrapping, "Quant 'quant2' wraps around.*saturat"),
    "always zero": (flat, always_zero, "Quant 'quant1' always gives the code 0; train the model"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_has_no_form_is_refused_by_name_with_a_remedy(name: str) -> None:
    begin, grow, message = REFUSALS[name]
    m = begin()
    grow(m)
    with pytest.raises(UnsupportedModel, match=message):
        lowering.lower(m.program(m.shape))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("Relu", "first", ("x",), "t", {}), "Relu 'first' reads the unquantized input; put"),
        (
            Node("Quant", "in", ("x",), "t", {**attributes(FixedSpec(4, 2)), "zero_point": 1}),
            "Quant 'in' of the input has a zero point.*zero point 0",
        ),
    ],
)
def test_an_input_that_the_host_cannot_quantize_is_refused(node: Node, message: str) -> None:
    program = mlp((3, 2))
    program = replace(program, nodes=(node, replace(program.nodes[1], inputs=("t", "w0")),
                                      *program.nodes[2:]))  # fmt: skip
    with pytest.raises(UnsupportedModel, match=message):
        lowering.lower(program)


def test_a_graph_without_layers_is_refused() -> None:
    m = flat()
    with pytest.raises(UnsupportedModel, match="nothing but the input's quantizer"):
        lowering.lower(m.program(m.shape))
