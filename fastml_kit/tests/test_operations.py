"""Every operation of the integer program against qonnx's executor, on graphs of that one kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import execute, fast, program, ranges, reference
from fastml_kit.tests import onnxgraphs
from fastml_kit.tests.onnxgraphs import node

FEW = settings(max_examples=12, deadline=None)


def check(folder, nodes, constants, shape, to, *, distinct=5, seed=0):
    """Put a 5-bit Quant first, run both engines, and hold the codes against their bounds."""
    constants = dict(constants)
    first = onnxgraphs.quant("x", "q", constants, 0.25, 5)
    path = onnxgraphs.save(folder / "model.onnx", [first, *nodes], constants, shape, to=to)
    graph = program.read(path)
    values = np.random.default_rng(seed).integers(-18, 18, (20, *shape)) / 4
    seen = {}
    start = reference.Tensor((values * 2**8).astype(np.int64), 8)
    out = reference.run_codes(graph, start, watch=seen.__setitem__)
    bounds = ranges.analyse(graph)
    for name, tensor in seen.items():
        assert tensor.frac == bounds[name].frac, name
        assert (tensor.codes >= bounds[name].low).all() and (
            tensor.codes <= bounds[name].high
        ).all()
    assert graph.output_shape == to
    assert np.array_equal(out.codes * 2.0**-out.frac, execute.run(path, values))
    assert np.array_equal(fast.compile(graph)(values), out.codes * 2.0**-out.frac)
    assert len(np.unique(out.codes)) >= distinct
    return graph


def weights(*shape, seed=0, top=7):
    return np.random.default_rng(seed).integers(-top, top + 1, shape) / 8


@FEW
@given(
    rank=st.sampled_from([1, 2]),
    group=st.sampled_from([1, 2, 4]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_convolutions(tmp_path_factory, rank, group, stride, dilation, pads, seed):
    shape, kernel = (4, 9, 8)[: rank + 1], (3, 2)[:rank]
    edges = pads[: 2 * rank]
    to = tuple(
        (n + edges[i] + edges[i + rank] - (k - 1) * dilation - 1) // stride + 1
        for i, (n, k) in enumerate(zip(shape[1:], kernel, strict=True))
    )
    last = node(
        "Conv", ["q", "w", "b"], "y", group=group, strides=[stride] * rank,
        dilations=[dilation] * rank, pads=edges, kernel_shape=list(kernel),
    )  # fmt: skip
    constants = {"w": weights(8, 4 // group, *kernel, seed=seed), "b": weights(8, seed=seed)}
    check(tmp_path_factory.mktemp("conv"), [last], constants, shape, (8, *to), seed=seed)


@FEW
@given(
    rank=st.sampled_from([1, 2]),
    group=st.sampled_from([1, 2]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    extra=st.integers(0, 2),
)
def test_transposed_convolutions(tmp_path_factory, rank, group, stride, dilation, pads, extra):
    shape, kernel, edges = (4, 5, 4)[: rank + 1], (3, 3)[:rank], pads[: 2 * rank]
    extra = min(extra, stride - 1)
    to = tuple(
        (n - 1) * stride + (k - 1) * dilation + 1 - edges[i] - edges[i + rank] + extra
        for i, (n, k) in enumerate(zip(shape[1:], kernel, strict=True))
    )
    last = node(
        "ConvTranspose", ["q", "w", "b"], "y", group=group, strides=[stride] * rank,
        dilations=[dilation] * rank, pads=edges, kernel_shape=list(kernel),
        output_padding=[extra] * rank,
    )  # fmt: skip
    constants = {"w": weights(4, 3, *kernel), "b": weights(3 * group)}
    check(tmp_path_factory.mktemp("deconv"), [last], constants, shape, (3 * group, *to))


@pytest.mark.parametrize("rule", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(tmp_path, rule):
    size = (3, 4) if rule != "VALID" else (3, 3)
    last = node("Conv", ["q", "w"], "y", auto_pad=rule, strides=[2, 2], kernel_shape=[2, 3])
    check(tmp_path, [last], {"w": weights(2, 3, 2, 3)}, (3, 6, 8), (2, *size))


@FEW
@given(
    size=st.integers(1, 3), stride=st.integers(1, 3), pads=st.lists(st.integers(0, 2), min_size=4,
    max_size=4), average=st.booleans(),
)  # fmt: skip
def test_pools(tmp_path_factory, size, stride, pads, average):
    edges = [min(p, size - 1) for p in pads]
    to = tuple((n + edges[i] + edges[i + 2] - size) // stride + 1 for i, n in enumerate((7, 6)))
    attributes = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": edges}
    constants = {}
    if average:
        pool = node("AveragePool", ["q"], "p", count_include_pad=1, **attributes)
    else:
        pool = node("MaxPool", ["q"], "p", **attributes)
    last = onnxgraphs.quant("p", "y", constants, 0.125, 6)
    check(tmp_path_factory.mktemp("pool"), [pool, last], constants, (3, 7, 6), (3, *to))


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(5, 3, 3), (5, 4, 4), (5, 7), (5, 8, 1)])
def test_global_pools(tmp_path, op, shape):
    constants = {}
    to = (5, *(1 for _ in shape[1:]))
    nodes = [node(op, ["q"], "p"), onnxgraphs.quant("p", "f", constants, 0.125, 6)]
    nodes.append(node("Flatten", ["f"], "y"))
    graph = check(tmp_path, nodes, constants, shape, (5,))
    assert to and graph.nodes[-1].op == "Flatten"


def test_an_average_at_a_tie_goes_to_the_even_code(tmp_path):
    """Sums of nine values whose average lies half way between two codes, for every such sum."""
    constants = {}
    nodes = [
        onnxgraphs.quant("x", "q", constants, 0.25, 9),
        node("AveragePool", ["q"], "p", kernel_shape=[3, 3]),
        onnxgraphs.quant("p", "y", constants, 0.5, 8),
    ]
    path = onnxgraphs.save(tmp_path / "m.onnx", nodes, constants, (1, 3, 3), to=(1, 1, 1))
    sums = np.arange(-9 * 200, 9 * 200)
    codes = np.full((len(sums), 9), sums[:, None] // 9)
    codes[:, 0] += sums % 9
    values = codes.reshape(-1, 1, 3, 3) / 4
    graph = program.read(path)
    ours, theirs = reference.run(graph, values), execute.run(path, values)
    assert np.array_equal(ours, theirs) and len(np.unique(ours)) == 201
    assert np.array_equal(fast.run(graph, values), ours)


def test_branches_of_different_scales_are_added(tmp_path):
    constants = {"c": np.array([[0.5]]), "d": np.array([1.25])}
    nodes = [
        node("Mul", ["q", "c"], "a"),
        onnxgraphs.quant("q", "b", constants, 1.0, 3),
        node("Add", ["a", "b"], "s"),
        node("Sub", ["s", "q"], "t"),
        node("Mul", ["t", "b"], "u"),
        node("Sub", ["d", "u"], "y"),
    ]
    check(tmp_path, nodes, constants, (6,), (6,))


def test_elements_are_moved_as_onnx_moves_them(tmp_path):
    constants = {
        "r": np.array([0, 3, 8]), "pads": np.array([0, 0, 1, 0, 0, 2]),
        "roi": np.zeros(0), "scales": np.array([1.0, 1.0, 2.0, 3.0]), "sq": np.array([1]),
        "un": np.array([1]),
    }  # fmt: skip
    nodes = [
        node("Transpose", ["q"], "t", perm=[0, 2, 3, 1]),
        node("Reshape", ["t", "r"], "s"),
        node("Pad", ["s", "pads"], "p"),
        node("Unsqueeze", ["p", "un"], "u"),
        node(
            "Resize", ["u", "roi", "scales"], "z", mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        ),
        node("Concat", ["z", "z"], "c", axis=-1),
        node("Squeeze", ["c", "sq"], "g"),
        node("Flatten", ["g"], "y"),
    ]  # fmt: skip
    check(tmp_path, nodes, constants, (2, 3, 4), (2 * 3 * 3 * 11 * 2 // 2 * 2,))


@pytest.mark.parametrize("alpha", [0.25, 0.1015625, 0.0])
def test_leaky_relu_and_clip(tmp_path, alpha):
    constants = {"low": -0.5, "high": 1.5}
    nodes = [node("LeakyRelu", ["q"], "l", alpha=alpha), node("Clip", ["l", "low", "high"], "y")]
    check(tmp_path, nodes, constants, (9,), (9,))


def test_dense_layers_in_gemm_form(tmp_path):
    constants = {"b": weights(3)}
    nodes = [
        onnxgraphs.quant("w", "wq", constants, 0.125, 4),
        node("Gemm", ["q", "wq", "b"], "y", transB=1),
    ]
    constants["w"] = weights(3, 6)
    check(tmp_path, nodes, constants, (6,), (3,))


def test_weights_with_scales_by_channel(tmp_path):
    constants = {"w": np.random.default_rng(0).normal(0, 1, (6, 3))}
    scales = np.array([[0.5, 0.0625, 0.25]])
    nodes = [onnxgraphs.quant("w", "wq", constants, scales, 3), node("MatMul", ["q", "wq"], "y")]
    graph = check(tmp_path, nodes, constants, (6,), (3,))
    assert graph.constants["wq"].frac == 4


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        ([node("LeakyRelu", ["q"], "y", alpha=0.1)], {}, "slope of LeakyRelu 'y'"),
        ([node("Div", ["q", "c"], "y")], {"c": 3.0}, "divides by other numbers than powers"),
        ([node("GlobalAveragePool", ["q"], "y")], {}, "ends in an average over 9"),
        (
            [node("AveragePool", ["q"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {},
            "its divisor changes",
        ),
        (
            [node("GlobalAveragePool", ["q"], "a"), node("Add", ["a", "a"], "y")], {},
            "has no exact binary form; put a Quant between",
        ),
        ([node("Softmax", ["q"], "y")], {}, "the host's work"),
        ([node("Mul", ["q", "c"], "y")], {"c": np.array([0.1, 1e-20, 3e5])}, "not quantized"),
    ],
)  # fmt: skip
def test_what_has_no_exact_form_is_refused_by_name(tmp_path, nodes, constants, message):
    constants = dict(constants)
    first = onnxgraphs.quant("x", "q", constants, 0.25, 5)
    pooled = any("Global" in n.op_type for n in nodes)
    path = onnxgraphs.save(
        tmp_path / "m.onnx", [first, *nodes], constants, (2, 3, 3),
        to=(2, 1, 1) if pooled else None,
    )  # fmt: skip
    with pytest.raises(UnsupportedModel, match=message):
        program.read(path)
