"""What is to be done about a sweep's members, from what is known of them.

Pure: `sweeps` applies it in the transaction that read the members, so whatever a person asked for meanwhile counts.
Invariant: a member trains past a rung only after the rung was decided, and of a sweep at most one member is registered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.trainer.job import Job, State
from services.trainer.sweeping.halving import Decision, decide, kept_members
from services.trainer.sweeping.sweep import Member, Sweep, SweepState

# Reasons of members that failed which a sentence names.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a member: the state of its job (None: stays), a sentence, and the sweep's own marks."""

    message: str
    state: State | None = None
    released: int | None = None
    ended_at_rung: int | None = None


_REGISTERING = Change("the best member of its sweep; registering the version", State.REGISTERING)


@dataclass(frozen=True, slots=True)
class Settlement:
    """Changes of members by position, and what the sweep itself becomes."""

    changes: Mapping[int, Change] = field(default_factory=dict)
    state: SweepState = SweepState.RUNNING
    best: str = ""
    message: str = ""


def settle(sweep: Sweep) -> Settlement | None:
    """Return what follows; None when nothing does."""
    if sweep.state.finished:
        return None
    if sweep.best:
        return _registered(sweep)
    decision = decide(sweep.rules, [member.standing() for member in sweep.members])
    changes = _pruned(sweep, decision)
    if decision.over:
        return _ended(sweep, decision, changes)
    changes |= {
        position: Change(_onwards(sweep, decision, member), _queued(member), released=decision.rung - 1)
        for position, member in enumerate(sweep.members)
        if position not in decision.pruned and not member.lost and member.released < decision.rung - 1
    }
    return Settlement(changes) if changes else None


def cancelled(sweep: Sweep) -> dict[int, Change]:
    """What becomes of members whose sweep is ended on request."""
    open_members = {position: member for position, member in enumerate(sweep.members) if not member.job.state.finished}
    return {
        position: Change("its sweep was cancelled on request", ending(member.job))
        for position, member in open_members.items()
    }


def ending(job: Job) -> State | None:
    """The state in which a job ends that nobody wants any more; None where it ends already."""
    if job.state.finished or job.state is State.CANCELLING:
        return None
    return State.CANCELLING if job.state.holds_child else State.CANCELLED


def _registered(sweep: Sweep) -> Settlement | None:
    """The best member is on its way into the registry: its end is the sweep's."""
    position, member = next((at, one) for at, one in enumerate(sweep.members) if one.job.job == sweep.best)
    job = member.job
    if member.waits:
        # Its result had been lost, and it has trained again.
        return Settlement({position: _REGISTERING}, best=sweep.best)
    if job.state is State.SUCCEEDED:
        return Settlement(state=SweepState.SUCCEEDED, best=sweep.best)
    if not job.state.finished:
        return None
    message = f"the best member, {job.job}, could not be registered: {job.error_message or job.state.value}"
    return Settlement(state=SweepState.FAILED, best=sweep.best, message=message)


def _pruned(sweep: Sweep, decision: Decision) -> dict[int, Change]:
    changes = {}
    before = list(range(len(sweep.members)))
    counts = {}
    for rung in range(1, len(sweep.rungs) + 1):
        counts[rung] = len(before), kept_members(len(before), sweep.kept_ratio)
        before = [member for member in before if decision.pruned.get(member) != rung]
    for position, rung in decision.pruned.items():
        member = sweep.members[position]
        if member.ended_at_rung or member.lost:
            continue
        entered, kept = counts[rung]
        score = member.standing().score(rung)
        value = "no value" if score is None else f"{score:.4g}"
        message = f"ended at rung {rung}: its {sweep.metric.value} of {value} is not among the best {kept} of {entered}"
        changes[position] = Change(message, ending(member.job), ended_at_rung=rung)
    return changes


def _ended(sweep: Sweep, decision: Decision, changes: dict[int, Change]) -> Settlement | None:
    best = None if decision.best is None else sweep.members[decision.best]
    if best is not None and not best.waits:
        # Somebody has it train on; it comes to the same end.
        return Settlement(changes) if changes else None
    for position, member in enumerate(sweep.members):
        if position not in decision.pruned and member.trained and not member.lost and member is not best:
            message = (
                f"trained; the member {best.job.job} is better" if best else "trained; its evaluation is no number"
            )
            changes[position] = Change(message, ending(member.job), ended_at_rung=member.after_all_rungs)
    if best is None:
        return Settlement(changes, SweepState.FAILED, message=_why(sweep))
    assert decision.best is not None
    changes[decision.best] = _REGISTERING
    return Settlement(changes, best=best.job.job)


def _why(sweep: Sweep) -> str:
    reasons: dict[str, int] = {}
    for member in sweep.members:
        if member.job.state is State.FAILED:
            sentence = member.job.error_message or member.job.error_reason
            reasons[sentence] = reasons.get(sentence, 0) + 1
    found = sorted(reasons, key=lambda sentence: -reasons[sentence])[:_NAMED]
    causes = "; ".join(f"{reasons[sentence]} failed: {sentence}" for sentence in found)
    return f"no member came to an end that can be compared. {causes}".strip()


def _onwards(sweep: Sweep, decision: Decision, member: Member) -> str:
    going = len(sweep.members) - len(decision.pruned)
    return f"goes on behind rung {decision.rung - 1}, one of {going} members"


def _queued(member: Member) -> State | None:
    return State.QUEUED if member.waits and not member.trained else None
