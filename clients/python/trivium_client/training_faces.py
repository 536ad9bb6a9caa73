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
        """Upload a JSON Lines, CSV or Parquet file."""
        return self._loop.run(self._inner.upload(path, name=name, progress=progress))

    def get(self, dataset: str) -> nouns.Dataset:
        """One dataset by name, name@version or digest."""
        return self._loop.run(self._inner.get(dataset))

    def list(self) -> Iterator[nouns.Dataset]:
        """Every version of every dataset, newest first."""
        return self._loop.iterate(self._inner.list())

    def validate(
        self,
        dataset: str,
        *,
        max_row_tokens: int = 0,
        base: str = "",
        settings: nouns.TrainingSettings | None = None,
        validation_dataset: str = "",
        recipe: str = "",
    ) -> nouns.DatasetCheck:
        """What a job with these settings would make of a dataset, and everything that is wrong with it."""
        checking = self._inner.validate(
            dataset,
            max_row_tokens=max_row_tokens,
            base=base,
            settings=settings,
            validation_dataset=validation_dataset,
            recipe=recipe,
        )
        return self._loop.run(checking)

    def problems(self, dataset: str) -> Iterator[nouns.DatasetProblem]:
        """All that the newest check said of a dataset's lines."""
        return self._loop.iterate(self._inner.problems(dataset))

    def preview(
        self,
        dataset: str,
        *,
        offset: int = 0,
        rows: int = 5,
        base: str = "",
        settings: nouns.TrainingSettings | None = None,
        recipe: str = "",
    ) -> Sequence[nouns.PreviewRow]:
        """Rows as they are trained on, token by token."""
        return self._loop.run(
            self._inner.preview(dataset, offset=offset, rows=rows, base=base, settings=settings, recipe=recipe)
        )

    def delete(self, dataset: str) -> None:
        """Delete a dataset."""
        self._loop.run(self._inner.delete(dataset))
