"""Records carry name, unit and source, and survive a round trip."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit import records
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.records import Record, Skip

WORD = st.from_regex(r"[a-z0-9_]{1,6}", fullmatch=True)
VALUE = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
RECORD = st.builds(
    Record,
    name=st.lists(WORD, min_size=2, max_size=3).map(".".join),
    value=VALUE.filter(lambda value: value not in (float("inf"), float("-inf"))),
    unit=st.text(max_size=4),
    source=st.sampled_from(records.SOURCES),
    stage=WORD,
    model=st.none() | WORD,
    flow=st.none() | WORD,
    target=st.none() | WORD,
    remark=st.none() | st.text(min_size=1, max_size=9),
)


@given(st.lists(RECORD, unique_by=lambda record: record.key), st.randoms())
def test_what_is_saved_does_not_depend_on_the_order_of_recording(
    tmp_path_factory: pytest.TempPathFactory, kept: list[Record], random: object
) -> None:
    folder = tmp_path_factory.mktemp("records")
    skips = [Skip("verify.rtl", "hls4ml", "no g++"), Skip("cost.hls", "hls4ml", "no Vitis")]
    records.save(folder / "a", kept, skips)
    random.shuffle(kept)  # type: ignore[attr-defined]
    records.save(folder / "b", kept, reversed(skips))
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    found, found_skips = records.load(folder / "a")
    assert sorted(found, key=repr) == sorted(kept, key=repr)
    assert found_skips == sorted(skips)


@pytest.mark.parametrize(
    ("name", "value", "source", "message"),
    [
        ("accuracy", 1, "keras", "words joined by dots"),
        ("Quality.qat", 1, "keras", "lower-case"),
        ("quality.qat", float("nan"), "keras", "say None"),
        ("quality.qat", float("inf"), "keras", "say None"),
        ("quality.qat", [1], "keras", "is a list"),
        ("quality.qat", 1, "kears", "Did you mean 'keras'"),
    ],
)
def test_a_record_that_says_too_little_is_refused(
    name: str, value: object, source: str, message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        Record(name, value, "", source, "train")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"records": [{"name": "a.b"}], "skipped": []}'])
def test_a_damaged_file_of_records_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "records.json").write_text(text)
    with pytest.raises(RunError, match="holds no records of a stage"):
        records.load(tmp_path / "records.json")


def test_an_estimate_and_a_measurement_of_one_quantity_are_two_records(tmp_path: Path) -> None:
    pair = [
        Record("cost.finn.latency_cycles", value, "cycles", source, "finn", flow="finn")
        for value, source in ((200, "estimate"), (210, "rtlsim"))
    ]
    assert pair[0].key != pair[1].key
    records.save(tmp_path / "records.json", pair[::-1], [])
    assert records.load(tmp_path / "records.json")[0] == pair
