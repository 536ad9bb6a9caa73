"""What a run of a batch writes: every step under a lease, and refused once somebody else has taken the batch over.

Invariant: of all runs of a batch only the one that its row names may write, and each line's result is written once.  A
process that stood still for longer than its lease finds that out with its next write, which then changes nothing.
"""

import hashlib
import socket
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.files.batches.batch import UNENDED, Batch, Problem, State, Tokens, shown, written
from services.files.batches.lines import Checked
from services.files.store_batches import BatchRow, ResultRow

# Of a batch that nobody runs: whether it would only wait, and a number by which its tenant comes before others.
Turn = tuple[bool, float]


class Superseded(Exception):
    """Another run has the batch now, or there is none to run any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one batch, as it was when the run began."""

    name: str
    batch: Batch


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a line: the line of its file, and what the answer used; ``answered`` False is an error."""

    line: int
    answered: bool
    written: bytes
    tokens: Tokens = field(default_factory=Tokens)


def holder_of(folder: Path) -> str:
    """Who a replica is: the same over its restarts, so that it takes up at once what it held when it was killed."""
    return hashlib.sha256(f"{socket.gethostname()}\0{folder.resolve()}".encode()).hexdigest()


class Runs:
    """The runs of one replica, each leased for ``lease_seconds`` from its last word."""

    def __init__(
        self, database: Database, holder: str, lease_seconds: float, per_tenant: int, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._per_tenant = per_tenant
        self._now = now

    async def claim(
        self, running: Collection[str], turn: Callable[[str, str], Turn | None] = lambda tenant, model: (False, 0.0)
    ) -> Run | None:
        """A batch that nobody runs, taken; ``running`` are those that this process runs itself.

        First comes what need not wait, then whose tenant has the fewest that run, then by ``turn``, of a tenant and of the
        model that the first line names, then the oldest; what has no turn does not come.
        """

        def change(session: Session) -> Run | None:
            now = _clock(session)
            unended = session.scalars(
                select(BatchRow).where(BatchRow.state.in_(UNENDED)).order_by(BatchRow.batch)
            ).all()
            held = [
                row
                for row in unended
                if row.batch in running or (row.leased_until > now and row.holder != self._holder)
            ]
            of_tenant: dict[str, int] = {}
            for row in held:
                of_tenant[row.tenant] = of_tenant.get(row.tenant, 0) + 1
            taken = {row.batch for row in held}
            turns: list[tuple[bool, int, float, int]] = []
            for place, row in enumerate(unended):
                runs, own = of_tenant.get(row.tenant, 0), turn(row.tenant, row.model)
                if row.batch not in taken and runs < self._per_tenant and own is not None:
                    turns.append((own[0], runs, own[1], place))
            if not turns:
                return None
            row = unended[min(turns)[-1]]
            row.holder, row.run, row.leased_until = self._holder, uuid.uuid4().hex, now + self._lease_seconds
            return Run(row.run, shown(row))

        return await self._database.write(change)

    async def renew(self, run: Run) -> State:
        """Hold the lease on; the state that the batch is in now.  Raises Superseded."""

        def change(session: Session) -> State:
            row = _own(session, run)
            row.leased_until = _clock(session) + self._lease_seconds
            return State(row.state)

        return await self._database.write(change)

    async def state(self, run: Run) -> State:
        """The state that the batch is in now.  Raises Superseded."""
        return await self._database.read(lambda session: State(_own(session, run).state))

    async def begin(self, run: Run, found: Checked) -> State:
        """Keep what the check found: from here on it is asked, or it has failed.  Raises Superseded."""

        def change(session: Session) -> State:
            row = _own(session, run)
            if row.state == State.VALIDATING:
                row.total, row.model = found.total, found.model
                if found.problems:
                    self._fail(row, found.problems)
                else:
                    row.state, row.started_at = State.IN_PROGRESS, self._now()
            return State(row.state)

        return await self._database.write(change)

    async def fail(self, run: Run, problem: Problem) -> None:
        """End it without asking any more.  Raises Superseded."""

        def change(session: Session) -> None:
            row = _own(session, run)
            self._fail(row, (problem,))
            _forget_results(session, row)

        await self._database.write(change)

    def _fail(self, row: BatchRow, problems: tuple[Problem, ...]) -> None:
        row.state, row.problems, row.ended_at = State.FAILED, written(problems), self._now()

    async def record(self, run: Run, result: Result) -> State:
        """Keep a line's result, durably; one that is kept already stays.  Raises Superseded."""

        def change(session: Session) -> State:
            row = _own(session, run)
            key = (row.tenant, row.batch, result.line)
            if session.get(ResultRow, key) is None:
                session.add(
                    ResultRow(
                        tenant=row.tenant,
                        batch=row.batch,
                        line=result.line,
                        answered=result.answered,
                        written=result.written,
                    )
                )
                row.completed += result.answered
                row.failed += not result.answered
                row.prompt_tokens += result.tokens.prompt
                row.cached_tokens += result.tokens.cached
                row.completion_tokens += result.tokens.completion
            return State(row.state)

        return await self._database.write(change)

    async def finalize(self, run: Run, ending: State) -> State:
        """No more is asked, and the files are written next; what it ends as.  Raises Superseded."""

        def change(session: Session) -> State:
            row = _own(session, run)
            if row.state == State.FINALIZING:
                return State(row.ending)
            row.ending = State.CANCELLED if row.state == State.CANCELLING else ending
            if row.state != State.CANCELLING:
                row.state = State.FINALIZING
            row.finalized_at = self._now()
            return State(row.ending)

        return await self._database.write(change)

    async def done(self, batch: Batch) -> set[int]:
        """The numbers of the lines that have a result."""
        query = select(ResultRow.line).where(ResultRow.tenant == batch.tenant, ResultRow.batch == batch.batch)
        return await self._database.read(lambda session: set(session.scalars(query)))

    async def results(self, batch: Batch, after: int, limit: int) -> list[Result]:
        """Results behind a line, in the order of the lines."""

        def query(session: Session) -> list[Result]:
            own = select(ResultRow).where(ResultRow.tenant == batch.tenant, ResultRow.batch == batch.batch)
            rows = session.scalars(own.where(ResultRow.line > after).order_by(ResultRow.line).limit(limit))
            return [Result(row.line, row.answered, row.written) for row in rows]

        return await self._database.read(query)

    async def end(self, run: Run, change: Callable[[Session, BatchRow], None]) -> None:
        """Do the last thing in one transaction: ``change`` names the files, and the results go.  Raises Superseded."""

        def transaction(session: Session) -> None:
            row = _own(session, run)
            change(session, row)
            row.state, row.ended_at, row.leased_until = row.ending, self._now(), 0.0
            _forget_results(session, row)

        await self._database.write(transaction)


def _forget_results(session: Session, row: BatchRow) -> None:
    own = (ResultRow.tenant == row.tenant) & (ResultRow.batch == row.batch)
    session.execute(delete(ResultRow).where(own))


def _own(session: Session, run: Run) -> BatchRow:
    row = session.get(BatchRow, (run.batch.tenant, run.batch.batch))
    if row is None or row.run != run.name or row.state not in UNENDED:
        raise Superseded
    return row


def _clock(session: Session) -> float:
    """The present moment in Unix seconds, by the one clock that all replicas see."""
    if session.get_bind().dialect.name != "postgresql":
        return time.time()
    return float(session.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())
