"""The table of what a job measured, as a file of the tenant's.

Invariant: a job that has succeeded has one such file, however often and by whomever it is asked for: it is written under
a request id of the job's own, and its id is written on the job.
"""

import csv
import io
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from gateway.fine_tuning import events, labels
from gateway.fine_tuning.training import Event, EventKind, Files, Job, State, Trainer
from services.chassis.errors import Code, Failure, Reason

_PAGE = 1000
_NO_ROOM = frozenset({Reason.DISK_FULL, Reason.FILES_EXHAUSTED})
_COLUMNS = ("step", "train_loss", "learning_rate")


class Results:
    """Writes results."""

    def __init__(self, trainer: Trainer, files: Files) -> None:
        self._trainer = trainer
        self._files = files

    async def kept(self, job: Job) -> Job:
        """The job with its results written on it, if it has succeeded and was ordered in this shape.

        Who may only look gets it as it is, and so does everybody while there is no room for another file: a job is told
        all the same.  Raises what else storing a file is refused with.
        """
        ours = labels.TRAINING_FILE in job.labels
        if job.state is not State.SUCCEEDED or not ours or labels.RESULT_FILE in job.labels:
            return job
        try:
            return await self._written(job)
        except Failure as failure:
            if failure.code is not Code.PERMISSION_DENIED and failure.reason not in _NO_ROOM:
                raise
            return job

    async def _written(self, job: Job) -> Job:
        content = table([event async for event in self._all(job.job)])
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"trivium:fine-tuning:{job.job}:results"))
        file = await self._files.write_results(f"step_metrics_{job.job}.csv", content, request_id)
        return await self._trainer.label(job.job, {labels.RESULT_FILE: file})

    async def _all(self, job: str) -> AsyncIterator[Event]:
        before = 0
        while found := await self._trainer.events(job, _PAGE, before):
            for event in found:
                yield event
            before = found[-1].sequence
            if before == 1:
                return


def table(told: Iterable[Event]) -> bytes:
    """CSV of a job's steps, ascending, one line each; what is evaluated has columns of its own, empty where it was not."""
    rows: dict[int, dict[str, Any]] = {}
    for event in told:
        if event.kind in (EventKind.STEP, EventKind.EVALUATION):
            rows.setdefault(event.step, {"step": event.step}).update(_values(events.metrics(event)))
    evaluated = sorted({name for row in rows.values() for name in row} - set(_COLUMNS))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_COLUMNS, *evaluated], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[step] for step in sorted(rows))
    return text.getvalue().encode()


def _values(measured: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in measured.items() if name != "step"}
