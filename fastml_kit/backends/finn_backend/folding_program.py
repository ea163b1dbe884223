"""The integer program behind `folding.solve`: which fold for each layer of a network.

A column for each fold of each layer (one of them is 1) and, on each edge, one for each pair of
word widths (a flow from the source's choice to the target's: whole as soon as those are). Rows say
that each layer has one fold, that edges agree with both sides, and that sums stay within budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cached_property
from typing import Literal

import numpy as np

from fastml_kit.backends.finn_backend.folding_costs import (
    RESOURCES,
    Resources,
    converter,
    resources,
)
from fastml_kit.backends.finn_backend.folding_models import (
    Fold,
    Layer,
    Stream,
    joins,
    legal,
    streams,
)
from fastml_kit.backends.finn_backend.folding_timing import (
    FIFO,
    Delays,
    Edge,
    across,
    cycles,
    delays,
    hop,
    splitting,
)
from fastml_kit.devices import Device
from fastml_kit.errors import BadRequest, BuildFailed

Goal = Literal["any", "cost", "latency", "overload"]
Row = Mapping[int, float]


class Option:
    """One fold of one layer, with all that the program needs to know of it."""

    def __init__(self, layer: Layer, fold: Fold) -> None:
        self.fold = fold
        self.cycles: int = cycles(layer, fold)
        self.cost: Resources = resources(layer, fold)
        self.delays: Delays = delays(layer, fold)
        self.taken: Stream
        self.given: Stream
        self.taken, self.given = streams(layer, fold)


class Network:
    """Layers, the edges between them, their folds, and a budget."""

    def __init__(
        self, layers: Sequence[Layer], budget: Resources | Device, edges: Sequence[Edge] | None
    ) -> None:
        self.layers = tuple(layers)
        if not self.layers:
            raise BadRequest("a network to fold has no layers; give at least one")
        chain = [(place, place + 1) for place in range(len(self.layers) - 1)]
        self.edges = tuple(chain if edges is None else edges)
        if bad := [e for e in self.edges if not 0 <= e[0] < e[1] < len(self.layers)]:
            raise BadRequest(
                f"edges {bad} do not lead from one of the {len(self.layers)} layers to a later one"
            )
        self.budget = Resources.of(budget) if isinstance(budget, Device) else budget
        self.options = [[Option(layer, fold) for fold in legal(layer)] for layer in self.layers]

    @property
    def fastest(self) -> list[int]:
        """The fewest cycles that each layer can take."""
        return [min(option.cycles for option in options) for options in self.options]

    @property
    def slowest(self) -> int:
        """The most cycles that any fold of any layer takes."""
        return max(option.cycles for options in self.options for option in options)

    def best_interval(self) -> int | None:
        """Return the smallest interval that fits, or None where nothing does.

        More cycles never leave fewer choices, so halving the candidates finds it.
        """
        floor = max(self.fastest)
        found = {option.cycles for options in self.options for option in options}
        candidates = sorted(busy for busy in found if busy >= floor)
        low, high = 0, len(candidates)  # the answer's place; the end stands for none
        while low < high:
            middle = (low + high) // 2
            if self.choose(candidates[middle], "any") is not None:
                high = middle
            else:
                low = middle + 1
        return candidates[low] if low < len(candidates) else None

    def choose(self, interval: int, goal: Goal) -> tuple[Fold, ...] | None:
        """Return the best folds with no layer slower than `interval`, or None if there are none.

        "overload" breaks the budget as little as it can: it minimizes the largest share. "any"
        only finds out whether there are folds within budget.
        """
        if max(self.fastest) > interval:
            return None
        program = _Program(self, interval)
        if goal == "overload":
            return program.least(program.add_overload())
        program.add_budget()
        if goal == "latency":
            whole = program.add_latency()
            if (found := program.solve(whole)) is None:
                return None
            (column,) = whole
            program.row({column: 1}, high=round(found[column]) + 0.25)
        return program.least({} if goal == "any" else program.cost)


class _Program:
    """Columns and rows, as they grow."""

    def __init__(self, network: Network, interval: int) -> None:
        self.network = network
        self.low: list[float] = []
        self.high: list[float] = []
        self.whole: list[int] = []
        self.rows: list[tuple[Row, float, float]] = []
        self.uses: list[dict[int, float]] = [{} for _ in RESOURCES]
        self.picks: list[dict[int, Option]] = []
        self.pairs: list[dict[int, tuple[int, int]]] = []  # per edge: column -> cycles of a hop,
        # and of splitting words
        for options in network.options:
            fast = [option for option in options if option.cycles <= interval]
            picks = {self.column(1, whole=True): option for option in fast}
            self.row(dict.fromkeys(picks, 1), 1, 1)
            for column, option in picks.items():
                self.charge(column, option.cost)
            self.picks.append(picks)
        for edge in network.edges:
            self.pairs.append(self.add_edge(*edge))

    def column(self, high: float = np.inf, *, whole: bool = False) -> int:
        self.low.append(0)
        self.high.append(high)
        self.whole.append(int(whole))
        return len(self.low) - 1

    def row(self, terms: Row, low: float = -np.inf, high: float = np.inf) -> None:
        self.rows.append((terms, low, high))

    def charge(self, column: int, cost: Resources) -> None:
        for uses, amount in zip(self.uses, astuple(cost), strict=True):
            if amount:
                uses[column] = amount

    def add_edge(self, source: int, target: int) -> dict[int, tuple[int, int]]:
        ways = self.flow(source, target)
        for pair, column in ways.items():
            self.charge(column, converter(*pair))
        layer = self.network.layers[target]
        return {column: (hop(layer, *pair), splitting(*pair)) for pair, column in ways.items()}

    def flow(self, source: int, target: int) -> dict[tuple[Stream, Stream], int]:
        """Add a column for each pair of the words given and taken: 1 where both are chosen."""
        givers: dict[Stream, list[int]] = {}
        for column, option in self.picks[source].items():
            givers.setdefault(option.given._replace(words=0), []).append(column)
        takers: dict[Stream, list[int]] = {}
        for column, option in self.picks[target].items():
            takers.setdefault(option.taken._replace(words=0), []).append(column)
        ways = {
            (a, b): self.column(1)
            for a in givers
            for b in takers
            if joins(self.network.layers[source], a, self.network.layers[target], b)
        }
        for sides, at in ((givers, 0), (takers, 1)):
            for side, columns in sides.items():
                flow = {column: 1.0 for pair, column in ways.items() if pair[at] == side}
                self.row({**flow, **dict.fromkeys(columns, -1.0)}, 0, 0)
        return ways

    def add_budget(self) -> None:
        for uses, amount in zip(self.uses, astuple(self.network.budget), strict=True):
            self.row(uses, high=amount)

    def add_overload(self) -> Row:
        share = self.column()
        for uses, amount in zip(self.uses, astuple(self.network.budget), strict=True):
            self.row({**uses, share: -(amount or 1)}, high=0)
        return {share: 1}

    @cached_property
    def cost(self) -> Row:
        """The sum of the shares of each resource of the budget."""
        terms: dict[int, float] = {}
        for uses, amount in zip(self.uses, astuple(self.network.budget), strict=True):
            for column, used in uses.items():
                terms[column] = terms.get(column, 0) + used / (amount or 1)
        return terms

    def add_latency(self) -> Row:
        """Follow a frame's first and last word, as `folding_timing.latency_of` does."""
        start = [self.column() for _ in self.picks]
        arrive = [self.column() for _ in self.picks]
        end = [self.column() for _ in self.picks]
        last = self.column()
        for place, picks in enumerate(self.picks):
            taken = {c: 1.0 - option.taken.words for c, option in picks.items()}
            whole = {c: -float(option.delays.whole) for c, option in picks.items()}
            after = {c: -float(option.delays.last) for c, option in picks.items()}
            self.row({arrive[place]: 1, start[place]: -1, **taken}, 0)
            self.row({end[place]: 1, start[place]: -1, **whole}, 0)
            self.row({end[place]: 1, arrive[place]: -1, **after}, 0)
            self.row({last: 1, end[place]: -1}, 0)
        for (source, target), pairs in zip(self.network.edges, self.pairs, strict=True):
            first = {c: -float(option.delays.first) for c, option in self.picks[source].items()}
            hops = {c: -float(wait) for c, (wait, _) in pairs.items()}
            all_of_it = {c: -float(sum(waits)) for c, waits in pairs.items()}
            self.row({start[target]: 1, start[source]: -1, **first, **hops}, 0)
            self.row({arrive[target]: 1, end[source]: -1, **all_of_it}, 0)
        for source, between, target in across(self.network.layers, self.network.edges):
            split = {
                column: -float(splitting(*pair))
                for pair, column in self.flow(source, target).items()
            }
            passing = {c: -float(option.delays.last) for c, option in self.picks[between].items()}
            self.row({arrive[target]: 1, end[source]: -1, **split, **passing}, FIFO)
        return {last: 1}

    def least(self, goal: Row) -> tuple[Fold, ...] | None:
        found = self.solve(goal)
        if found is None:
            return None
        return tuple(picks[max(picks, key=found.__getitem__)].fold for picks in self.picks)

    def solve(self, goal: Row) -> np.ndarray | None:
        """Return the values of all columns, or None where the rows contradict each other."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import coo_array

        places, columns, values = [], [], []
        for place, (terms, _, _) in enumerate(self.rows):
            places += [place] * len(terms)
            columns += list(terms)
            values += list(terms.values())
        shape = (len(self.rows), len(self.low))
        matrix = coo_array((values, (places, columns)), shape=shape).tocsc()
        objective = np.zeros(len(self.low))
        objective[list(goal)] = list(goal.values())
        found = milp(
            objective,
            integrality=np.array(self.whole),
            bounds=Bounds(np.array(self.low), np.array(self.high)),
            constraints=LinearConstraint(
                matrix, [low for _, low, _ in self.rows], [high for _, _, high in self.rows]
            ),
            options={"mip_rel_gap": 0},
        )
        if found.status == 2:
            return None
        if found.x is None or found.status != 0:
            raise BuildFailed(f"SciPy's integer program stopped: {found.message}")
        return np.asarray(found.x)
