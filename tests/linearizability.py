"""Whether a history of calls could have come from one copy of the data that did one thing at a time.

The search is that of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with the
memory of visited configurations that Lowe added (Testing for Linearizability, 2017), a key at a
time: a history is linearizable if and only if that of each key is (Herlihy and Wing, 1990).
A call whose outcome nobody knows may have happened at any time after it was made, or never.
"""

from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

ABSENT_ETAG = "new"


class Kind(StrEnum):
    """What a call asks of a register that has a value and an etag, or is absent."""

    CREATE = "create"  # sets the value if it is absent
    SET = "set"  # sets the value if the etag is the expected one
    PUT = "put"  # sets the value, whatever is there
    READ = "read"


class Outcome(StrEnum):
    """How it went, as the caller was told."""

    OK = "ok"
    EXISTS = "exists"  # not created
    MISMATCH = "mismatch"  # not set; ``etag`` is the present one
    ABSENT = "absent"  # nothing there to read or set
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Call:
    """One call and its outcome; times are of one clock.  ``value`` and ``etag`` are what was told or, asked for."""

    key: str
    kind: Kind
    outcome: Outcome
    invoked: int
    returned: int
    value: str = ""
    etag: str = ""
    expected: str = ""
    client: int = 0


class Held(NamedTuple):
    """What the register holds; the etag of a write that nobody heard of is not known until somebody reads it."""

    value: str
    etag: str | None


State = Held | None


def after(state: State, call: Call, given: Set[str] = frozenset()) -> list[State]:
    """The states in which the register may be after a call that it answered so; none if it cannot have.

    ``given`` are the etags of known writes, which no unknown one can have.
    """
    match call.outcome:
        case Outcome.UNKNOWN:
            return _perhaps(state, call, given)
        case Outcome.ABSENT:
            return [state] if state is None else []
        case Outcome.EXISTS:
            return [state] if state is not None else []
        case Outcome.MISMATCH if state is None:
            return [state] if call.etag == ABSENT_ETAG != call.expected else []
        case Outcome.MISMATCH:
            assert state is not None
            fits = _may_be(state.etag, call.etag, given) and call.etag != call.expected
            return [Held(state.value, call.etag)] if fits else []
    return _done(state, call, given)


def _may_be(held: str | None, etag: str, given: Set[str]) -> bool:
    return held == etag if held is not None else etag not in given


def _done(state: State, call: Call, given: Set[str]) -> list[State]:
    if call.kind is Kind.READ:
        fits = state is not None and state.value == call.value and _may_be(state.etag, call.etag, given)
    elif call.kind is Kind.CREATE:
        fits = state is None
    elif call.kind is Kind.SET:
        fits = state is not None and state.etag == call.expected
    else:
        fits = True
    return [Held(call.value, call.etag)] if fits else []


def _perhaps(state: State, call: Call, given: Set[str]) -> list[State]:
    """It took effect; that it never did is the search's to consider."""
    fits = {
        Kind.CREATE: state is None,
        Kind.SET: state is not None and _may_be(state.etag, call.expected, given),
        Kind.PUT: True,
        Kind.READ: False,
    }[call.kind]
    return [Held(call.value, None)] if fits else []


@dataclass
class Search:
    """The search over one key's calls."""

    calls: Sequence[Call]
    given: Set[str]
    seen: set[tuple[int, Hashable]] = field(default_factory=set)

    def possible(self) -> bool:
        """Whether some order explains every outcome."""
        known = sum(1 << at for at, call in enumerate(self.calls) if call.outcome is not Outcome.UNKNOWN)
        pending: list[tuple[int, State]] = [(0, None)]
        while pending:
            done, state = pending.pop()
            if done & known == known:
                return True
            if (done, state) in self.seen:
                continue
            self.seen.add((done, state))
            pending += self._steps(done, state)
        return False

    def _steps(self, done: int, state: State) -> list[tuple[int, State]]:
        """What may come next.  A call that changes nothing and fits is taken at once: later it fits no better."""
        steps = []
        for at in self._next(done):
            for new in after(state, self.calls[at], self.given):
                if new == state and self.calls[at].outcome is not Outcome.UNKNOWN:
                    return [(done | 1 << at, state)]
                steps.append((done | 1 << at, new))
        return steps

    def _next(self, done: int) -> list[int]:
        """Calls that may come next: made before any that is left returned; those that are known are tried first."""
        limit, found = float("inf"), []
        for at, call in enumerate(self.calls):  # in the order in which they were made
            if done >> at & 1:
                continue
            if call.invoked > limit:
                break
            found.append(at)
            if call.outcome is not Outcome.UNKNOWN:
                limit = min(limit, call.returned)
        # The last is taken first.
        return sorted(found, key=lambda at: (self.calls[at].outcome is not Outcome.UNKNOWN, -at))


def told_of(calls: Sequence[Call]) -> list[Call]:
    """The calls without the unknown writes of which nobody can have heard: that they never happened explains as much.

    Values are written once each, so one that was never read was seen by nobody, unless a refusal
    told an etag that no other call explains, or that there was something at all.
    """
    answered = [call for call in calls if call.outcome is Outcome.OK]
    etags = {call.etag for call in answered} | {ABSENT_ETAG}
    if any(call.outcome is Outcome.MISMATCH and call.etag not in etags for call in calls):
        return list(calls)
    values = {call.value for call in answered if call.kind is Kind.READ}
    return [
        call
        for call in calls
        if call.outcome is not Outcome.UNKNOWN or call.value in values or call.kind is Kind.CREATE
    ]


def violations(history: Iterable[Call]) -> list[str]:
    """The keys whose calls no order explains, and those that gave an etag twice."""
    found = []
    for key, calls in groupby(sorted(history, key=lambda call: (call.key, call.invoked)), key=lambda call: call.key):
        of_key = told_of(list(calls))
        writes = [call.etag for call in of_key if call.outcome is Outcome.OK and call.kind is not Kind.READ]
        if len(set(writes)) != len(writes):
            found.append(f"{key}: an etag was given twice")
        elif not Search(of_key, set(writes)).possible():
            found.append(f"{key}: no order explains its {len(of_key)} calls")
    return found
