"""A job's checkpoints as model names that answer.

Invariant: what is listed can be chatted with.  A checkpoint that the trainer keeps becomes a version once, under a request
id of its own, and that is written on the job; the result of a job that has succeeded is its last checkpoint.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.fine_tuning import events, labels
from gateway.fine_tuning.training import EventKind, Job, Kept, State, Trainer
from gateway.fine_tuning.view import exact_name
from services.chassis.errors import Code, Failure, Reason

_PREFIX = "ftckpt-"
_PAGE = 1000
# A newer one took its place while the list was made, or nothing is trained yet: then it is none.
_GONE = frozenset({Reason.CHECKPOINT_NOT_FOUND, Reason.CHECKPOINT_UNFIT})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint; ``model`` is its exact name, ``metrics`` what was measured at its step."""

    checkpoint: str
    job: str
    step: int
    model: str
    create_time: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class Checkpoints:
    """Lists them."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    async def of(self, name: str) -> list[Checkpoint]:
        """All, newest first.  Raises JOB_NOT_FOUND, and what the trainer refuses to publish with."""
        job = await self._trainer.get(name)
        kept = await self._trainer.checkpoints(name)
        versions = labels.checkpoints(job.labels)
        for checkpoint in kept:
            if checkpoint.step and checkpoint.step not in versions:
                versions |= await self._published(job, checkpoint)
        if job.state is State.SUCCEEDED:
            best = job.settings.get("keep") == "KEEP_BEST" and job.best_step
            versions[best or job.step] = job.version
        if not versions:
            return []
        measured, times = await self._measured(name, frozenset(versions))
        times = {found.step: found.create_time for found in kept} | times
        return [
            Checkpoint(
                f"{_PREFIX}{name}-{step}",
                name,
                step,
                exact_name(job.model, version),
                times.get(step, job.end_time or job.create_time),
                measured.get(step, {}),
            )
            for step, version in sorted(versions.items(), reverse=True)
        ]

    async def _published(self, job: Job, checkpoint: Kept) -> dict[int, str]:
        """The version that a checkpoint became, by its step; none where it is gone, and for who may only look."""
        step = checkpoint.step
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"trivium:fine-tuning:{job.job}:checkpoint:{step}"))
        try:
            version = await self._trainer.publish(job.job, step, request_id)
        except Failure as failure:
            if failure.reason in _GONE or failure.code is Code.PERMISSION_DENIED:
                return {}
            raise
        now = await self._trainer.get(job.job)
        await self._trainer.label(job.job, labels.with_checkpoint(now.labels, step, version))
        return {step: version}

    async def _measured(self, job: str, steps: frozenset[int]) -> tuple[dict[int, dict[str, float]], dict[int, float]]:
        """What was measured at these steps, and when they were done."""
        found: dict[int, dict[str, float]] = {}
        times: dict[int, float] = {}
        before = 0
        while page := await self._trainer.events(job, _PAGE, before):
            for event in page:
                if event.step not in steps:
                    continue
                found.setdefault(event.step, {}).update(events.metrics(event))
                if event.kind is EventKind.STEP:
                    times[event.step] = event.create_time
            before = page[-1].sequence
            if before == 1 or page[-1].step < min(steps):
                break
        return found, times


def behind(found: Sequence[Checkpoint], after: str) -> Sequence[Checkpoint]:
    """Those behind the one that is named; all for an empty name.  Raises FIELD_INVALID for one that is not there."""
    if not after:
        return found
    ids: list[Any] = [checkpoint.checkpoint for checkpoint in found]
    if after not in ids:
        raise Failure(Reason.FIELD_INVALID, field="after", problem=f"{after!r} is no checkpoint of the job")
    return found[ids.index(after) + 1 :]
