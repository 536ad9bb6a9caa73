"""The synchronous twins of `training`; part of `synchronous`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trivium_client import nouns
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.loop import Loop


class Datasets:
    """See `trivium_client.training.Datasets`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.data

    def upload(
        self, path: str | Path, *, name: str = "", progress: Callable[[int, int], None] | None = None
    ) -> nouns.Dataset:
        """Upload a JSON Lines file."""
        return self._loop.run(self._inner.upload(path, name=name, progress=progress))

    def get(self, dataset: str) -> nouns.Dataset:
        """One dataset by id or digest."""
        return self._loop.run(self._inner.get(dataset))

    def list(self) -> Iterator[nouns.Dataset]:
        """Every dataset, newest first."""
        return self._loop.iterate(self._inner.list())

    def validate(self, dataset: str, *, max_row_tokens: int = 0) -> Sequence[nouns.DatasetProblem]:
        """Everything that is wrong with a dataset, by line."""
        return self._loop.run(self._inner.validate(dataset, max_row_tokens=max_row_tokens))

    def delete(self, dataset: str) -> None:
        """Delete a dataset."""
        self._loop.run(self._inner.delete(dataset))


class Jobs:
    """See `trivium_client.training.Jobs`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.jobs

    def create(self, *, model: str, dataset: str, **options: Any) -> nouns.Job:
        """Queue a job."""
        return self._loop.run(self._inner.create(model=model, dataset=dataset, **options))

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

    def watch(self, job: str, *, after_sequence: int = 0) -> Iterator[nouns.JobEvent]:
        """A job's events until it ends."""
        return self._loop.iterate(self._inner.watch(job, after_sequence=after_sequence))

    def wait(self, job: str, *, progress: Callable[[nouns.JobEvent], None] | None = None) -> nouns.Job:
        """Return the job once it has ended."""
        return self._loop.run(self._inner.wait(job, progress=progress))
