"""A thousand damaged files in CI; ``ci/bench/fuzz.py`` takes ten thousand and more."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from fastml_kit.tests import fuzzing, seedmodels


def seeds(tmp_path: Path) -> dict[str, bytes]:
    found = seedmodels.seeds(tmp_path)
    if data := os.environ.get("FASTML_DATA"):
        found |= seedmodels.oracles(Path(data) / "oracles")
    return found


def test_a_thousand_damaged_files_give_results_or_typed_errors(tmp_path):
    own = seeds(tmp_path)
    outcomes = list(fuzzing.fuzz(own, fuzzing.names(own, 1000, seed=0)))
    assert len(outcomes) == 1000
    offences = [one for one in outcomes if one.is_offence]
    assert not offences, "\n".join(f"{one.file}: {one.kind}: {one.detail}" for one in offences)
    counts = Counter(one.kind for one in outcomes)
    # Damage of all depths: some files are no ONNX, most say something wrong, some still run.
    assert counts["RunError"] > 100 and counts["UnsupportedModel"] > 300, counts
    assert counts["float"] > 20 and counts["exact"] > 10, counts


def test_the_same_number_makes_the_same_file(tmp_path):
    own = seedmodels.seeds(tmp_path)
    for name in list(fuzzing.names(own, 60, seed=3)):
        assert fuzzing.make(own, name) == fuzzing.make(own, name)
    made = {fuzzing.make(own, name) for name in fuzzing.names(own, 200, seed=3)}
    assert len(made) > 190


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("sleep", "hang", "over 1 s"),
        ("die", "crash", f"exit {-signal.SIGSEGV}"),
        ("raise", "exception", "KeyError at test_fuzz.py"),
        ("refuse", "UnsupportedModel", "no"),
        ("pass", "exact", ""),
    ],
)
def test_the_fuzzer_sees_what_goes_wrong_and_goes_on(name, kind, detail, monkeypatch):
    def judge(path):
        match path.read_text():
            case "sleep":
                time.sleep(60)
            case "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raise":
                raise KeyError("x")
            case "refuse":
                return "UnsupportedModel", "no"
        return "exact", ""

    monkeypatch.setattr(fuzzing, "judge", judge)
    monkeypatch.setattr(fuzzing, "make", lambda seeds, file: file.encode())
    outcomes = list(fuzzing.fuzz({}, ["pass", name, "pass"], limit=1.0))
    assert [one.kind for one in outcomes] == ["exact", kind, "exact"]
    assert detail in outcomes[1].detail
    assert outcomes[1].is_offence == (kind in ("hang", "crash", "exception"))
