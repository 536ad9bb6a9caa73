"""The synchronous twins of `training`; part of `synchronous`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

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
