"""The demo's adapter: trained while everything serves, or taken from an earlier run, then swapped in.

Invariant: a job counts as done before only when it trained on the same bytes, over the
same base, with the same settings.
"""

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime

from trivium_client import AsyncTrivium, NotFoundError, TriviumError
from trivium_client.answers import Sampling
from trivium_client.nouns import Dataset, Engine, Job, LoraSettings, TrainingSettings

from services.ops.demo.recipe import RECIPE
from services.ops.demo.scoring import FOLDER
from services.ops.demo.stages import Bar, DemoError, Stages

MODEL = "ferry-house"
ALIAS = "prod"
SETTINGS = TrainingSettings(
    method="lora",
    lora=LoraSettings(rank=RECIPE["rank"], alpha=RECIPE["alpha"]),
    epochs=RECIPE["epochs"],
    batch_rows=RECIPE["batch_rows"],
    learning_rate=RECIPE["learning_rate"],
    schedule=RECIPE["schedule"],
    seed=RECIPE["seed"],
    checkpoint_steps=10,
)
_MEANWHILE = ("What is the capital of Japan?", "Name three colours.")


class TrainingFailedError(DemoError):
    """The training job ended without a version; the text says why."""


class SwapFailedError(DemoError):
    """The alias did not come to serve the version; the text says why."""


async def upload(client: AsyncTrivium) -> Dataset:
    """Store the training pairs; the same bytes are the same dataset."""
    return await client.data.upload(FOLDER / "pairs.jsonl", name="house-form")


async def earlier_job(client: AsyncTrivium, dataset: Dataset, base_digest: str) -> Job | None:
    """Return the job that already made, or is making, what the demo wants."""
    async for job in client.jobs.list():
        if job.model != MODEL or job.dataset_digest != dataset.digest or job.base_digest != base_digest:
            continue
        if job.state not in {"failed", "cancelled", "cancelling"} and same_recipe(job.settings):
            return job
    return None


def same_recipe(settings: TrainingSettings) -> bool:
    """Whether a job was run as the recipe says; its settings have every default filled in."""
    numbers = [
        (settings.lora.rank, RECIPE["rank"]),
        (settings.lora.alpha, RECIPE["alpha"]),
        (settings.epochs, RECIPE["epochs"]),
        (settings.batch_rows, RECIPE["batch_rows"]),
        (settings.learning_rate, RECIPE["learning_rate"]),
        (settings.seed, RECIPE["seed"]),
    ]
    close = all(ours is not None and math.isclose(ours, wanted, rel_tol=1e-6) for ours, wanted in numbers)
    return close and settings.schedule == RECIPE["schedule"]


async def train(client: AsyncTrivium, dataset: Dataset, found: Job | None, stages: Stages, bar: Bar) -> Job:
    """Create the job, or go on with `found`, and watch it to its end.  Raises TrainingFailedError."""
    job = found or await client.jobs.create(model=MODEL, dataset=dataset.dataset, settings=SETTINGS)
    if job.state == "paused":
        job = await client.jobs.resume(job.job)
    bar.at(job.step, job.total_steps, "waiting for the next step")
    async with asyncio.TaskGroup() as group:
        meanwhile = group.create_task(_ask_meanwhile(client, stages))
        async for event in client.jobs.watch(job.job, stands=lambda now: _stands(bar, now)):
            if event.kind == "step":
                bar.at(event.step, event.total_steps, f"loss {event.loss:.3f}")
        meanwhile.cancel()
    job = await client.jobs.get(job.job)
    if job.state != "succeeded":
        raise TrainingFailedError(f"the training job {job.job} ended as {job.state}: {job.error or 'no reason given'}")
    return job


def _stands(bar: Bar, job: Job) -> None:
    """Say of a job that takes no step why, where the trainer knows."""
    if job.waiting_reason:
        bar.at(job.step, job.total_steps, job.waiting_reason)


async def _ask_meanwhile(client: AsyncTrivium, stages: Stages) -> None:
    """Show that the base goes on answering while the trainer works."""
    clock = asyncio.get_running_loop().time
    for question in _MEANWHILE:
        await asyncio.sleep(8)
        begun = clock()
        try:
            answer = await client.answer(question, model="base", sampling=Sampling(max_tokens=24))
        except TriviumError as error:
            stages.say(f"  asked meanwhile: {question}  failed: {error}")
        else:
            text = " ".join(answer.text.split())[:70]
            stages.say(f"  asked the base meanwhile: {question} -> {text} ({clock() - begun:.1f} s)")


@dataclass(frozen=True, slots=True)
class Swap:
    """A change of what the alias serves, and the engine before and after it."""

    before: str
    after: str
    engine_before: Engine
    engine_after: Engine

    @property
    def restarted(self) -> bool:
        """Whether the engine is another process than it was."""
        return (self.engine_before.start_time, self.engine_before.restarts) != (
            self.engine_after.start_time,
            self.engine_after.restarts,
        )

    @property
    def engine_start(self) -> datetime | None:
        """When the engine's process started."""
        return self.engine_after.start_time


async def swap(client: AsyncTrivium, version: str) -> Swap:
    """Point the alias at `version` and wait until it serves."""
    [engine_before, *_] = await client.models.engines()
    before = await _serving(client)
    await client.models.set_alias(MODEL, version, alias=ALIAS)
    alias = await client.models.wait_alias(MODEL, ALIAS)
    if alias.serving_version != version:
        raise SwapFailedError(f"{MODEL}@{ALIAS} does not serve {version}: {alias.reason}")
    [engine_after, *_] = await client.models.engines()
    return Swap(before, alias.serving_version, engine_before, engine_after)


async def _serving(client: AsyncTrivium) -> str:
    try:
        return (await client.models.alias(MODEL, ALIAS)).serving_version
    except NotFoundError:
        return ""
