"""The synchronous twins of `jobs` and `sweeps`; part of `synchronous`."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Unpack

from trivium_client import nouns
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.loop import Loop


class Jobs:
    """See `trivium_client.jobs.Jobs`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.jobs

    def create(self, *, model: str, dataset: str, request_id: str = "", **fields: Unpack[nouns.JobFields]) -> nouns.Job:
        """Queue a job."""
        return self._loop.run(self._inner.create(model=model, dataset=dataset, request_id=request_id, **fields))

    def estimate(self, *, model: str, dataset: str, **fields: Unpack[nouns.JobFields]) -> nouns.JobEstimate:
        """What a job would cost."""
        return self._loop.run(self._inner.estimate(model=model, dataset=dataset, **fields))

    def get(self, job: str) -> nouns.Job:
        """One job."""
        return self._loop.run(self._inner.get(job))

    def list(self) -> Iterator[nouns.Job]:
        """Every job, newest first."""
        return self._loop.iterate(self._inner.list())

    def like(self, part: str) -> Sequence[nouns.Job]:
        """The jobs whose id begins or ends with `part`."""
        return self._loop.run(self._inner.like(part))

    def cancel(self, job: str) -> nouns.Job:
        """Ask a job to end."""
        return self._loop.run(self._inner.cancel(job))

    def pause(self, job: str) -> nouns.Job:
        """Ask a job to stop with a checkpoint."""
        return self._loop.run(self._inner.pause(job))

    def resume(self, job: str) -> nouns.Job:
        """Queue a paused job again."""
        return self._loop.run(self._inner.resume(job))

    def checkpoints(self, job: str) -> Sequence[nouns.Checkpoint]:
        """The checkpoints of a job that are kept."""
        return self._loop.run(self._inner.checkpoints(job))

    def publish(
        self, job: str, *, step: int = 0, model: str = "", alias: str = "", request_id: str = ""
    ) -> nouns.PublishedCheckpoint:
        """Make a version of a checkpoint."""
        return self._loop.run(self._inner.publish(job, step=step, model=model, alias=alias, request_id=request_id))

    def watch(self, job: str, **options: Any) -> Generator[nouns.JobEvent]:
        """A job's events until it ends."""
        return self._loop.iterate(self._inner.watch(job, **options))

    def wait(self, job: str, *, progress: Callable[[nouns.JobEvent], None] | None = None) -> nouns.Job:
        """Return the job once it has ended."""
        return self._loop.run(self._inner.wait(job, progress=progress))


class Sweeps:
    """See `trivium_client.sweeps.Sweeps`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.sweeps

    def create(self, *, model: str, dataset: str, **options: Any) -> nouns.Sweep:
        """Queue a search over settings."""
        return self._loop.run(self._inner.create(model=model, dataset=dataset, **options))

    def estimate(self, *, model: str, dataset: str, **options: Any) -> nouns.SweepEstimate:
        """What a search would cost."""
        return self._loop.run(self._inner.estimate(model=model, dataset=dataset, **options))

    def get(self, sweep: str) -> nouns.Sweep:
        """One sweep with the table of its members."""
        return self._loop.run(self._inner.get(sweep))

    def list(self) -> Iterator[nouns.Sweep]:
        """Every sweep, newest first."""
        return self._loop.iterate(self._inner.list())

    def like(self, part: str) -> Sequence[nouns.Sweep]:
        """The sweeps whose id begins or ends with `part`."""
        return self._loop.run(self._inner.like(part))

    def cancel(self, sweep: str) -> nouns.Sweep:
        """Ask a sweep and its members to end."""
        return self._loop.run(self._inner.cancel(sweep))

    def watch(self, sweep: str, *, every_seconds: float = 1.0) -> Generator[nouns.Sweep]:
        """A sweep as it is, then whenever a member got further, until it ends."""
        return self._loop.iterate(self._inner.watch(sweep, every_seconds=every_seconds))


class Recipes:
    """See `trivium_client.sweeps.Recipes`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.recipes

    def list(self) -> Sequence[nouns.Recipe]:
        """Every recipe."""
        return self._loop.run(self._inner.list())

    def fill(self, recipe: str, dataset: str, *, choice: str = "", model: str = "") -> nouns.FilledRecipe:
        """An order for a dataset, with the reasons."""
        return self._loop.run(self._inner.fill(recipe, dataset, choice=choice, model=model))
