"""Fixed-point codes against exact rational arithmetic."""

from fractions import Fraction
from math import floor
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec, Rounding, shift

specs = st.builds(
    FixedSpec,
    width=st.integers(2, 16),
    integer=st.integers(-4, 20),
    signed=st.booleans(),
    narrow=st.booleans(),
)


def rounded(value: Fraction, rounding: str) -> int:
    """Round a rational number by its definition."""
    below, half = floor(value), Fraction(1, 2)
    rest = value - below
    up = {
        "ROUND": rest > half or (rest == half and below % 2 == 1),
        "CEIL": rest > 0,
        "FLOOR": False,
        "UP": rest > 0 and value > 0,
        "DOWN": rest > 0 and value < 0,
        "HALF_UP": rest > half or (rest == half and value > 0),
        "HALF_DOWN": rest > half or (rest == half and value < 0),
        "HALF_CEIL": rest >= half,
    }
    return below + up[rounding]


@pytest.mark.parametrize("rounding", get_args(Rounding))
@given(
    code=st.one_of(st.integers(-64, 64), st.integers(-(2**40), 2**40)),
    bits=st.integers(-8, 70),
    divisor=st.sampled_from([1, 3, 9, 49]),
)
def test_shift_rounds_as_defined(rounding, code, bits, divisor):
    want = rounded(Fraction(code, divisor) / Fraction(2) ** bits, rounding)
    assert shift(np.array([code]), bits, rounding, divisor)[0] == want


@pytest.mark.parametrize("rounding", get_args(Rounding))
@given(
    spec=specs,
    code=st.one_of(st.integers(-64, 64), st.integers(-(2**30), 2**30)),
    frac=st.integers(-4, 24),
)
def test_requantize_equals_quantizing_the_value(rounding, spec, code, frac):
    value = np.array([code * 2.0**-frac])
    assert spec.requantize([code], frac, rounding)[0] == spec.to_codes(value, rounding)[0]


@given(spec=specs, code=st.integers(-(2**30), 2**30), frac=st.integers(-4, 24))
def test_an_average_is_rounded_once(spec, code, frac):
    want = rounded(Fraction(code, 9) * Fraction(2) ** (spec.frac - frac), "ROUND")
    assert spec.requantize([code], frac, divisor=9)[0] == min(max(want, spec.low), spec.high)


@given(spec=specs)
def test_every_code_survives_the_round_trip(spec):
    codes = np.unique(np.linspace(spec.low, spec.high, 257).astype(np.int64))
    values = spec.to_values(codes)
    assert np.array_equal(spec.to_codes(values), codes)
    assert spec.on_grid(values).all()
    assert not spec.on_grid(values[:-1] + spec.step / 2).any()


@given(spec=specs, code=st.integers(-(2**20), 2**20))
def test_wrapping_differs_by_whole_spans(spec, code):
    got = spec.clip([code], "WRAP")[0]
    assert (code - got) % 2**spec.width == 0
    assert spec.low <= got < spec.low + 2**spec.width


@given(low=st.integers(-(2**20), 0), high=st.integers(0, 2**20), frac=st.integers(-3, 12))
def test_spanning_is_the_narrowest_format(low, high, frac):
    spec = FixedSpec.spanning(low, high, frac)
    assert spec.low <= low and high <= spec.high and spec.frac == frac
    if spec.width > 1:
        tighter = FixedSpec(spec.width - 1, spec.integer - 1, spec.signed)
        assert low < tighter.low or tighter.high < high


def test_names_count_the_sign_as_ap_fixed_does():
    assert str(FixedSpec(8, 3)) == "fixed<8,3>"
    assert str(FixedSpec(5, 1, signed=False)) == "ufixed<5,1>"
    assert (FixedSpec(4, 1).low, FixedSpec(4, 1).high, FixedSpec(4, 1).step) == (-8, 7, 0.125)
    assert FixedSpec(4, 1, narrow=True).low == -7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_has_no_code(value):
    with pytest.raises(BadRequest, match="1 values are NaN or infinite"):
        FixedSpec(8, 4).to_codes([0.5, value])


def test_huge_values_saturate_to_the_side_they_are_on():
    assert FixedSpec(4, 1).to_codes([1e30, 3e18, -1e30]).tolist() == [7, 7, -8]
    assert FixedSpec(62, 62).to_codes([1e30])[0] == 2**61 - 1
    with pytest.raises(BadRequest, match="leave 64-bit integers before they wrap"):
        FixedSpec(4, 1).to_codes([1e30], overflow="WRAP")


def test_just_below_a_tie_is_no_tie():
    below = np.nextafter(0.5, 0)
    assert FixedSpec(4, 4).to_codes([below, 0.5], "HALF_CEIL").tolist() == [0, 1]
    assert FixedSpec(4, 4).to_codes([-below, -0.5, 0.5], "HALF_UP").tolist() == [0, -1, 1]


def test_shifts_never_wrap_in_silence():
    with pytest.raises(BadRequest, match="shifted by 40 bits leave 64-bit integers"):
        shift(np.array([2**30]), -40)
    assert shift(np.array([5, -5]), 70).tolist() == [0, 0]
    assert shift(np.array([5, -5]), 70, "FLOOR").tolist() == [0, -1]
    assert FixedSpec(48, 8).requantize([2**40], frac=24)[0] == FixedSpec(48, 8).high


def test_impossible_widths_are_refused():
    with pytest.raises(BadRequest, match="width=0"):
        FixedSpec(0, 0)
