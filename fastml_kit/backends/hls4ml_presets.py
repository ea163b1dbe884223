"""The hls4ml settings of two published MLPerf Tiny submissions, for graphs of the same shape.

Source: the configurations of `mlcommons/tiny_results_v0.7`, `open/hls4ml-finn/code`
(`ad/AD08/inference/hls4ml_config.yml`, `ad08_pynq.yml`, `ic/RN07/inference/pynq-z2/
accuracy_power.yml`, `max_depth_rf16384.json`; Apache-2.0), described in Borras et al.,
arXiv:2206.11791. hls4ml has changed since; where it has no such setting any more:

- A reuse factor that does not share a layer evenly is brought to the nearest, as it was then.
- RN07's merged ReLUs give `ufixed<8,2,RND,SAT>`: the codes of its `fixed<9,3,RND,SAT>` from 0 on.
- AD08's activations round and saturate, which its conversion script sets beside the configuration.
- AD08's results have the type of the sums: the default that its configuration gives the model.

The types are narrower than the sums need. They were chosen for trained weights, and are not exact
for others: hold what they give against the reference engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastml_kit.backends.base import BuildRequest
from fastml_kit.backends.hls4ml_design import Design
from fastml_kit.backends.hls4ml_layers import design_of
from fastml_kit.backends.hls4ml_sharing import legal_reuse, matrix, nearest_reuse
from fastml_kit.errors import BadRequest, unknown_name
from fastml_kit.graph import program


@dataclass(frozen=True)
class Preset:
    """Settings by layer of weights, in their order; types as hls4ml writes them, without `ap_`."""

    clock_ns: float
    merge: bool
    reuse: tuple[int, ...]
    weights: tuple[str, ...]  # of kernels and biases
    source: str  # the input's type
    sums: str
    result: str
    activation: str
    queues: Mapping[str, int]  # by hls4ml's kind of layer and its turn among those, where given


PRESETS = {
    "ad08": Preset(
        clock_ns=10.0,
        merge=False,
        reuse=(144, 144, 8, 144, 144, 144),
        weights=("fixed<13,7>",) * 5 + ("fixed<13,1>",),
        source="fixed<8,8>",
        sums="fixed<16,8>",
        result="fixed<16,8>",
        activation="ufixed<7,6,RND,SAT>",
        queues={},
    ),
    "rn07": Preset(
        clock_ns=6.67,
        merge=True,
        reuse=(16384,) * 6,
        weights=("fixed<8,3>",) * 6,
        source="ufixed<8,0>",
        sums="fixed<17,7>",
        result="fixed<12,7>",
        activation="ufixed<8,2,RND,SAT>",
        # One more than the most that co-simulation found in each.
        queues={
            "ZeroPadding2D 1": 1067, "ZeroPadding2D 2": 72, "ZeroPadding2D 3": 24,
            "Conv2D 1": 2, "Conv2D 2": 2, "Conv2D 3": 35, "Conv2D 4": 2, "Conv2D 5": 2,
        },
    ),
}  # fmt: skip


def preset(name: str, graph: Path, *, types: bool = True) -> BuildRequest:
    """Return the request of the preset `name` for `graph`, on Pynq-Z2's part.

    Without `types` the multipliers are shared and the queues are as published, and every type stays
    the one that loses nothing.

    Raises:
        BadRequest: there is no such preset, or the graph has another number of layers of weights.
    """
    if name not in PRESETS:
        raise unknown_name("hls4ml preset", name, PRESETS)
    given = PRESETS[name]
    design = design_of(program.read(graph), stream=True, merge=given.merge)
    count = sum(matrix(layer) is not None for layer in design.layers)
    if count != len(given.reuse):
        raise BadRequest(
            f"preset {name!r} is for {len(given.reuse)} layers of weights; {graph.name} has {count}"
        )
    return BuildRequest(
        name=name,
        clock_ns=given.clock_ns,
        io_type="io_stream",
        merge_activations=given.merge,
        layers=_layers(given, design, types=types),
    )


def _layers(given: Preset, design: Design, *, types: bool) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    number, last = 0, len(given.reuse) - 1
    for layer in design.layers:
        name, kind, own = layer["name"], layer["class_name"], design.types[layer["name"]]
        seen[kind] = seen.get(kind, 0) + 1
        knobs: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        if kind == "InputLayer":
            chosen = {"result": given.source}
        elif kind == "Activation":
            chosen = {"result": given.activation}
        elif matrix(layer) is not None:
            legal = legal_reuse(layer, stream=True)
            knobs |= {"reuse": nearest_reuse(legal, given.reuse[number]), "strategy": "resource"}
            kernel, ends = given.weights[number], number == last
            chosen = {"weight": kernel, "bias": kernel, "accum": given.sums}
            chosen["result"] = given.activation if given.merge and not ends else given.result
            number += 1
        place = f"{kind} {seen[kind]}"
        if place in given.queues:
            knobs["fifo"] = given.queues[place]
        if types and chosen:
            knobs["types"] = {kind: written for kind, written in chosen.items() if kind in own}
        if knobs:
            found[name] = knobs
    return found
