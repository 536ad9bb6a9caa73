"""Successive halving: which members go on after a rung, and which is the best in the end.

Jamieson and Talwalkar (2016) named it; this is its synchronous form.  At a rung, a share of the steps, a member
waits until all that still run have reached it or ended; then the best share of them goes on and the rest ends.

Invariant: every decision is a function of the members' evaluations and ends alone: not of time, of the order in which
they came, nor of what was decided before, which is worked out anew each time and comes out the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# What arithmetic with shares may miss a whole number by.
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Rules:
    """How members are compared.  ``kept_ratio`` is the share that goes on after a rung, in (0, 1)."""

    rungs: int
    kept_ratio: float
    lower_is_better: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a member.

    ``scores`` holds its value of the metric at the rungs that it has reached, by rung, from 1.  ``final`` is that of
    its result when ``trained``, None where there is none.  ``lost``: it failed, diverged or was cancelled, and reaches
    no more; what it was compared by before stays.
    """

    scores: Mapping[int, float] = field(default_factory=dict)
    trained: bool = False
    final: float | None = None
    lost: bool = False

    def score(self, rung: int) -> float | None:
        """What it is compared by at a rung: where it ended before, as by early stopping, its result's value."""
        return self.scores.get(rung, self.final if self.trained else None)

    @property
    def result(self) -> float | None:
        """What its result is compared by in the end; None where there is none to take."""
        return self.final if self.trained and not self.lost else None

    def arrived(self, rung: int) -> bool:
        """Whether nothing more is to come of it before the rung's decision."""
        return rung in self.scores or self.trained or self.lost


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows, members by position from 0.

    ``pruned`` gives the rung after which a member ends, by member.  ``rung`` is the one that is trained towards: from 1,
    and one more than there are for the end.  ``waiting`` have reached it and wait for the others.  When ``over``,
    ``best`` is the winner, None where no member came to an end that can be compared.
    """

    pruned: Mapping[int, int]
    rung: int
    waiting: frozenset[int] = frozenset()
    over: bool = False
    best: int | None = None


def decide(rules: Rules, members: Sequence[Standing]) -> Decision:
    """Return what follows from what is known, all of it: also what earlier calls said already."""
    pruned: dict[int, int] = {}
    racing = list(range(len(members)))
    for rung in range(1, rules.rungs + 1):
        waiting = frozenset(member for member in racing if members[member].arrived(rung))
        if len(waiting) < len(racing):
            return Decision(pruned, rung, waiting)
        ordered = _ordered(rules, racing, [members[member].score(rung) for member in racing])
        kept = kept_members(len(racing), rules.kept_ratio)
        pruned |= dict.fromkeys(ordered[kept:], rung)
        racing = sorted(ordered[:kept])
    ended = frozenset(member for member in racing if members[member].trained or members[member].lost)
    if len(ended) < len(racing):
        return Decision(pruned, rules.rungs + 1, ended)
    finals = [members[member].result for member in racing]
    best = _ordered(rules, racing, finals)[0] if racing else None
    comparable = best is not None and _comparable(finals[racing.index(best)])
    return Decision(pruned, rules.rungs + 1, ended, over=True, best=best if comparable else None)


def kept_members(count: int, kept_ratio: float) -> int:
    """How many of `count` members go on: the share rounded up, at least one."""
    return max(1, math.ceil(count * kept_ratio - _SLACK))


def ranking(rules: Rules, members: Sequence[Standing]) -> list[int]:
    """Return the members' positions, best first: by the last rung that they were compared at, then by its order."""
    pruned = decide(rules, members).pruned
    stages: dict[int, list[int]] = {}
    for member in range(len(members)):
        stages.setdefault(pruned.get(member, rules.rungs + 1), []).append(member)
    ordered: list[int] = []
    for stage in sorted(stages, reverse=True):
        at_end = stage > rules.rungs
        scores = [_last(members[member]) if at_end else members[member].score(stage) for member in stages[stage]]
        ordered += _ordered(rules, stages[stage], scores)
    return ordered


def _last(member: Standing) -> float | None:
    if member.trained or member.lost:
        return member.result
    return member.scores[max(member.scores)] if member.scores else None


def _ordered(rules: Rules, members: Sequence[int], scores: Sequence[float | None]) -> list[int]:
    """The members, best first; who has no finite score comes last, ties go by position."""

    def key(pair: tuple[int, float | None]) -> tuple[bool, float, int]:
        member, score = pair
        if score is None or not math.isfinite(score):
            return True, 0.0, member
        return False, score if rules.lower_is_better else -score, member

    return [member for member, _ in sorted(zip(members, scores, strict=True), key=key)]


def _comparable(score: float | None) -> bool:
    return score is not None and math.isfinite(score)
