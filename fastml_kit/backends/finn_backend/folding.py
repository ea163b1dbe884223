"""Choose the folding of a FINN dataflow network: a search that proves its answer the best.

A dataflow network takes a new frame every `interval` cycles: those of its slowest layer. Each
layer, for itself, has some hundred ways to be folded; together they share one device. `solve` puts
that as an integer program (SciPy's HiGHS): one choice a layer, a width converter on every edge
whose two sides differ, sums within the budget. FINN's own `SetFolding` goes layer by layer and
knows no budget.

Cycles are FINN's own; resources are estimates (see `folding_costs`), so a plan that "fits" is to
be synthesized before anyone believes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from fastml_kit.backends.finn_backend.folding_costs import (
    RESOURCES,
    Resources,
    converter,
    resources,
)
from fastml_kit.backends.finn_backend.folding_models import Fold, Layer, Mvau, streams
from fastml_kit.backends.finn_backend.folding_program import Goal, Network
from fastml_kit.backends.finn_backend.folding_timing import Edge, cycles, latency_of
from fastml_kit.devices import Device
from fastml_kit.errors import BadRequest


class DoesNotFit(BadRequest):
    """No folding meets what was asked for; the fields say what stands in the way."""

    def __init__(
        self, message: str, *, resource: str | None, layer: str, best_interval: int | None
    ) -> None:
        super().__init__(message)
        self.resource = resource  # None: the layer is too slow even where all is parallel
        self.layer = layer
        self.best_interval = best_interval  # None: nothing fits at all


@dataclass(frozen=True)
class Plan:
    """A folding for each layer, and what it comes to. Everything but cycles is an estimate."""

    layers: tuple[Layer, ...]
    folds: tuple[Fold, ...]
    edges: tuple[Edge, ...]
    budget: Resources

    @property
    def cycles(self) -> tuple[int, ...]:
        """Cycles a frame of each layer."""
        return tuple(map(cycles, self.layers, self.folds))

    @property
    def interval(self) -> int:
        """Cycles from one frame to the next."""
        return max(self.cycles)

    @property
    def used(self) -> tuple[Resources, ...]:
        """What each layer takes, with the converters before it."""
        found = [resources(*pair) for pair in zip(self.layers, self.folds, strict=True)]
        for source, target in self.edges:
            given = streams(self.layers[source], self.folds[source])[1]
            found[target] += converter(given, streams(self.layers[target], self.folds[target])[0])
        return tuple(found)

    @property
    def total(self) -> Resources:
        """What all layers take."""
        return sum(self.used, Resources())

    @property
    def latency(self) -> int:
        """Cycles from the first word of a lone frame to the last word of its result."""
        return latency_of(self.layers, self.folds, self.edges)


def solve(
    layers: Sequence[Layer],
    *,
    budget: Resources | Device,
    interval: int | None = None,
    latency: bool = False,
    edges: Sequence[Edge] | None = None,
) -> Plan:
    """Fold `layers` so that the network takes a frame every `interval` cycles, or sooner.

    With no `interval`, the smallest that fits. Among all that meet it: the least cost (the sum of
    the shares that it takes of each resource of the budget) or, with `latency`, the least latency,
    then the least cost. Every answer is a proved optimum under the estimates. `edges` (pairs of
    positions in `layers`) are needed where the network forks; without them it is a chain.

    Raises:
        DoesNotFit: no folding meets the request; the error names the resource and the layer that
            stand in the way, and the best interval that fits.
        BadRequest: the request makes no sense.
    """
    network = Network(layers, budget, edges)
    goal: Goal = "latency" if latency else "cost"
    if interval is None:
        interval = network.best_interval()
        if interval is None:
            raise _does_not_fit(network, network.slowest)
    elif interval < 1:
        raise BadRequest(f"interval={interval}; cycles from one frame to the next: 1 or more")
    folds = network.choose(interval, goal)
    if folds is None:
        raise _does_not_fit(network, interval)
    return Plan(network.layers, folds, network.edges, network.budget)


def lower_bound(layers: Sequence[Layer], folds: Sequence[Fold]) -> int:
    """Return an interval that no circuit with these folds can beat.

    Every stream passes one word a cycle, and PE x SIMD multipliers make one product each: facts
    of any such circuit, where `Plan.interval` is what FINN says of its own. It is known before
    anything is built; `rtl.fifos.lower_bound` says it of a circuit that FINN has made.
    """
    return max(_work(layer, fold) for layer, fold in zip(layers, folds, strict=True))


def _work(layer: Layer, fold: Fold) -> int:
    """Return the fewest cycles a frame in which any circuit of this fold could do its work.

    One word a cycle passes each stream, and one product a cycle each of PE x SIMD multipliers.
    """
    taken, given = streams(layer, fold)
    macs = layer.vectors * layer.mw * layer.mh if isinstance(layer, Mvau) else 0
    return max(taken.words, given.words, ceil(macs / (fold.pe * fold.simd)))


def table(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each layer: its fold, cycles, estimated cells, and largest budget share."""
    rows = []
    for layer, fold, busy, used in zip(
        plan.layers, plan.folds, plan.cycles, plan.used, strict=True
    ):
        shares = used.shares(plan.budget)
        most = max(RESOURCES, key=shares.__getitem__)
        given = fold.attributes(layer)
        rows.append(
            {
                "layer": layer.name,
                "kind": layer.kind,
                "PE": given.get("PE"),
                "SIMD": given.get("SIMD"),
                "compute": fold.compute,
                "cycles": busy,
                **{name: getattr(used, name) for name in RESOURCES},
                "share_pct": 100 * shares[most],
                "share_of": most,
            }
        )
    return rows


def _does_not_fit(network: Network, interval: int) -> DoesNotFit:
    """Find out what stands in the way: a layer that is never so fast, or a resource."""
    best = network.best_interval()
    instead = f"the smallest interval that fits is {best}" if best else "no folding of it fits"
    floors = network.fastest
    slow = max(range(len(floors)), key=floors.__getitem__)
    if floors[slow] > interval:
        name = network.layers[slow].name
        return DoesNotFit(
            f"interval={interval}: layer {name!r} takes at least {floors[slow]} cycles a frame, "
            f"by FINN's cycle model, however it is folded; {instead}",
            resource=None,
            layer=name,
            best_interval=best,
        )
    folds = network.choose(interval, "overload")
    if folds is None:
        raise BadRequest(
            "no two folds of neighbouring layers go together: a pool needs the channels of the "
            "depthwise window before it"
        )
    plan = Plan(network.layers, folds, network.edges, network.budget)
    over = {
        name: getattr(plan.total, name) / (getattr(network.budget, name) or 1) for name in RESOURCES
    }
    resource = max(RESOURCES, key=over.__getitem__)
    used = [getattr(cells, resource) for cells in plan.used]
    most = max(range(len(used)), key=used.__getitem__)
    name = network.layers[most].name
    needed, there = getattr(plan.total, resource), getattr(network.budget, resource)
    return DoesNotFit(
        f"interval={interval} does not fit: even the folding that spreads the load best needs "
        f"{needed:g} {resource} where the budget has {there:g}, {used[most]:g} of them in layer "
        f"{name!r}; {instead}",
        resource=resource,
        layer=name,
        best_interval=best,
    )
