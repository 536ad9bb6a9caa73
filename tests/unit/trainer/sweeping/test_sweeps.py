"""Sweeps in the job table, on both databases: members trained by nobody but the test, in whatever order."""

import itertools
import math
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.trainer import moves
from services.trainer.job import Job, Move, Progress, State
from services.trainer.jobs import Changed, Jobs
from services.trainer.reports import Report
from services.trainer.settings import Settings
from services.trainer.sweeping.axes import Axis, expand
from services.trainer.sweeping.sweep import Asked, Sweep, SweepState
from services.trainer.sweeping.sweeps import Sweeps
from services.trainer.work import Line, Said
from tests.unit.trainer import test_jobs
from tests.unit.trainer.databases import DATABASES

TOTAL = 40
SETTINGS = Settings(validation_ratio=0.2, max_steps=TOTAL, epochs=1000)
NOBODYS = IdempotencyKey("acme", "CreateSweep", "", b"")


@pytest.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with a dataset."""
    url = f"sqlite:///{tmp_path}/t.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_database(url, "services.trainer.migrations") as opened:
        await test_jobs.stored(opened)
        yield opened


def wanted(members: int, rungs: tuple[float, ...] = (0.25, 0.5), kept_ratio: float = 0.5) -> Asked:
    """A sweep over so many ranks."""
    points = expand([Axis("lora.rank", tuple(str(rank) for rank in range(1, members + 1)))], 0, 0)
    orders = tuple(replace(test_jobs.ORDER, settings=replace(SETTINGS, rank=int(rank))) for ((_, rank),) in points)
    return Asked(orders, tuple(points), rungs, kept_ratio)


def sweeps_in(
    database: Database,
    changed: Changed = lambda _: None,
    ids: Iterator[int] | None = None,
    most_unfinished: int = 1000,
) -> Sweeps:
    """The verbs over a database."""
    numbers = ids or itertools.count()
    now = partial(datetime.now, UTC)
    return Sweeps(
        database,
        now=now,
        new_id=lambda: f"s{next(numbers):03d}",
        admit=test_jobs.admitted,
        most_unfinished=most_unfinished,
        changed=changed,
    )


async def test_a_sweep_whose_table_no_version_could_keep_queues_nothing(database: Database) -> None:
    sweeps, asked = sweeps_in(database), wanted(2)
    with pytest.raises(Failure, match=r"\b2049\b.*\b576\b"):
        await sweeps.create("acme", "ada", replace(asked, points=((("lora.rank", "4" * (1 << 20)),),) * 2), NOBODYS)
    assert await sweeps.page("acme", 10, None) == []


async def test_every_member_counts_among_the_jobs_that_a_tenant_has(database: Database) -> None:
    sweeps, jobs = sweeps_in(database, most_unfinished=4), test_jobs.jobs_in(database, most_unfinished=4)
    await test_jobs.queued(jobs)
    with pytest.raises(Failure) as refused:
        await sweeps.create("acme", "ada", wanted(4), NOBODYS)
    assert refused.value.reason is Reason.JOBS_EXHAUSTED
    assert (refused.value.variables["unfinished"], refused.value.variables["added"]) == ("1", "4")
    await sweeps.create("acme", "ada", wanted(3), NOBODYS)
    with pytest.raises(Failure) as refused:
        await test_jobs.queued(jobs)
    assert refused.value.reason is Reason.JOBS_EXHAUSTED


class Machine:
    """Trains members as a runner does: one from where it stands to where it may go, whichever comes next.

    ``loss`` is what a member's held-out rows say in the beginning, ``diverges`` the step at which it does, by its rank.
    """

    def __init__(self, database: Database, loss: dict[int, float], diverges: dict[int, int] | None = None) -> None:
        self.database = database
        self.loss = loss
        self.diverges = diverges or {}
        self.ids = itertools.count()
        # Ranks with the step that each was to hold at, in the order in which they trained.
        self.trained: list[tuple[int, int]] = []
        self.jobs = test_jobs.jobs_in(database)
        self.leases = test_jobs.leases_in(database)
        self.reports = test_jobs.reports_in(database)
        self.sweeps = self.again()

    def again(self) -> Sweeps:
        """The verbs, of a trainer that has just started."""
        return sweeps_in(self.database, ids=self.ids)

    async def train(self, job: Job) -> None:
        """One member from where it stands to where it may go, as its process would report it."""
        claimed = await self.leases.claim(job, ("here",))
        assert claimed is not None
        hold = await self.sweeps.hold_step(claimed)
        rank = job.order.settings.rank
        self.trained.append((rank, hold))
        settings = job.order.settings
        lines: list[Line] = []
        for step in range(job.progress.step + 1, (hold or TOTAL) + 1):
            if step == self.diverges.get(rank):
                await self.jobs.decide(claimed, _diverged)
                return
            lines.append(Line(Said.STEP, Progress(step, TOTAL, step)))
            if step % (settings.evaluation_steps or TOTAL) == 0 or step == TOTAL:
                values = {"loss": self.loss[rank] - step / 1000}
                lines.append(Line(Said.EVALUATION, Progress(step, TOTAL, step, best_step=step), evaluation=values))
        await self.reports.store([Report("acme", job.job, claimed.lease.epoch, line) for line in lines])
        left = await self.sweeps.left(claimed, trained=not hold)
        await self.jobs.decide(left, moves.settle)

    async def run(self, sweep: Sweep, chance: random.Random | None = None) -> Sweep:
        """Train until the best member is on its way into the registry, or the sweep is at its end."""
        for _ in range(200):
            await self.sweeps.settle()
            found = await self.sweeps.get("acme", sweep.sweep)
            queued = [member.job for member in found.members if member.job.state is State.QUEUED]
            if found.best or found.state.finished:
                return found
            assert queued, [member.job.state for member in found.members]
            await self.train(chance.choice(queued) if chance else queued[0])
        raise AssertionError("the sweep does not end")

    async def registered(self, sweep: Sweep) -> Sweep:
        """Register the best member, and see what becomes of the sweep."""
        best = await self.jobs.get("acme", sweep.best)
        await self.jobs.decide(best, lambda _: Move(State.SUCCEEDED, "registered", {"version": "sha256:v"}))
        await self.sweeps.settle()
        return await self.sweeps.get("acme", sweep.sweep)


def _diverged(job: Job) -> Move | None:
    return moves.refuse(job, "TRAINING_DIVERGED", "Training diverged: at step 7.")


def ends(sweep: Sweep) -> list[tuple[str, State, int, int]]:
    """Rank, state, rung and steps of each member, in their order."""
    return [
        (member.point[0][1], member.job.state, member.ended_at_rung, member.job.progress.step)
        for member in sweep.members
    ]


async def test_the_better_half_goes_on_at_each_rung_and_the_best_alone_is_registered(database: Database) -> None:
    machine = Machine(database, {rank: 10.0 - rank for rank in range(1, 9)})
    sweep = await machine.sweeps.create("acme", "ada", wanted(8), NOBODYS)
    assert [member.hold_steps for member in sweep.members] == [(10, 20)] * 8
    found = await machine.run(sweep)
    assert ends(found) == [
        *((str(rank), State.CANCELLED, 1, 10) for rank in (1, 2, 3, 4)),
        *((str(rank), State.CANCELLED, 2, 20) for rank in (5, 6)),
        ("7", State.CANCELLED, 3, 40),
        ("8", State.REGISTERING, 0, 40),
    ]
    done = await machine.registered(found)
    assert (done.state, done.version, done.end_time is not None) == (SweepState.SUCCEEDED, "sha256:v", True)
    assert await machine.sweeps.lineage(await machine.jobs.get("acme", found.best)) != {}


@pytest.mark.parametrize("seed", [1])
async def test_the_end_does_not_depend_on_the_order_in_which_members_train(database: Database, seed: int) -> None:
    loss = {rank: 5.0 + math.sin(rank * 7) for rank in range(1, 8)}
    machine = Machine(database, loss, diverges={3: 7, 6: 15})
    plain = await machine.run(await machine.sweeps.create("acme", "ada", wanted(7), NOBODYS))
    mixed = await machine.run(await machine.sweeps.create("acme", "ada", wanted(7), NOBODYS), random.Random(seed))
    assert ends(mixed) == ends(plain)


async def test_no_member_trains_past_a_rung_before_it_is_decided(database: Database) -> None:
    machine = Machine(database, dict.fromkeys(range(1, 5), 1.0))
    await machine.run(await machine.sweeps.create("acme", "ada", wanted(4), NOBODYS), random.Random(1))
    assert [hold for _, hold in machine.trained] == [10] * 4 + [20] * 2 + [0]
    assert {rank for rank, hold in machine.trained if hold != 10} == {1, 2}, "ties go to the earlier"


async def test_a_members_order_is_that_of_the_same_job_alone(database: Database) -> None:
    machine = Machine(database, {})
    sweep = await machine.sweeps.create("acme", "ada", wanted(2), NOBODYS)
    for member in sweep.members:
        alone = replace(test_jobs.ORDER, settings=member.job.order.settings)
        job = await machine.jobs.create("acme", "ada", alone, IdempotencyKey("acme", "CreateJob", "", b""))
        assert replace(member.job.order, sweep="") == job.order
        assert member.job.progress == job.progress


async def test_a_diverged_member_counts_as_the_worst_and_its_place_goes_to_nobody_else(database: Database) -> None:
    machine = Machine(database, {1: 1.0, 2: 9.0, 3: 3.0, 4: 2.0}, diverges={1: 5})
    found = await machine.run(await machine.sweeps.create("acme", "ada", wanted(4, (0.5,)), NOBODYS))
    assert [state for _, state, _, _ in ends(found)] == [
        State.FAILED,
        State.CANCELLED,
        State.CANCELLED,
        State.REGISTERING,
    ]
    assert [rung for _, _, rung, _ in ends(found)] == [0, 1, 2, 0]


async def test_a_sweep_of_which_all_members_fail_says_why(database: Database) -> None:
    machine = Machine(database, {}, diverges={1: 5, 2: 6})
    found = await machine.run(await machine.sweeps.create("acme", "ada", wanted(2), NOBODYS))
    assert found.state is SweepState.FAILED
    assert "2 failed: Training diverged: at step 7." in found.message


async def test_a_sweep_goes_on_where_a_killed_trainer_left_it(database: Database) -> None:
    machine = Machine(database, {rank: float(rank) for rank in range(1, 5)})
    sweep = await machine.sweeps.create("acme", "ada", wanted(4, (0.5,)), NOBODYS)
    for member in sweep.members:
        await machine.train(member.job)
    # Killed before it decided: nothing of what it knew is left.
    machine.sweeps = machine.again()
    found = await machine.run(sweep)
    assert [rung for _, _, rung, _ in ends(found)] == [0, 2, 1, 1]


async def test_settling_again_changes_nothing(database: Database) -> None:
    machine = Machine(database, {rank: float(rank) for rank in range(1, 5)})
    found = await machine.run(await machine.sweeps.create("acme", "ada", wanted(4), NOBODYS))
    for _ in range(2):
        await machine.again().settle()
    assert await machine.sweeps.get("acme", found.sweep) == found


async def test_a_repeated_request_is_one_sweep(database: Database) -> None:
    machine = Machine(database, {})
    key = IdempotencyKey("acme", "CreateSweep", "r", b"1")
    first, second = [await machine.sweeps.create("acme", "ada", wanted(3), key) for _ in range(2)]
    assert first == second
    assert len(await machine.jobs.page("acme", 100, None)) == 3
    with pytest.raises(Failure) as reused:
        await machine.sweeps.create("acme", "ada", wanted(3), replace(key, fingerprint=b"2"))
    assert reused.value.reason is Reason.REQUEST_ID_REUSED


async def test_a_cancelled_sweep_ends_all_its_members_and_nothing_is_registered(database: Database) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0, 3: 3.0})
    sweep = await machine.sweeps.create("acme", "ada", wanted(3), NOBODYS)
    await machine.train(sweep.members[0].job)
    assert await machine.leases.claim(sweep.members[1].job, ("here",))
    cancelled = await machine.sweeps.cancel("acme", sweep.sweep)
    states = [member.job.state for member in cancelled.members]
    assert (cancelled.state, states) == (
        SweepState.CANCELLED,
        [State.CANCELLED, State.CANCELLING, State.CANCELLED],
    )
    assert await machine.sweeps.cancel("acme", sweep.sweep) == cancelled
    await machine.sweeps.settle()
    assert (await machine.sweeps.get("acme", sweep.sweep)).state is SweepState.CANCELLED


async def test_a_sweep_whose_best_member_is_being_registered_is_not_cancelled_any_more(database: Database) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0})
    found = await machine.run(await machine.sweeps.create("acme", "ada", wanted(2), NOBODYS))
    with pytest.raises(Failure) as refused:
        await machine.sweeps.cancel("acme", found.sweep)
    assert refused.value.reason is Reason.SWEEP_FINISHED


async def test_members_that_people_cancel_and_pause_are_lost_and_waited_for(database: Database) -> None:
    machine = Machine(database, {rank: float(rank) for rank in range(1, 5)})
    sweep = await machine.sweeps.create("acme", "ada", wanted(4, (0.5,)), NOBODYS)
    first, second, third, fourth = (member.job for member in sweep.members)
    await machine.jobs.cancel("acme", first.job)
    await machine.jobs.pause("acme", second.job)
    for job in (third, fourth):
        await machine.train(job)
    await machine.sweeps.settle()
    waiting = await machine.sweeps.get("acme", sweep.sweep)
    assert [member.waits for member in waiting.members] == [False, False, True, True]
    await machine.jobs.resume("acme", second.job)
    found = await machine.run(sweep)
    assert [rung for _, _, rung, _ in ends(found)] == [0, 0, 2, 1]
    assert found.best == second.job


async def test_a_best_member_that_somebody_has_train_on_is_registered_once_it_is_back(database: Database) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0})
    sweep = await machine.sweeps.create("acme", "ada", wanted(2, ()), NOBODYS)
    for member in sweep.members:
        await machine.train(member.job)
    best = sweep.members[0].job
    await machine.jobs.resume("acme", best.job)
    await machine.sweeps.settle()
    assert not (await machine.sweeps.get("acme", sweep.sweep)).best
    assert (await machine.run(sweep)).best == best.job


async def test_a_member_that_stops_short_of_its_rung_is_gone_on_with(database: Database) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0})
    sweep = await machine.sweeps.create("acme", "ada", wanted(2, (0.5,)), NOBODYS)
    claimed = await machine.leases.claim(sweep.members[0].job, ("here",))
    assert claimed is not None
    step = Report("acme", claimed.job, claimed.lease.epoch, Line(Said.STEP, Progress(3, TOTAL, 3)))
    await machine.reports.store([step])
    assert (await machine.sweeps.left(claimed, trained=False)).state is State.RUNNING


async def test_what_comes_under_an_earlier_lease_holds_nobody(database: Database) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0})
    sweep = await machine.sweeps.create("acme", "ada", wanted(2, (0.5,)), NOBODYS)
    zombie = await machine.leases.claim(sweep.members[0].job, ("here",))
    assert zombie is not None
    await machine.leases.give_up(zombie)
    assert await machine.leases.claim(await machine.jobs.get("acme", zombie.job), ("here",))
    assert (await machine.sweeps.left(zombie, trained=True)).state is State.RUNNING


async def test_another_tenants_sweep_is_none(database: Database) -> None:
    machine = Machine(database, {})
    sweep = await machine.sweeps.create("acme", "ada", wanted(1), NOBODYS)
    for verb in (machine.sweeps.get, machine.sweeps.cancel):
        with pytest.raises(Failure) as refused:
            await verb("other", sweep.sweep)
        assert refused.value.reason is Reason.SWEEP_NOT_FOUND
    assert await machine.sweeps.page("other", 10, None) == []


async def test_sweeps_are_listed_newest_first_a_page_at_a_time(database: Database) -> None:
    machine = Machine(database, {})
    made = [(await machine.sweeps.create("acme", "ada", wanted(1), NOBODYS)).sweep for _ in range(3)]
    first = await machine.sweeps.page("acme", 2, None)
    rest = await machine.sweeps.page("acme", 2, (first[-1].create_time.timestamp(), first[-1].sweep))
    assert [sweep.sweep for sweep in [*first, *rest]] == made[::-1]


async def test_a_job_of_no_sweep_waits_for_nobody(database: Database) -> None:
    machine = Machine(database, {})
    job: Job = await test_jobs.queued(machine.jobs)
    assert await machine.sweeps.hold_step(job) == 0
    assert await machine.sweeps.lineage(job) == {}


async def test_a_plan_without_room_for_a_rung_is_refused_and_leaves_nothing(database: Database) -> None:
    machine = Machine(database, {})
    asked = wanted(2)
    orders = tuple(replace(order, settings=replace(order.settings, evaluation_steps=99)) for order in asked.orders)
    with pytest.raises(Failure) as refused:
        await machine.sweeps.create("acme", "ada", replace(asked, orders=orders), NOBODYS)
    assert refused.value.field == "rungs"
    jobs: Jobs = machine.jobs
    assert await jobs.page("acme", 10, None) == []


async def test_a_member_that_waits_for_the_others_says_so_and_one_that_a_person_paused_does_not(
    database: Database,
) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0, 3: 3.0})
    sweep = await machine.sweeps.create("acme", "ada", wanted(3, (0.5,)), NOBODYS)
    first, second, third = (member.job for member in sweep.members)
    await machine.train(first)
    await machine.jobs.pause("acme", second.job)
    found = await machine.sweeps.get("acme", sweep.sweep)
    told = ["it has come to rung 1, step 20, and waits for the other members of its sweep", "", ""]
    assert [member.why_waits for member in found.members] == told
    whys = await machine.sweeps.why_wait([await machine.jobs.get("acme", job.job) for job in (first, second, third)])
    assert [whys.get(job.job, "") for job in (first, second, third)] == told
    # Ids are the tenants' own: another tenant's job of the same name is told nothing.
    assert await machine.sweeps.why_wait([replace(await machine.jobs.get("acme", first.job), tenant="other")]) == {}


async def test_a_sweep_whose_deadline_has_passed_is_refused_by_its_field(database: Database) -> None:
    asked = wanted(2)
    late = replace(asked, orders=tuple(replace(order, deadline=1.0) for order in asked.orders))
    with pytest.raises(Failure) as refused:
        await sweeps_in(database).create("acme", "ada", late, NOBODYS)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "job.deadline")
