"""The comparison that every claim of equality rests on: it must see whatever differs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit import verify
from fastml_kit.errors import BadRequest, MismatchError
from fastml_kit.fixedpoint import FixedSpec

SPEC = FixedSpec(8, 4)
WANT = SPEC.to_values(np.arange(-30, 30).reshape(12, 5))
LABELS = ("circuit", "network")


def compare(got, **options):
    return verify.compare(got, WANT, spec=SPEC, labels=LABELS, **options)


def test_equal_is_exact():
    result = verify.assert_bit_exact(WANT, WANT, spec=SPEC, labels=LABELS)
    assert (result.verdict, result.samples, result.codes, result.mismatches) == ("exact", 12, 60, 0)
    assert str(result) == "circuit = network: 0/60 codes differ on 12 samples"


@given(
    where=st.lists(st.integers(0, 59), min_size=1, max_size=8, unique=True),
    by=st.integers(1, 5),
)
def test_every_changed_code_is_counted(where, by):
    got = WANT.copy()
    got.ravel()[where] += by * SPEC.step
    result = compare(got)
    assert result.mismatches == len(where)
    assert result.mismatched_samples == len({i // 5 for i in where})
    assert result.worst_lsb == by
    assert result.first == tuple(np.unravel_index(min(where), WANT.shape))
    assert result.off_grid == 0


def test_a_value_beside_the_grid_is_a_mismatch_however_near():
    got = WANT.copy()
    got[3, 1] = np.nextafter(got[3, 1], 1)
    result = compare(got)
    assert (result.mismatches, result.off_grid, result.verdict) == (1, 1, "different")
    assert "not on the output's grid" in str(result)


def test_nan_never_passes():
    assert compare(np.full_like(WANT, np.nan)).mismatches == WANT.size


def test_nan_has_no_distance():
    got = WANT.copy()
    got[0, 0] = np.nan
    assert np.isnan(compare(got).worst_lsb)


def test_codes_that_float64_cannot_tell_apart_are_not_compared():
    wide = FixedSpec(60, 60)
    with pytest.raises(BadRequest, match="over 53 bits"):
        verify.compare([[2.0**54]], [[2.0**54]], spec=wide, labels=LABELS)


def test_a_record_of_a_part_says_of_how_many():
    result = verify.compare(WANT[:3], WANT[:3], spec=SPEC, labels=LABELS, total_samples=12)
    assert result.told() == {
        "samples": (3, "samples"),
        "total_samples": (12, "samples"),
        "mismatches": (0, "codes"),
    }


def test_a_part_is_never_called_exact():
    result = verify.compare(WANT[:3], WANT[:3], spec=SPEC, labels=LABELS, total_samples=12)
    assert result.verdict == "partial"
    assert "3 of 12 samples (partial)" in str(result)


def test_the_error_says_how_many_how_far_and_where():
    got = WANT.copy()
    got[2, 4] += 3 * SPEC.step
    message = r"circuit != network: 1/60 codes differ .* worst 3 LSB; first at index \(2, 4\)"
    with pytest.raises(MismatchError, match=message):
        verify.assert_bit_exact(got, WANT, spec=SPEC, labels=LABELS)


@pytest.mark.parametrize("got", [WANT[:5], WANT.ravel(), WANT[:0]])
def test_unequal_shapes_are_refused(got):
    with pytest.raises(BadRequest, match="nothing to compare"):
        compare(got)


def test_a_yardstick_off_the_grid_is_refused():
    with pytest.raises(BadRequest, match="is the yardstick"):
        verify.compare(WANT, WANT + SPEC.step / 2, spec=SPEC, labels=LABELS)


@given(total=st.integers(1, 400), at_most=st.integers(0, 500), seed=st.integers(0, 9))
def test_a_part_of_the_samples_is_drawn_with_a_seed_and_never_too_small(total, at_most, seed):
    chosen = verify.choose(total, at_most, seed=seed)
    assert len(chosen) == min(total, max(at_most, verify.LEAST))
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0 and chosen[-1] < total
    assert np.array_equal(chosen, verify.choose(total, at_most, seed=seed))


def test_another_seed_draws_other_samples():
    assert not np.array_equal(verify.choose(400, 40), verify.choose(400, 40, seed=1))
    assert np.array_equal(verify.choose(5, 40), np.arange(5))
