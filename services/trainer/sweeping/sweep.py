"""What a sweep is: its members, how they are compared, where each stands.

Invariants: a member is an ordinary job, whose settings say its whole plan and nothing of the sweep; where it waits for
the others is kept beside it.  So the winner is, bit for bit, what the same job would have become alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum

from services.trainer.honoured import unmeasured
from services.trainer.job import Job, Order, State
from services.trainer.settings import Keep, Metric, Settings
from services.trainer.sweeping.axes import MAX_MEMBERS, Point
from services.trainer.sweeping.halving import Rules, Standing, ranking
from services.trainer.sweeping.searchable import incomparable, invalid, searchables

DEFAULT_KEPT_RATIO = 0.5
_SLACK = 1e-6


class SweepState(StrEnum):
    """Where a sweep stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether it never moves again."""
        return self is not SweepState.RUNNING


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks for: members' orders with what each differs in, and where the worse ones end.

    ``rungs`` are shares of the steps, ascending in (0, 1).
    """

    orders: tuple[Order, ...]
    points: tuple[Point, ...]
    rungs: tuple[float, ...] = ()
    kept_ratio: float = DEFAULT_KEPT_RATIO


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its job, what it differs in, and the steps at which it waits for the others.

    ``released`` counts the rungs that it was let past.  ``evaluations`` holds values by name, by step.  ``trained``: it
    came to its end, and its result lies beside its checkpoints.  ``ended_at_rung``: after which the sweep ended it, 0
    for none; `after_all_rungs` where it came to its end and another was better.
    """

    job: Job
    point: Point
    hold_steps: tuple[int, ...]
    evaluations: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    released: int = 0
    trained: bool = False
    ended_at_rung: int = 0

    @property
    def hold_step(self) -> int:
        """The step up to which it may train now; 0 when to the end."""
        return self.hold_steps[self.released] if self.released < len(self.hold_steps) else 0

    @property
    def after_all_rungs(self) -> int:
        """What `ended_at_rung` is of one that came to its end and was not the best: one more than there are rungs."""
        return len(self.hold_steps) + 1

    @property
    def pruned_at_rung(self) -> int:
        """The rung at which it was ended for being worse than others; 0 where it was not, or came to its end."""
        return self.ended_at_rung if self.ended_at_rung < self.after_all_rungs else 0

    @property
    def waits(self) -> bool:
        """Whether it stands still because it has come as far as it may."""
        arrived = self.trained or 0 < self.hold_step <= self.job.progress.step
        return self.job.state is State.PAUSED and arrived

    @property
    def why_waits(self) -> str:
        """What its owner is told while it waits for the other members; empty when it does not."""
        if not self.waits:
            return ""
        where = "it is trained" if self.trained else f"it has come to rung {self.released + 1}, step {self.hold_step},"
        return f"{where} and waits for the other members of its sweep"

    @property
    def lost(self) -> bool:
        """Whether nothing more comes of it, and not by the sweep's own doing."""
        return self.job.state in (State.FAILED, State.CANCELLED) and not self.ended_at_rung

    @property
    def result_step(self) -> int:
        """The step whose evaluation is that of its result: the best one, or the last."""
        best = self.job.progress.best_step
        if self.job.order.settings.keep is Keep.BEST and best in self.evaluations:
            return best
        return max(self.evaluations, default=0)

    def standing(self) -> Standing:
        """What halving goes by.  An evaluation that lacks the metric counts as one that is no number."""
        metric = self.job.order.settings.metric.value
        values = {step: found.get(metric, math.nan) for step, found in self.evaluations.items()}
        scores = {rung: values[step] for rung, step in enumerate(self.hold_steps, start=1) if step in values}
        return Standing(scores, self.trained, values.get(self.result_step) if self.trained else None, self.lost)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep of a tenant, its members in their order."""

    tenant: str
    sweep: str
    members: tuple[Member, ...]
    rungs: tuple[float, ...]
    kept_ratio: float
    state: SweepState
    create_time: datetime
    end_time: datetime | None = None
    best: str = ""
    message: str = ""

    @property
    def metric(self) -> Metric:
        """What members are compared by."""
        return self.members[0].job.order.settings.metric

    @property
    def rules(self) -> Rules:
        """How they are compared."""
        return Rules(len(self.rungs), self.kept_ratio, self.metric.lower_is_better)

    @property
    def registering(self) -> bool:
        """Whether its best member is on its way into the registry, and not training again because its result was lost."""
        best = next((member.job.state for member in self.members if member.job.job == self.best), None)
        return best is not None and (best is State.REGISTERING or best.finished)

    @property
    def version(self) -> str:
        """The version that came of it; empty while there is none."""
        return next((member.job.version for member in self.members if member.job.job == self.best), "")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.  ``place`` counts from 1; 0 while it can still change."""

    member: Member
    place: int
    evaluation: Mapping[str, float]


def table(sweep: Sweep) -> list[Line]:
    """Return all members, best first: by the last evaluation that they were compared by."""
    standings = [member.standing() for member in sweep.members]
    settled = sweep.state.finished or bool(sweep.best)
    lines = []
    for place, position in enumerate(ranking(sweep.rules, standings), start=1):
        member = sweep.members[position]
        step = member.result_step if member.trained else max(member.evaluations, default=0)
        fixed = settled or member.ended_at_rung
        lines.append(Line(member, place if fixed else 0, member.evaluations.get(step, {})))
    return lines


def paced(settings: Settings, rungs: Sequence[float], total_steps: int) -> tuple[Settings, tuple[int, ...]]:
    """Return a member's settings and the step of each rung in a plan of so many steps.

    A rung is the first evaluation of the member's own plan at or behind its share of the steps: an evaluation that came
    on top would count for the best weights and for early stopping, and the member were not the job that it is alone.  Who
    leaves it open how often is evaluated gets an evaluation at the first rung's share, and as often from there on.
    Raises FIELD_INVALID where no evaluation falls before the end.
    """
    if not rungs:
        return settings, ()
    every = settings.evaluation_steps or max(1, math.floor(rungs[0] * total_steps + _SLACK))
    last = (total_steps - 1) // every * every
    if not last:
        problem = f"no evaluation falls before the end of {total_steps} steps: lower evaluation_steps, or give no rungs"
        raise invalid("rungs", problem)
    steps = (every * max(1, math.ceil(share * total_steps / every - _SLACK)) for share in rungs)
    return replace(settings, evaluation_steps=every), tuple(min(last, step) for step in steps)


def check(asked: Asked) -> None:
    """Raise FIELD_INVALID for members that cannot be compared, or rungs that are none."""
    if not asked.orders:
        raise invalid("members", "a sweep needs at least one member")
    if len(asked.orders) > MAX_MEMBERS:
        raise invalid("members", f"at most {MAX_MEMBERS} members make a sweep, these are {len(asked.orders)}")
    if list(asked.rungs) != sorted(set(asked.rungs)) or not all(0 < share < 1 for share in asked.rungs):
        raise invalid("rungs", "shares of the steps must ascend between 0 and 1, e.g. 0.25, 0.5")
    if not 0 < asked.kept_ratio < 1:
        raise invalid("kept_ratio", "the share that goes on must lie between 0 and 1")
    first = asked.orders[0]
    _check_evaluated(first.settings, bool(first.validation_dataset))
    for order in asked.orders[1:]:
        for name in _differences(first.settings, order.settings):
            why = incomparable(name, first.settings.metric, rows_are_given=bool(first.validation_dataset))
            if why is not None:
                raise invalid(_request_name(name), why)


def _check_evaluated(settings: Settings, rows_are_given: bool) -> None:
    if not rows_are_given and not settings.validation_ratio:
        raise invalid(
            "job.settings.validation_ratio",
            "members are compared on rows that are held out, and none are: set it (0.1 is usual), or name a "
            "validation_dataset",
        )
    for path, problem in unmeasured(settings):
        raise invalid(f"job.{path}", problem)


def differences(settings: Sequence[Settings]) -> list[Point]:
    """Return what each of some settings has that not all of them have, by the names that a request writes."""
    named = {entry.field: entry.name for entry in searchables().values()}
    varying = [name for name in Settings.__dataclass_fields__ if len({getattr(one, name) for one in settings}) > 1]
    return [tuple((named.get(name, name), _text(getattr(one, name))) for name in varying) for one in settings]


def _text(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple):
        return ",".join(_text(entry) for entry in value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _differences(ours: Settings, theirs: Settings) -> list[str]:
    return [name for name in Settings.__dataclass_fields__ if getattr(ours, name) != getattr(theirs, name)]


def _request_name(field: str) -> str:
    named = {entry.field: entry.name for entry in searchables().values()}
    return f"settings.{named.get(field, field)}"
