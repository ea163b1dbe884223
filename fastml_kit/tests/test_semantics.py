"""What QONNX's own operators mean, code by code against qonnx's executor."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import execute, fast, program, ranges, reference
from fastml_kit.tests import onnxgraphs

MODES = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]

#: Every tie, both neighbours of it, the bounds, and what lies beyond them, in steps.
HALVES = np.arange(-40, 41) / 2
FAR = [-70000.0, -32768.5, -255.5, 254.5, 255.5, 32767.5, 65535.5, 7e4]
STEPS = np.unique([*HALVES, *(HALVES + 2.0**-12), *(HALVES - 2.0**-12), *FAR])


def mode_of(graph):
    """Return how the graph's first node rounds."""
    return graph.nodes[0].attrs.get("rounding")


def both(path, values):
    """Return what the reference engine and qonnx's executor make of one row of `values`."""
    graph = program.read(path)
    ours, theirs = reference.run(graph, values[None]), execute.run(path, values[None])
    if graph.nodes[0].op == "Trunc":  # made to stand behind a Quant; alone it has no bounds
        return ours, theirs
    if mode_of(graph) not in ("HALF_UP", "HALF_DOWN"):
        assert np.array_equal(fast.run(graph, values[None]), ours)
    bound = ranges.analyse(graph)[graph.output]
    assert (ours >= bound.low * 2.0**-bound.frac).all()
    assert (ours <= bound.high * 2.0**-bound.frac).all()
    return ours, theirs


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zero_point", [0, 1, -3])
def test_quant_in_every_form(tmp_path, mode, zero_point):
    """Signed or not, narrow or not, 1 to 16 bits, on ties and beyond the bounds."""
    scale = 2.0**-2
    for signed, narrow, bits in product((0, 1), (0, 1), range(1, 17)):
        constants = {}
        last = onnxgraphs.quant(
            "x", "y", constants, scale, bits, zero_point=zero_point, signed=signed, narrow=narrow,
            rounding_mode=mode,
        )  # fmt: skip
        path = onnxgraphs.save(tmp_path / "quant.onnx", [last], constants, STEPS.shape)
        ours, theirs = both(path, STEPS * scale)
        assert np.array_equal(ours, theirs), (signed, narrow, bits)
        assert len(np.unique(ours)) > (1 if bits > 1 or signed else 0)


def test_the_rounding_table(tmp_path):
    """The worked table: halves and their neighbours, mode by mode."""
    values = np.array([5.5, 2.5, 1.6, 1.1, 1, -1, -1.1, -1.6, -2.5, -5.5])
    values = np.round(values * 2**20) / 2**20
    want = {
        "HALF_EVEN": [6, 2, 2, 1, 1, -1, -1, -2, -2, -6],
        "HALF_UP": [6, 3, 2, 1, 1, -1, -1, -2, -3, -6],
        "HALF_DOWN": [5, 2, 2, 1, 1, -1, -1, -2, -2, -5],
        "UP": [6, 3, 2, 2, 1, -1, -2, -2, -3, -6],
        "DOWN": [5, 2, 1, 1, 1, -1, -1, -1, -2, -5],
    }
    for mode, row in want.items():
        constants = {}
        last = onnxgraphs.quant("x", "y", constants, 1.0, 8, rounding_mode=mode)
        path = onnxgraphs.save(tmp_path / "quant.onnx", [last], constants, (10,))
        assert reference.run(program.read(path), values[None])[0].tolist() == row


def test_one_signed_bit_is_bipolar(tmp_path):
    constants = {}
    last = onnxgraphs.quant("x", "y", constants, 0.5, 1)
    path = onnxgraphs.save(tmp_path / "bit.onnx", [last], constants, (4,))
    values = np.array([-0.25, -0.0, 0.0, 0.25])
    ours, theirs = both(path, values)
    assert ours.tolist() == theirs.tolist() == [[-0.5, 0.5, 0.5, 0.5]]


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_bipolar_quant_sends_both_zeros_up(tmp_path, scale):
    path = onnxgraphs.save(
        tmp_path / "bipolar.onnx",
        [onnxgraphs.node("BipolarQuant", ["x", "s"], "y")], {"s": scale}, (4,),
    )  # fmt: skip
    ours, theirs = both(path, np.array([-0.0, 0.0, 1.0, -(2.0**-20)]))
    assert ours.tolist() == theirs.tolist() == [[scale, scale, scale, -scale]]


def test_nan_has_no_code(tmp_path):
    """QONNX's executor makes -1 of NaN; here it is refused, since no code stands for it."""
    path = onnxgraphs.save(
        tmp_path / "bipolar.onnx",
        [onnxgraphs.node("BipolarQuant", ["x", "s"], "y")], {"s": 1.0}, (1,),
    )  # fmt: skip
    assert execute.run(path, np.array([[np.nan]])).item() == -1
    with pytest.raises(Exception, match=r"NaN|multiple"):
        reference.run(program.read(path), np.array([[np.nan]]))


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    in_bits=st.integers(4, 12),
    drop=st.integers(0, 6),
    zero_point=st.sampled_from([0, 0, 4, -8]),
    version=st.sampled_from([1, 2]),
    signed=st.booleans(),
    narrow=st.booleans(),
    out_bits=st.integers(2, 10),
)
def test_trunc_in_both_versions(
    tmp_path_factory, mode, in_bits, drop, zero_point, version, signed, narrow, out_bits
):
    scale = 2.0**-3
    constants = {"s": scale, "z": float(zero_point), "ib": float(in_bits)}
    if version == 1:
        constants["ob"] = float(max(in_bits - drop, 1))
        last = onnxgraphs.node("Trunc", ["x", "s", "z", "ib", "ob"], "y", rounding_mode=mode)
    else:
        constants |= {"os": scale * 2.0**drop, "ob": float(out_bits)}
        last = onnxgraphs.node(
            "Trunc", ["x", "s", "z", "ib", "os", "ob"], "y",
            rounding_mode=mode, signed=int(signed), narrow=int(narrow),
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("trunc")
    path = onnxgraphs.save(
        folder / "trunc.onnx", [last], constants, STEPS.shape, qonnx_opset=version
    )
    ours, theirs = both(path, STEPS * scale)
    assert np.array_equal(ours, theirs)
    assert len(np.unique(ours)) > 1


def test_trunc_as_measured_with_qonnx(tmp_path):
    """The facts' vectors: 10 to 4 bits, input scale 1; version 2 saturates at 4 bits."""
    values = np.array([-37.0, -1, 0, 5, 100, 300])
    constants = {"s": 1.0, "z": 0.0, "ib": 10.0, "ob": 4.0}
    first = onnxgraphs.node("Trunc", ["x", "s", "z", "ib", "ob"], "y", rounding_mode="FLOOR")
    path = onnxgraphs.save(tmp_path / "v1.onnx", [first], constants, (6,))
    assert reference.run(program.read(path), values[None])[0].tolist() == [-1, -1, 0, 0, 1, 4]
    for out_scale, want in ((64.0, [-64, -64, 0, 0, 64, 256]), (4.0, [-32, -4, 0, 4, 28, 28])):
        second = onnxgraphs.node(
            "Trunc", ["x", "s", "z", "ib", "os", "ob"], "y", rounding_mode="FLOOR"
        )
        path = onnxgraphs.save(
            tmp_path / "v2.onnx", [second], constants | {"os": out_scale}, (6,), qonnx_opset=2
        )
        ours, theirs = both(path, values)
        assert ours[0].tolist() == theirs[0].tolist() == want


def test_scales_by_channel(tmp_path):
    """Each channel is rounded on its own grid; the ties are of different sizes."""
    rng = np.random.default_rng(0)
    constants = {}
    scales = 2.0 ** -np.arange(3).reshape(1, 3, 1, 1)
    last = onnxgraphs.quant("x", "y", constants, scales, 4, zero_point=1)
    path = onnxgraphs.save(tmp_path / "channels.onnx", [last], constants, (3, 5, 4))
    values = rng.integers(-40, 40, (20, 3, 5, 4)) / 8
    graph = program.read(path)
    ours, theirs = reference.run(graph, values), execute.run(path, values)
    assert np.array_equal(ours, theirs) and np.array_equal(ours, fast.run(graph, values))
    assert len(np.unique(ours)) > 20


def test_multi_threshold(tmp_path):
    rng = np.random.default_rng(1)
    thresholds = np.sort(rng.integers(-20, 20, (3, 7)) / 8, axis=1)
    last = onnxgraphs.node(
        "MultiThreshold", ["x", "t"], "y", out_dtype="INT4", out_scale=0.5, out_bias=-2.0
    )
    path = onnxgraphs.save(tmp_path / "t.onnx", [last], {"t": thresholds}, (3, 4, 4))
    values = rng.integers(-30, 30, (20, 3, 4, 4)) / 8
    graph = program.read(path)
    ours, theirs = reference.run(graph, values), execute.run(path, values)
    assert np.array_equal(ours, theirs) and len(np.unique(ours)) == 8
    assert np.array_equal(fast.run(graph, values), ours)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (0.3, "scale 0.3, which is no power of two"),
        (-0.5, "scale that is not positive"),
        (0.0, "scale that is not positive"),
    ],
)
def test_scales_without_exact_form_are_refused(tmp_path, scale, message):
    constants = {}
    path = onnxgraphs.save(
        tmp_path / "q.onnx", [onnxgraphs.quant("x", "y", constants, scale, 4)], constants, (3,)
    )
    with pytest.raises(UnsupportedModel, match=message):
        program.read(path)
