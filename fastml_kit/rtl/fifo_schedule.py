"""Schedules of units joined by FIFOs without bounds: the earliest times, and the latest.

See `rtl.fifos` for what they are for.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product

from fastml_kit.rtl import stitch
from fastml_kit.rtl.fifo_units import Unit

FAR = 10**12  # cycles: never


@dataclass(frozen=True)
class Times:
    """When a unit takes its words and makes its steps, in cycles, for all frames."""

    takes: list[int]
    steps: list[int]

    def gives(self, unit: Unit) -> list[int]:
        """Return when the unit's words come out."""
        starts = range(0, len(self.steps), len(unit.need))
        return [self.steps[start + step] + unit.delay for start in starts for step in unit.emits]


class Design:
    """Units joined by FIFOs without bounds, and their schedules."""

    def __init__(
        self,
        parts: Sequence[Unit],
        source: str,
        sink: str,
        hops: Mapping[str, int],
        bits: Mapping[str, int],
    ) -> None:
        self.parts, self.source, self.sink, self.bits = parts, source, sink, bits
        nodes = [{"name": unit.name, "inputs": unit.inputs} for unit in parts]
        queues = stitch.fifos({"nodes": nodes})
        self.names = {queue.stream: queue.name for queue in queues}
        self.waits = {queue.stream: hops.get(queue.name, 1) for queue in queues}
        self.takers = {stream: unit for unit in parts for stream in unit.inputs}
        self.last = next(unit for unit in parts if sink in unit.outputs)
        self.length = self.takers[source].words

    def forward(self, offers: list[int], frames: int) -> dict[str, Times]:
        """Return the earliest times of all units, for words offered at these times."""
        gives, made = {self.source: offers}, {}
        for unit in self.parts:
            arrive = self.arrive(unit, gives)
            made[unit.name] = run(unit, arrive, frames)
            gives |= dict.fromkeys(unit.outputs, made[unit.name].gives(unit))
        return made

    def arrive(self, unit: Unit, gives: Mapping[str, list[int]]) -> list[int]:
        """Return when the words of all of a unit's inputs may be taken."""
        sides = ([time + self.waits[name] for time in gives[name]] for name in unit.inputs)
        return list(map(max, zip(*sides, strict=True))) if len(unit.inputs) > 1 else next(sides)

    def backward(self, answers: list[int], frames: int) -> list[int]:
        """Return the latest times for the source's words that keep the answers' times."""
        due = {self.sink: answers}
        for unit in reversed(self.parts):
            wanted = list(map(min, zip(*(due[name] for name in unit.outputs), strict=True)))
            takes = delay(unit, wanted, frames).takes
            due |= {name: [time - self.waits[name] for time in takes] for name in unit.inputs}
        return due[self.source]

    def settled(self, made: Mapping[str, Times], frame: int, period: int) -> bool:
        """Tell whether a frame repeats the one before it in all units."""
        for unit in self.parts:
            steps, count = made[unit.name].steps, len(unit.need)
            now = steps[frame * count : (frame + 1) * count]
            before = steps[(frame - 1) * count : frame * count]
            if any(late - early != period for late, early in zip(now, before, strict=True)):
                return False
        return True

    def held(self, made: dict[str, Times], frames: int) -> dict[str, int]:
        """Return what each FIFO holds in the middle frame.

        A unit whose receivers can wait for its words gives them later where that saves memory.
        """
        for unit in reversed(self.parts):
            if self.sink in unit.outputs:
                continue
            wanted = [
                [time - self.waits[name] for time in made[self.takers[name].name].takes]
                for name in unit.outputs
            ]
            later = delay(unit, list(map(min, zip(*wanted, strict=True))), frames)
            changed = made | {unit.name: self._early(unit, made, later, frames)}
            streams = (*unit.inputs, *unit.outputs)
            before, after = (self._memory(way, streams, frames) for way in (made, changed))
            if after < before:
                made = changed
        return {name: self._fill(made, stream, frames) for stream, name in self.names.items()}

    def _early(self, unit: Unit, made: Mapping[str, Times], later: Times, frames: int) -> Times:
        """Return a unit's steps as they are in `later`, its words taken as early as they come."""
        gives = {name: self._gives(made, name) for name in unit.inputs}
        return Times(takes_of(unit, self.arrive(unit, gives), later.steps, frames), later.steps)

    def _memory(self, made: Mapping[str, Times], streams: Sequence[str], frames: int) -> int:
        return sum(self._fill(made, name, frames) * self.bits.get(name, 1) for name in streams)

    def _gives(self, made: Mapping[str, Times], stream: str) -> list[int]:
        if stream == self.source:  # each word comes at the last moment
            return [time - self.waits[stream] for time in made[self.takers[stream].name].takes]
        giver = next(unit for unit in self.parts if stream in unit.outputs)
        return made[giver.name].gives(giver)

    def _fill(self, made: Mapping[str, Times], stream: str, frames: int) -> int:
        given, taken = self._gives(made, stream), made[self.takers[stream].name].takes
        length, middle = len(given) // frames, frames // 2
        # A word comes in only if there is room before the cycle's own word has left.
        return max(
            word + 1 - bisect_left(taken, given[word])
            for word in range(middle * length, (middle + 1) * length)
        )


def run(unit: Unit, arrive: list[int], frames: int) -> Times:
    """Return a unit's earliest times, for words that may be taken from `arrive` on."""
    need, room, length = unit.need, unit.room, unit.words
    if room is None:
        slack = accumulate((time - at for at, time in enumerate(arrive)), max)
        steps = [time + at for at, time in enumerate(slack)]
        return Times(steps, steps)
    steps, takes = list[int](), list[int]()
    step = take = -FAR
    taken = 0
    for frame in range(frames):
        start, base = frame * len(need), frame * length
        for target in need:
            while taken < base + target:
                take = max(arrive[taken], take + 1)
                before = start + room[taken - base]
                if before > 0:
                    take = max(take, steps[before - 1] + unit.free)
                takes.append(take)
                taken += 1
            step += 1
            if target:
                step = max(step, takes[base + target - 1] + unit.enter)
            steps.append(step)
        while taken < base + length:  # what no step needs, as beside the last windows
            take = max(arrive[taken], take + 1)
            before = start + room[taken - base]
            if before > 0:
                take = max(take, steps[before - 1] + unit.free)
            takes.append(take)
            taken += 1
    return Times(takes, steps)


def delay(unit: Unit, wanted: list[int], frames: int) -> Times:
    """Return a unit's latest times, before those at which its words are wanted."""
    need, room, length, count = unit.need, unit.room, unit.words, len(unit.need)
    takes, steps = [0] * (length * frames), [0] * (count * frames)
    given = dict(zip(unit.emits, range(len(unit.emits)), strict=True))
    step = take = FAR
    word = freed = len(takes)

    def makes_room() -> int:
        """Return how many steps there must be before the word at `freed - 1` is taken."""
        if room is None or not freed:
            return 0
        behind, inside = divmod(freed - 1, length)
        return behind * count + room[inside]

    before = makes_room()
    for frame in reversed(range(frames)):
        start, base, first = frame * count, frame * length, frame * len(given)
        for place in reversed(range(count)):
            while room is not None and word > base + need[place]:
                word -= 1
                take = takes[word] = min(take - 1, step - unit.enter)
            step -= 1
            if place in given:
                step = min(step, wanted[first + given[place]] - unit.delay)
            while before > start + place:
                freed -= 1
                step = min(step, takes[freed] - unit.free)
                before = makes_room()
            steps[start + place] = step
    while room is not None and word:
        word -= 1
        take = takes[word] = min(take - 1, step - unit.enter)
    return Times(takes if room is not None else steps, steps)


def takes_of(unit: Unit, arrive: list[int], steps: list[int], frames: int) -> list[int]:
    """Return the earliest times at which a unit takes words, its steps being fixed."""
    if unit.room is None:
        return steps
    takes, take = [], -FAR
    for at, (word, time) in enumerate(product(range(frames), unit.room)):
        before = word * len(unit.need) + time
        take = max(arrive[at], take + 1)
        if before > 0:
            take = max(take, steps[before - 1] + unit.free)
        takes.append(take)
    return takes
