"""The synchronous twins of `documents`; part of `synchronous`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trivium_client import nouns
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.loop import Loop


class Collections:
    """See `trivium_client.documents.Collections`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.collections

    def create(self, collection: str, description: str = "", *, exist_ok: bool = False) -> nouns.Collection:
        """Create a collection."""
        return self._loop.run(self._inner.create(collection, description, exist_ok=exist_ok))

    def get(self, collection: str) -> nouns.Collection:
        """One collection."""
        return self._loop.run(self._inner.get(collection))

    def list(self) -> Iterator[nouns.Collection]:
        """Every collection, by id."""
        return self._loop.iterate(self._inner.list())

    def update(self, collection: str, **changes: Any) -> nouns.Collection:
        """Change its description or how it is searched."""
        return self._loop.run(self._inner.update(collection, **changes))

    def delete(self, collection: str) -> int:
        """Delete a collection with all that is in it."""
        return self._loop.run(self._inner.delete(collection))

    def reindex(self, collection: str, to: str = "") -> Iterator[nouns.IndexBuild]:
        """Build a collection's index anew."""
        return self._loop.iterate(self._inner.reindex(collection, to))

    def reembed(self, collection: str, model: str) -> nouns.Collection:
        """Have a collection's vectors computed by another model."""
        return self._loop.run(self._inner.reembed(collection, model))

    def reembedded(self, collection: str, told: Callable[[nouns.Reembedding], None] | None = None) -> nouns.Collection:
        """Wait until no change of its model is under way."""
        return self._loop.run(self._inner.reembedded(collection, told))

    def cancel_reembedding(self, collection: str) -> nouns.Collection:
        """End a change of its model."""
        return self._loop.run(self._inner.cancel_reembedding(collection))


class Documents:
    """See `trivium_client.documents.Documents`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.docs

    def add(self, path: str | Path, *, collection: str, **options: Any) -> nouns.Document:
        """Store a file as a document."""
        return self._loop.run(self._inner.add(path, collection=collection, **options))

    def add_folder(self, folder: str | Path, *, collection: str, **options: Any) -> nouns.FolderReport:
        """Store a folder's files."""
        return self._loop.run(self._inner.add_folder(folder, collection=collection, **options))

    def follow_folder(self, folder: str | Path, *, collection: str, **options: Any) -> Iterator[nouns.FolderReport]:
        """Store a folder's files, and again after every change."""
        return self._loop.iterate(self._inner.follow_folder(folder, collection=collection, **options))

    def add_text(self, text: str, *, collection: str, document: str, **options: Any) -> nouns.Document:
        """Store a text under an id."""
        return self._loop.run(self._inner.add_text(text, collection=collection, document=document, **options))

    def get(self, document: str, *, collection: str) -> nouns.Document:
        """One document."""
        return self._loop.run(self._inner.get(document, collection=collection))

    def list(self, collection: str) -> Iterator[nouns.Document]:
        """Every document of a collection, by id."""
        return self._loop.iterate(self._inner.list(collection))

    def text(
        self, document: str, *, collection: str, version: str = "", start: int = 0, end: int = 0
    ) -> nouns.DocumentText:
        """Characters [start, end) of a version."""
        return self._loop.run(self._inner.text(document, collection=collection, version=version, start=start, end=end))

    def delete(self, document: str, *, collection: str) -> None:
        """Delete a document with all its versions."""
        self._loop.run(self._inner.delete(document, collection=collection))

    def watch(self, collection: str, document: str = "") -> Iterator[tuple[nouns.Document, int]]:
        """Ingestion states until nothing is pending."""
        return self._loop.iterate(self._inner.watch(collection, document))

    def search(self, query: str | Sequence[str], *, collections: str | Sequence[str], **options: Any) -> nouns.Findings:
        """Passages, best first."""
        return self._loop.run(self._inner.search(query, collections=collections, **options))

    def tune(self, collection: str, pairs: Sequence[tuple[str, Sequence[str]]], **options: Any) -> nouns.TuningReport:
        """Try ways to search on questions whose documents are known."""
        return self._loop.run(self._inner.tune(collection, pairs, **options))

    def search_pages(
        self, query: str | Sequence[str], *, collections: str | Sequence[str], **options: Any
    ) -> Iterator[nouns.Hit]:
        """Hits one by one, fetched page after page."""
        return self._loop.iterate(self._inner.search_pages(query, collections=collections, **options))

    def count(self, keywords: str = "", *, collection: str, **options: Any) -> nouns.Tally:
        """How many documents hold the keywords, exactly."""
        return self._loop.run(self._inner.count(keywords, collection=collection, **options))

    def matching(self, keywords: str = "", *, collection: str, **options: Any) -> Iterator[nouns.MatchingDocument]:
        """Every document that `count` counts, by id."""
        return self._loop.iterate(self._inner.matching(keywords, collection=collection, **options))

    def summarize(self, collection: str, **options: Any) -> nouns.Summary:
        """What a collection says, or what it says to a focus."""
        return self._loop.run(self._inner.summarize(collection, **options))
