"""Training on several machines of a Ray cluster, of which one is killed in the middle."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from services.trainer.job import EventKind, Job, State
from services.trainer.settings import Method, Settings
from tests.robustness.trainer.clusters import Machines, machines, queue_over
from tests.unit.trainer.joint.company import PLAIN, text
from tests.unit.trainer.joint.workers import Bench, Mother, digest, is_last, join
from tests.unit.trainer.solo.together import train_together, weights

# A minute on two quiet cores; Ray's daemons wait for one another where others have these.
pytestmark = [pytest.mark.timeout(900), pytest.mark.sampled(every=3, family="processes of a trainer as in operation")]

ROWS = text(PLAIN)
# Steps enough that a machine is gone before they are, also where its death takes seconds.
SETTINGS = Settings(rank=4, alpha=8, batch_rows=3, epochs=120, learning_rate=1e-3, checkpoint_steps=10)
FULL = Settings(
    method=Method.FULL, batch_rows=3, epochs=40, learning_rate=1e-3, checkpoint_steps=10, micro_batch_tokens=200
)


@pytest.fixture(scope="module")
def cluster(mother: Mother) -> Iterator[Machines]:
    """A head that trains as well; a test adds what else it needs."""
    with machines(mother.base.parent / "cache") as started:
        yield started


async def test_a_killed_machines_jobs_go_on_elsewhere_to_the_bits_of_undisturbed_ones(
    cluster: Machines, bench: Bench, tmp_path: Path
) -> None:
    settings = {seed: replace(SETTINGS, seed=seed) for seed in (1, 2)}
    expected = await asyncio.to_thread(undisturbed, bench, settings)
    other = await asyncio.to_thread(cluster.add)
    async with queue_over(cluster.address, bench.base, ROWS, tmp_path / "trainer") as queue:
        jobs = {seed: await queue.order(settings[seed]) for seed in settings}
        # Before they train: by the first step of the one the other may have ended.
        placed = {(await queue.until(job, is_placed)).lease.nodes: job for job in jobs.values()}
        assert placed.keys() == {(cluster.head,), (other,)}
        moved = placed[other,]
        await queue.until(moved, lambda now: now.measures.recorded.get("checkpoint", 0) > 0)
        cluster.kill(other)
        for seed, job in jobs.items():
            await queue.until(job, succeeded)
            assert sha256(queue.result(job)) == expected[seed]
        told = await queue.events(moved, EventKind.MESSAGE)
        assert [event.message for event in told if "was lost" in event.message]
        (again,) = [event.message for event in told if event.message.startswith("continuing after step")]
        assert int(again.split()[3].rstrip(";")) >= 10
        assert [node.alive for node in queue.executor.nodes() if node.node == other] == [False]


# Two to five minutes, most of which it waits for Ray to notice the death and to start again.
@pytest.mark.soak
async def test_full_fine_tuning_on_two_machines_survives_one_to_the_bits_of_an_undisturbed_run(
    cluster: Machines, bench: Bench, tmp_path: Path
) -> None:
    calm = bench.job("calm", FULL, ROWS)
    # In the thread of the test: what it forks from ends with the thread that starts it.
    train_together(calm, 2)
    other = await asyncio.to_thread(cluster.add)
    async with queue_over(cluster.address, bench.base, ROWS, tmp_path / "trainer") as queue:
        job = await queue.order(FULL, processes=2, base_bytes=0)
        begun = await queue.until(job, lambda now: now.measures.recorded.get("checkpoint", 0) > 0)
        assert set(begun.lease.nodes) == {cluster.head, other}
        cluster.kill(other)
        await queue.until(job, lambda now: now.crashes > 0)
        await asyncio.to_thread(cluster.add)
        await queue.until(job, succeeded)
        assert queue.result(job).joinpath("model.safetensors").read_bytes() == weights(calm).read_bytes()
        told = await queue.events(job, EventKind.MESSAGE)
        assert [event.message for event in told if event.message.startswith("continuing after step")]
        used = (await queue.jobs.get("acme", job.job)).measures.charged_seconds
        assert used > 0


def is_placed(job: Job) -> bool:
    return bool(job.lease.nodes)


def succeeded(job: Job) -> bool:
    return job.state is State.SUCCEEDED


def undisturbed(bench: Bench, jobs: Mapping[int, Settings]) -> dict[int, str]:
    """The digests of the adapters that the jobs become on one machine where nothing happens."""
    folders = {seed: bench.job(f"calm{seed}", settings, ROWS) for seed, settings in jobs.items()}
    worker = bench.worker()
    for folder in folders.values():
        worker.tell(join(folder))
    for _ in folders:
        worker.until(is_last)
    worker.end()
    return {seed: digest(folder) for seed, folder in folders.items()}


def sha256(result: Path) -> str:
    return hashlib.sha256((result / "adapter_model.safetensors").read_bytes()).hexdigest()
