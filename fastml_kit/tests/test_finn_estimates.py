"""Estimates beside what was found: the sums, the ratios, and one network all the way."""

from pathlib import Path

import numpy as np
import pytest

from fastml_kit import plots
from fastml_kit.backends.base import BuildRequest, Cost
from fastml_kit.errors import BadRequest
from fastml_kit.graph import program
from fastml_kit.parameters import EstimatesParameters
from fastml_kit.schema import check
from fastml_kit.studies import finn_estimates, finn_networks
from fastml_kit.studies.finn_estimates import Row
from fastml_kit.tests import networks


@pytest.mark.parametrize(
    ("estimate", "found", "wanted"),
    [(50, 100, 0.5), (300, 100, 3.0), (0, 100, 0.0), (None, 100, None), (4, 0, None), (0, 0, None)],
)
def test_a_ratio_is_the_estimate_over_what_was_found(
    estimate: float | None, found: float, wanted: float | None
) -> None:
    assert finn_estimates.ratio(estimate, found) == wanted
    row = Row("lut", "lut", estimate, 100.0, found, "yosys")
    assert row.finn_ratio == wanted


def test_what_nobody_told_is_a_dash_and_no_zero() -> None:
    told = Row("ff", "ff", finn=None, plan=1500.0, found=1000.0, source="yosys").told()
    assert told == ["1,000", "-", "-", "1,500", "1.50"]
    [_, line] = finn_estimates.lines([Row("bram36", "bram36", 0.5, None, 0.0, "yosys")])
    assert line.split() == ["bram36", "0", "0.50", "-", "-", "-", "bram36", "(yosys)"]


def test_only_what_was_found_has_a_row() -> None:
    found = Cost("rtlsim", latency_cycles=40, interval_cycles=16)
    rows = finn_estimates.rows(
        Cost("estimate", lut=5, interval_cycles=15), Cost("estimate", latency_cycles=44), found
    )
    assert [(row.name, row.finn, row.plan, row.found) for row in rows] == [
        ("latency_cycles", None, 44, 40),
        ("interval_cycles", 15, None, 16),
    ]
    assert {row.source for row in rows} == {"rtlsim"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> finn_estimates.Measurement:
    folder = tmp_path_factory.mktemp("measured")
    graph = networks.mlp(folder / "net.onnx", sizes=(12, 8, 3))
    rng = np.random.default_rng(0)
    values = networks.INPUT.to_values(rng.integers(0, 17, (60, 12)))
    request = BuildRequest(name="net", interval_cycles=16)
    return finn_estimates.measure(graph, values, request, folder / "built")


def test_a_network_is_measured_and_every_answer_compared(
    measured: finn_estimates.Measurement,
) -> None:
    assert measured.mismatches == 0
    samples = {name: found.samples for name, found in measured.comparisons.items()}
    assert samples == {"steady": 60, "alone": finn_estimates.ALONE, "stalled": 60}
    rows = {row.name: row for row in measured.rows}
    interval, lut = rows["interval_cycles"], rows["lut"]
    assert measured.bound_cycles <= interval.found == interval.plan == interval.finn
    assert interval.found <= 16
    assert interval.source == "rtlsim" and lut.source == "yosys"
    assert rows["latency_cycles"].found == measured.simulated.latency_cycles
    assert measured.counted
    assert lut.found == measured.counted.lut != 0
    assert rows["ff"].finn is None, "FINN says nothing of flip-flops"


def test_layers_add_up_to_the_whole(measured: finn_estimates.Measurement) -> None:
    plan = measured.build.plan.facts["folding"]
    assert [layer.name for layer in measured.layers] == [layer.name for layer in plan.layers]
    kinds = [node["kind"] for node in measured.dataflow["nodes"]]
    assert "width" in kinds, "a network without converters would prove nothing"
    for who, whole in (("found", measured.counted), ("finn", measured.finn)):
        for cell in ("lut", "dsp", "bram36"):
            parts = [getattr(getattr(layer, who), cell) for layer in measured.layers]
            assert sum(parts) == getattr(whole, cell), (who, cell)
    assert [layer.plan.lut for layer in measured.layers] == [round(u.lut) for u in plan.used]
    assert {layer.kind for layer in measured.layers} == {"products", "thresholds"}


def test_one_sample_has_no_interval(tmp_path: Path) -> None:
    graph = networks.mlp(tmp_path / "net.onnx")
    with pytest.raises(BadRequest, match="at least two"):
        finn_estimates.measure(graph, np.zeros((1, 6)), BuildRequest(), tmp_path / "built")
    assert not (tmp_path / "built").exists(), "it is refused before anything is built"


def test_the_residual_network_forks_and_joins(tmp_path: Path) -> None:
    values = finn_networks.residual(tmp_path / "net.onnx")
    read = program.read(tmp_path / "net.onnx")
    assert values.shape == (500, *read.input_shape)
    assert {"Add", "MaxPool", "Conv"} <= {node.op for node in read.nodes}


def test_networks_are_asked_for_by_name() -> None:
    with pytest.raises(BadRequest, match="Did you mean 'residual'"):
        check(EstimatesParameters, {"networks": ["residaul"]})
    with pytest.raises(BadRequest, match="twice"):
        check(EstimatesParameters, {"networks": ["kws", "kws"]})
    with pytest.raises(BadRequest, match="stall=1"):
        check(EstimatesParameters, {"stall": 1.0})


def test_a_figure_of_ratios_tells_nothing_estimated_from_little() -> None:
    points = {
        "FINN": [("products", 0.0, 100.0), ("windows", 200.0, 100.0)],
        "plan": [("products", 90.0, 100.0), ("windows", 30.0, 100.0)],
    }
    axis = plots.estimates(points).axes[0]
    drawn = [np.asarray(scatter.get_offsets())[:, 1].tolist() for scatter in axis.collections]
    nothing = drawn[0].pop(0)
    assert drawn == [[2.0], [0.9, 0.3]]
    assert nothing < 0.3 and axis.get_ylim()[0] < nothing
    assert [label.get_text() for label in axis.get_xticklabels()] == ["products", "windows"]
    assert "0 estimated" in [text.get_text() for text in axis.texts]
