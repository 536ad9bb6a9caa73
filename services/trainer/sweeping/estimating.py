"""What a sweep would cost, by what each of its members would.

Invariant: it is the sum of its members' estimates, less what they are spared where the worse ones end early.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.trainer.estimates import Estimate
from services.trainer.sweeping.halving import kept_members
from services.trainer.sweeping.sweep import Asked, paced


@dataclass(frozen=True, slots=True)
class SweepEstimate:
    """Optimizer steps, tokens and seconds of an otherwise idle machine over all members, bytes.

    ``measured``: the seconds count by speeds that were reached here, for every member.  ``memory_bytes`` are of all
    members at once, ``largest_member_bytes`` of the one that takes most, both with what is shared.  Where one does not
    fit the last warning says why.
    """

    members: int
    steps: int
    tokens: int
    seconds: float
    measured: bool
    memory_bytes: int
    largest_member_bytes: int
    version_bytes: int
    fits: bool
    warnings: Sequence[str]


def estimate(asked: Asked, members: Sequence[Estimate]) -> SweepEstimate:
    """Work it out from the estimates of all members, in their order.  Raises FIELD_INVALID as `paced`."""
    kept = [_trained(asked, member) for member in members]
    shares = [steps / max(1, member.steps) for steps, member in zip(kept, members, strict=True)]
    seconds = [member.seconds * share for share, member in zip(shares, members, strict=True)]
    unfit = next((member for member in members if not member.fits), None)
    said = [warning for member in members for warning in member.warnings[: None if member.fits else -1]]
    return SweepEstimate(
        members=len(members),
        steps=round(sum(kept)),
        tokens=round(sum(member.tokens * share for share, member in zip(shares, members, strict=True))),
        # A sum that lacks some would be told as that of all.
        seconds=sum(seconds) if all(seconds) else 0.0,
        measured=all(member.tokens_per_second for member in members),
        memory_bytes=max(member.order.base_bytes for member in members)
        + sum(member.order.job_bytes for member in members),
        largest_member_bytes=max(member.order.base_bytes + member.order.job_bytes for member in members),
        version_bytes=max(member.version_bytes for member in members),
        fits=unfit is None,
        warnings=[*dict.fromkeys(said), *([] if unfit is None else unfit.warnings[-1:])],
    )


def _trained(asked: Asked, member: Estimate) -> float:
    """The steps that a member trains in the mean, any of them being as likely to go on as another."""
    _, holds = paced(member.order.settings, asked.rungs, member.steps)
    count, racing, steps = len(asked.orders), len(asked.orders), 0.0
    for begin, end in zip((0, *holds), (*holds, member.steps), strict=True):
        steps += (end - begin) * racing / count
        racing = kept_members(racing, asked.kept_ratio)
    return steps
