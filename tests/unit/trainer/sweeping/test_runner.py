"""The runner holds the members of a sweep at their rung, resumes the best and queues again a member that gave way."""

from functools import partial
from operator import contains

from services.trainer.job import Job, Progress, State
from services.trainer.work import Line, Said
from tests.unit.trainer.scripted import World
from tests.unit.trainer.sweeping.test_sweeps import NOBODYS, wanted


async def test_members_of_a_sweep_wait_at_their_rung_and_the_best_alone_is_registered(world: World) -> None:
    sweep = await world.sweeps.create("acme", "ada", wanted(2, (0.5,)), NOBODYS)
    better, worse = (member.job for member in sweep.members)

    def evaluated(job: Job, step: int) -> tuple[Line, Line]:
        progress, loss = Progress(step, 40, best_step=step), 1.0 if job is better else 2.0
        return Line(Said.STEP, progress), Line(Said.EVALUATION, progress, evaluation={"loss": loss})

    async with world.running():
        for job in (worse, better):
            await world.until(partial(contains, world.executor.started, job.job), "it was started")
            assert world.executor.started[job.job].work.hold_step == 20
            world.executor.says(job.job, *evaluated(job, 20), Line(Said.STOPPED))
        await world.until_state(worse, State.CANCELLED)
        await world.until(lambda: better.job in world.executor.started, "it goes on")
        assert world.executor.started[better.job].work.hold_step == 0
        world.executor.says(better.job, *evaluated(better, 40), Line(Said.DONE))
        await world.until_state(better, State.REGISTERING)
    assert (await world.sweeps.get("acme", sweep.sweep)).best == better.job


async def test_a_member_that_gives_way_short_of_its_rung_is_queued_again_and_a_cancelled_one_ends(world: World) -> None:
    sweep = await world.sweeps.create("acme", "ada", wanted(2, (0.5,)), NOBODYS)
    one, other = (member.job for member in sweep.members)
    async with world.running():
        await world.until(lambda: {one.job, other.job} <= world.executor.started.keys(), "both were started")
        world.executor.says(one.job, Line(Said.STEP, Progress(5, 40)), Line(Said.STOPPED))
        again = (one.job, 2)
        await world.until(
            lambda: again in {(job, training.epoch) for job, training in world.executor.started.items()}, "it goes on"
        )
        await world.sweeps.cancel("acme", sweep.sweep)
        for job in (one, other):
            await world.until_state(job, State.CANCELLED)
