"""Fixed-point codes against exact rational arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec, shift

specs = st.builds(
    FixedSpec,
    width=st.integers(2, 16),
    integer=st.integers(-4, 20),
    signed=st.booleans(),
    narrow=st.booleans(),
)


def rounded(value: Fraction, rounding: str) -> int:
    """Round a rational number by its definition."""
    below = floor(value)
    rest = value - below
    up = {
        "FLOOR": False,
        "HALF_UP": rest >= Fraction(1, 2),
        "ROUND": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1),
    }
    return below + up[rounding]


@pytest.mark.parametrize("rounding", ["ROUND", "HALF_UP", "FLOOR"])
@given(code=st.integers(-(2**40), 2**40), bits=st.integers(-8, 20))
def test_shift_rounds_as_defined(rounding, code, bits):
    want = rounded(Fraction(code) / Fraction(2) ** bits, rounding)
    assert shift(np.array([code]), bits, rounding)[0] == want


@pytest.mark.parametrize("rounding", ["ROUND", "HALF_UP", "FLOOR"])
@given(spec=specs, code=st.integers(-(2**30), 2**30), frac=st.integers(-4, 24))
def test_requantize_equals_quantizing_the_value(rounding, spec, code, frac):
    value = np.array([code * 2.0**-frac])
    assert spec.requantize([code], frac, rounding)[0] == spec.to_codes(value, rounding)[0]


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


def test_impossible_widths_are_refused():
    with pytest.raises(BadRequest, match="width=0"):
        FixedSpec(0, 0)
