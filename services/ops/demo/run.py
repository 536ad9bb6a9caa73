"""The demo from the first process to the last line.

Every stage looks first at what an earlier run left, so a second run is short and one
that was interrupted goes on where it was: pages and pairs are content-addressed, and
the training job has its checkpoints.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from trivium_client import AsyncTrivium

from services.ops.demo import adapter, library, report, roads
from services.ops.demo.scoring import questions
from services.ops.demo.stages import Bar, Stages
from services.ops.supervisor import Suite, launch
from services.ops.supervisor.record import ServiceState, SuiteRecord


def run(data_dir: Path, console: Console) -> None:
    """Start a suite of the demo's own, show training, serving and retrieval in it, stop it."""
    stages = Stages(console)
    stages.say(f"A suite of its own, on free ports, with its state in {data_dir}.")
    with ExitStack() as stack:
        with stages.stage("start the suite") as bar:
            suite = stack.enter_context(launch(data_dir, free_ports=True, progress=_starting(bar)))
        stack.callback(stages.say, "stopping the suite")
        asyncio.run(_demonstrate(suite, stages))
    stages.say(
        f"Done in {stages.total_seconds:.0f} s. Everything stays in {data_dir}; the next run takes it from there."
    )


def _starting(bar: Bar) -> Callable[[SuiteRecord], None]:
    def progress(record: SuiteRecord) -> None:
        waiting = [name for name, service in record.services.items() if service.state is not ServiceState.SERVING]
        total = len(record.services)
        bar.at(total - len(waiting), total, f"waiting for {', '.join(waiting)}" if waiting else "")

    return progress


async def _demonstrate(suite: Suite, stages: Stages) -> None:
    async with AsyncTrivium(addresses=suite.addresses, api_key=suite.api_key) as client:
        with stages.stage("ingest the handbook") as bar:
            stock = await library.stock(client, bar)
        known = " (known from an earlier run)" if stock.chunks_before == stock.chunks else ""
        stages.say(f"  {stock.pages} pages are searchable as {stock.chunks} passages{known}")
        version = await _adapted(client, stages)
        with stages.stage("swap by alias"):
            swap = await adapter.swap(client, version)
        _tell_swap(stages, swap)
        asked = questions()
        with stages.stage("ask on four roads") as bar:
            replies = await roads.travel(client, asked, version, bar)
        report.show(stages, asked, replies, swap)


async def _adapted(client: AsyncTrivium, stages: Stages) -> str:
    """Return the version of the adapter, trained now or before."""
    with stages.stage("store the pairs"):
        dataset = await adapter.upload(client)
        [engine, *_] = await client.models.engines()
        job = await adapter.earlier_job(client, dataset, engine.base_digest)
    stages.say(f"  {dataset.rows} pairs, {dataset.supervised_tokens} tokens to learn, {dataset.digest[:19]}…")
    if job is not None and job.version:
        stages.say(f"  these pairs, this base and these settings were trained before: job {job.job}")
        return job.version
    if job is not None:
        stages.say(f"  going on with the job {job.job} at step {job.step} of {job.total_steps}")
    with stages.stage("train while serving") as bar:
        job = await adapter.train(client, dataset, job, stages, bar)
    stages.say(f"  {job.trained_tokens} tokens in {job.step} steps, loss {job.loss:.3f}; version {job.version[:19]}…")
    return job.version


def _tell_swap(stages: Stages, swap: adapter.Swap) -> None:
    before = f"{swap.before[:19]}…" if swap.before else "nothing"
    started = [engine.start_time for engine in (swap.engine_before, swap.engine_after)]
    times = [f"{moment:%H:%M:%S}" if moment else "unknown" for moment in started]
    same = "a restart, which should not be" if swap.restarted else "the same process, no restart"
    if swap.before == swap.after:
        stages.say(f"  {adapter.MODEL}@{adapter.ALIAS} serves {before} since an earlier run")
    else:
        stages.say(f"  {adapter.MODEL}@{adapter.ALIAS} served {before}, serves {swap.after[:19]}… now")
    stages.say(f"  the engine started at {times[0]} before the swap, at {times[1]} after it: {same}")
