"""Faults of which rows a slot multiplies: each turns the step's right slots into wrong ones.

A twist gets the slot of every row ([rows], -1 for the base), where each request's rows begin and end, and what it knows
of earlier steps; it gives the slots that are multiplied instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Slots = npt.NDArray[np.int64]
_MID_ANSWER_STEPS = 4


@dataclass
class History:
    """What earlier steps left: the slots of the first one of as many rows, and how often each request has decoded."""

    by_rows: dict[int, Slots] = field(default_factory=dict)
    decoded: Counter[str] = field(default_factory=Counter)
    resumed: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Step:
    """One step's rows: request ``ids[i]`` has rows ``ends[i - 1]`` to ``ends[i]``."""

    slots: Slots
    ids: Sequence[str]
    ends: Sequence[int]
    capacity: int
    history: History

    def rows(self, place: int) -> slice:
        """One request's rows."""
        return slice(self.ends[place - 1] if place else 0, self.ends[place])

    def lengths(self) -> list[int]:
        """How many rows each request has."""
        return [self.rows(place).stop - self.rows(place).start for place in range(len(self.ids))]

    def remember(self) -> None:
        """Keep what later steps ask for."""
        self.history.by_rows.setdefault(len(self.slots), self.slots)
        for request, length in zip(self.ids, self.lengths(), strict=True):
            if length == 1:
                self.history.decoded[request] += 1
            elif self.history.decoded[request]:
                self.history.resumed.add(request)


def off_by_one(step: Step) -> Slots:
    """Every adapter's rows go to the next slot."""
    return np.where(step.slots >= 0, (step.slots + 1) % step.capacity, step.slots)


def base_in_last_slot(step: Step) -> Slots:
    """Rows without an adapter go to the last slot, as in stock vLLM."""
    return np.where(step.slots < 0, step.capacity - 1, step.slots)


def base_beside_adapter(step: Step) -> Slots:
    """An adapter's rows run one row too far."""
    beside = np.roll(step.slots, 1)
    beside[:1] = -1
    return np.where(step.slots < 0, beside, step.slots)


def rows_shifted(step: Step) -> Slots:
    """Every row is taken for the row before it."""
    return np.roll(step.slots, 1)


def exchanged(step: Step) -> Slots:
    """The rows of two requests of different adapters are exchanged."""
    slots, lengths = step.slots.copy(), step.lengths()
    for first in range(len(step.ids)):
        for second in range(first + 1, len(step.ids)):
            one, other = step.rows(first), step.rows(second)
            if lengths[first] == lengths[second] and step.slots[one.start] != step.slots[other.start]:
                slots[one], slots[other] = step.slots[other].copy(), step.slots[one].copy()
                return slots
    return slots


def stale(step: Step) -> Slots:
    """The rows of a step are those of the first that had as many: a plan is kept by its shape."""
    return step.history.by_rows.get(len(step.slots), step.slots)


def prompt_only(step: Step) -> Slots:
    """What is decoded is decoded by the base."""
    return _where(step, lambda place, length: length == 1, -1)


def decode_only(step: Step) -> Slots:
    """What is read is read by the base."""
    return _where(step, lambda place, length: length > 1, -1)


def first_rows_only(step: Step) -> Slots:
    """Of a slot's rows only the first eight are multiplied."""
    slots = step.slots.copy()
    for slot in np.unique(slots[slots >= 0]).tolist():
        slots[np.flatnonzero(slots == slot)[8:]] = -1
    return slots


def swapped_mid_answer(step: Step) -> Slots:
    """After some tokens an answer goes on in the next slot."""
    later = off_by_one(step)
    slots = step.slots.copy()
    for place, request in enumerate(step.ids):
        if step.history.decoded[request] >= _MID_ANSWER_STEPS:
            slots[step.rows(place)] = later[step.rows(place)]
    return slots


def resumed_on_base(step: Step) -> Slots:
    """Who was preempted goes on without an adapter."""
    return _where(step, lambda place, length: step.ids[place] in step.history.resumed, -1)


def first_adapter_for_all(step: Step) -> Slots:
    """Every adapter's rows go to the slot of the first."""
    worn = step.slots[step.slots >= 0]
    return np.where(step.slots >= 0, worn[0], -1) if worn.size else step.slots


def _where(step: Step, chosen: Callable[[int, int], bool], slot: int) -> Slots:
    slots = step.slots.copy()
    for place, length in enumerate(step.lengths()):
        if chosen(place, length):
            slots[step.rows(place)] = slot
    return slots
