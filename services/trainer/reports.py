"""What training processes report, into rows: events, progress, measures, and what tenants used.

Invariants: what comes under an earlier lease than the row's changes nothing; a step is told once, however often it is
done again after a kill; reports of many jobs that come together are one transaction.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.trainer.job import EventKind, Measures
from services.trainer.job_rows import find, take_queue, tell
from services.trainer.scheduling.usage import Usage, charge, window_tokens
from services.trainer.store import JobRow, UsageRow
from services.trainer.work import Line, Said

_KINDS = {
    Said.STEP: EventKind.STEP,
    Said.EVALUATION: EventKind.EVALUATION,
    Said.CHECKPOINT: EventKind.CHECKPOINT,
    Said.STARTED: EventKind.MESSAGE,
    Said.MESSAGE: EventKind.MESSAGE,
}
# Of these the last step is remembered.
_ONCE = frozenset({EventKind.STEP, EventKind.EVALUATION, EventKind.CHECKPOINT})


@dataclass(frozen=True, slots=True)
class Report:
    """A line about one job, given under a lease of it."""

    tenant: str
    job: str
    epoch: int
    line: Line
    # Seconds of the machine that were the job's share, in a line that says so.
    seconds: float = 0.0


class Reports:
    """Stores reports.  `changed` is called with each job that has something new."""

    def __init__(
        self,
        database: Database,
        *,
        half_life_seconds: float,
        window_seconds: float,
        now: Callable[[], datetime],
        changed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._half_life_seconds = half_life_seconds
        self._window_seconds = window_seconds
        self._now = now
        self._changed = changed

    async def store(self, reports: Sequence[Report]) -> set[str]:
        """Store them in order; return the jobs whose lease is another's by now: their processes must let go."""

        def change(session: Session) -> tuple[set[str], set[str]]:
            lost: set[str] = set()
            told: set[str] = set()
            take_queue(session)
            for report in reports:
                row = find(session, report.tenant, report.job, locked=True)
                if row.lease_epoch != report.epoch or not row.lease_owner:
                    lost.add(report.job)
                elif self._store(session, row, report):
                    told.add(report.job)
            return lost, told

        lost, told = await self._database.write(change)
        for job in told:
            self._changed(job)
        return lost

    async def usage(self) -> dict[str, UsageRow]:
        """What every tenant has used."""
        return await self._database.read(lambda session: {row.tenant: row for row in session.query(UsageRow)})

    def _store(self, session: Session, row: JobRow, report: Report) -> bool:
        """Whether there was something to tell."""
        line, now = report.line, self._now().timestamp()
        measures = Measures(**json.loads(row.measures))
        if line.said is Said.USAGE:
            row.measures = _stored(replace(measures, charged_seconds=measures.charged_seconds + report.seconds))
            self._charge(session, row.tenant, report.seconds, 0, now)
            return False
        kind = _KINDS[line.said]
        if kind in _ONCE and line.progress.step <= measures.recorded.get(kind.value, -1):
            return False
        if kind is EventKind.STEP:
            before = json.loads(row.progress).get("trained_tokens", 0)
            self._charge(session, row.tenant, 0.0, max(0, line.progress.trained_tokens - before), now)
        if kind is EventKind.CHECKPOINT:
            row.crashes = 0
        if kind in _ONCE:
            # A checkpoint on the way back to where the job was already takes nothing back.
            if line.progress.step >= measures.recorded.get(EventKind.STEP.value, 0):
                row.progress = json.dumps(asdict(line.progress))
            row.measures = _stored(_measured(measures, kind, line, now))
        elif line.said is Said.STARTED and not measures.recorded:
            row.progress = json.dumps(asdict(line.progress))
        tell(
            session,
            row,
            kind,
            now,
            message=_message(line, measures),
            # A checkpoint is of its own step: written in the background, it may be told after later ones.
            progress=json.dumps(asdict(line.progress)) if kind in _ONCE else row.progress,
            learning_rate=line.learning_rate,
            gradient_norm=line.gradient_norm,
            tokens_per_second=line.tokens_per_second,
            memory_bytes=line.memory_bytes,
            evaluation=json.dumps(line.evaluation),
        )
        return True

    def _charge(self, session: Session, tenant: str, seconds: float, tokens: int, now: float) -> None:
        row = session.get(UsageRow, tenant, with_for_update=True)
        if row is None:
            row = UsageRow(tenant=tenant, used_seconds=0.0, used_at=now, window_tokens=0, window_at=now, started="{}")
            session.add(row)
        used = charge(Usage(row.used_seconds, row.used_at), seconds, now, self._half_life_seconds)
        row.used_seconds, row.used_at = used.seconds, used.as_of
        row.window_tokens = tokens + window_tokens(row.window_tokens, row.window_at, now, self._window_seconds)
        row.window_at = now


def _measured(measures: Measures, kind: EventKind, line: Line, now: float) -> Measures:
    recorded = {**measures.recorded, kind.value: line.progress.step}
    if kind is EventKind.EVALUATION:
        return replace(measures, recorded=recorded, evaluation=line.evaluation)
    if kind is EventKind.STEP:
        return replace(
            measures,
            recorded=recorded,
            stepped_at=now,
            learning_rate=line.learning_rate,
            gradient_norm=line.gradient_norm,
            tokens_per_second=line.tokens_per_second,
            memory_bytes=line.memory_bytes or measures.memory_bytes,
        )
    return replace(measures, recorded=recorded)


def _stored(measures: Measures) -> str:
    return json.dumps(asdict(measures))


def _message(line: Line, measures: Measures) -> str:
    if line.said is not Said.STARTED:
        return line.message
    step = line.progress.step
    again = measures.recorded.get(EventKind.STEP.value, 0) - step
    if again > 0:
        return f"continuing after step {step}; the {again} steps that were told already are done again"
    return f"continuing after step {step}" if step else f"{line.progress.total_steps} steps to go"
