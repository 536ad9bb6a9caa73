"""A folder and the documents that come from it: what is new is sent, what is the same is not, what is gone is known.

Invariant: a document counts as the folder's only if it says so itself (metadata `folder`) and its id is under the
folder's prefix; so pruning one folder takes nothing of another one in the same collection, nor what was put by hand.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trivium_client import nouns
from trivium_client.charsets import is_read_as
from trivium_client.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RequestTimeoutError,
    ServerError,
    TriviumError,
    UnavailableError,
)
from trivium_client.folder_files import Found, Selection, below
from trivium_client.metadata import MetadataValue, as_held
from trivium_client.transport import sha256_of

if TYPE_CHECKING:
    from trivium_client.documents import Collections, Documents

T = TypeVar("T")
# Says of a document from which folder it came.
FOLDER = "folder"
# Whoever goes on waits for these to pass; everything else ends the work.
PASSING = (UnavailableError, OverloadedError, RequestTimeoutError)
# What the server says of one file, and not of all.
_OF_ONE_FILE = (InvalidRequestError, ConflictError, PreconditionError, ServerError)
# How long a deletion waits for what was stored to be searchable, so that a renamed file's vectors are found.
_SETTLE_SECONDS = 60.0
_OVERLOADED_TRIES = 6
_OVERLOADED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and where in which collection its files become documents."""

    folder: Path
    collection: str
    prefix: str = ""
    selection: Selection = field(default_factory=Selection)
    # Beside what a document has already.
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    # None leaves to each document those that it has.
    readers: tuple[str, ...] | None = None
    # Of the texts in it, by its one name; empty where they are UTF-8.
    charset: str = ""

    def __post_init__(self) -> None:
        if FOLDER in self.metadata:
            raise ValueError(f"the metadata {FOLDER!r} says from which folder a document comes; choose another name")

    def document(self, relative: str) -> str:
        """The id of the file at this path inside the folder."""
        return f"{self.prefix}/{relative}" if self.prefix else relative

    def relative(self, document: str) -> str | None:
        """The path inside the folder that a document of this id has; None for one that is not under the prefix."""
        if not self.prefix:
            return document
        return document.removeprefix(f"{self.prefix}/") if document.startswith(f"{self.prefix}/") else None

    @property
    def label(self) -> str:
        """What its documents say of where they come from: the prefix, else the name with a digest of the whole path."""
        whole = self.folder.resolve()
        return self.prefix or f"{whole.name}#{hashlib.sha256(str(whole).encode(errors='replace')).hexdigest()[:8]}"


@dataclass(slots=True)
class FolderPasses:
    """Passes over one folder; the second sends only what changed since the first.  Belongs to one event loop."""

    docs: Documents
    collections: Collections
    place: Place
    uploads: int = 4
    progress: Callable[[str, int, int], None] = lambda phase, done, whole: None
    _known: dict[str, nouns.Document] | None = None
    _digests: dict[str, tuple[tuple[int, int, int], str]] = field(default_factory=dict)
    _refused: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    async def bring(self, *, prune: bool) -> nouns.FolderReport:
        """Send what is new or changed, then delete what is gone if that is wanted.  Raises TriviumError, OSError."""
        there = await asyncio.to_thread(below, self.place.folder, self.place.selection)
        known = await self._listed()
        unread = await self._digested(there.files)
        wanted = [file for file in there.files if file.relative in self._digests]
        changed = [file for file in wanted if not self._same(file, known.get(self.place.document(file.relative)))]
        stored, refused = await self._stored(changed)
        missing = tuple(await asyncio.to_thread(self._missing, sorted(known)))
        pruned = await self._pruned(missing, stored) if prune else ()
        return nouns.FolderReport(
            stored=tuple(stored),
            unchanged=len(wanted) - len(changed),
            refused=tuple(sorted([*unread, *refused], key=lambda file: file.path)),
            missing=missing,
            pruned=pruned,
            left_out=there.left_out,
        )

    def forget(self) -> None:
        """The server was away: what it holds is looked up again."""
        self._known = None

    async def _listed(self) -> dict[str, nouns.Document]:
        if self._known is None:
            known: dict[str, nouns.Document] = {}
            with suppress(NotFoundError):
                async for document in self.docs.list(self.place.collection):
                    known[document.document] = document
            self._known = known
        return self._known

    async def _digested(self, files: Sequence[Found]) -> list[nouns.RefusedFile]:
        """Know the digest of each file; those that cannot be read."""
        self._digests = {file.relative: held for file in files if (held := self._digests.get(file.relative))}
        todo = [file for file in files if self._digests.get(file.relative, (None, ""))[0] != file.stamp]
        unread = []

        async def digest(file: Found) -> None:
            self._digests.pop(file.relative, None)
            try:
                self._digests[file.relative] = (file.stamp, await asyncio.to_thread(sha256_of, file.path))
            except FileNotFoundError:
                return
            except OSError as error:
                if self._news(file):
                    unread.append(self._refusal(file, error.strerror or str(error)))

        await each(todo, digest, self.uploads, lambda done: self.progress("reading", done, len(todo)))
        return unread

    def _same(self, file: Found, document: nouns.Document | None) -> bool:
        return (
            document is not None
            and document.source_sha256 == self._digests[file.relative][1]
            and document.state != "failed"
            and _holds(document, self._metadata(document))
            and self.place.readers in (None, document.readers)
            and (not self.place.charset or is_read_as(document.media_type, self.place.charset))
        )

    def _metadata(self, held: nouns.Document | None) -> dict[str, MetadataValue]:
        before = {**held.metadata, **held.typed_metadata} if held else {}
        return {**before, **self.place.metadata, FOLDER: self.place.label}

    async def _stored(self, files: Sequence[Found]) -> tuple[list[nouns.Document], list[nouns.RefusedFile]]:
        stored: list[nouns.Document] = []
        refused: list[nouns.RefusedFile] = []
        # What was refused as it is now would be refused again.
        todo = [file for file in files if self._refused.get(file.relative) != file.stamp]

        async def store(file: Found) -> None:
            try:
                document = await self._put(file)
            except FileNotFoundError:
                return
            except (*_OF_ONE_FILE, OSError, UnicodeEncodeError) as error:
                if self._news(file):
                    refused.append(self._refusal(file, _sentence(error)))
                return
            stored.append(document)
            assert self._known is not None
            self._known[document.document] = document

        await each(todo, store, self.uploads, lambda done: self.progress("storing", done, len(todo)))
        return sorted(stored, key=lambda document: document.document), refused

    async def _put(self, file: Found) -> nouns.Document:
        for wait in range(_OVERLOADED_TRIES):
            try:
                return await self._put_once(file)
            except OverloadedError as error:
                if wait == _OVERLOADED_TRIES - 1:
                    raise
                await asyncio.sleep(error.retry_after_seconds or _OVERLOADED_SECONDS * 2**wait)
        raise AssertionError("the last try returns or raises")

    async def _put_once(self, file: Found) -> nouns.Document:
        """Store a file; the collection is made with its first document."""
        try:
            return await self._added(file)
        except NotFoundError as error:
            if error.reason != "COLLECTION_NOT_FOUND":
                raise
        await self.collections.create(self.place.collection, exist_ok=True)
        return await self._added(file)

    async def _added(self, file: Found) -> nouns.Document:
        place, name = self.place, self.place.document(file.relative)
        held = self._known.get(name) if self._known else None
        readers = place.readers if place.readers is not None else held.readers if held else ()
        return await self.docs.add(
            file.path,
            collection=place.collection,
            document=name,
            metadata=self._metadata(held),
            readers=readers,
            charset=place.charset,
        )

    def _news(self, file: Found) -> bool:
        """Whether this refusal is not known yet."""
        before, self._refused[file.relative] = self._refused.get(file.relative), file.stamp
        return before != file.stamp

    def _refusal(self, file: Found, reason: str) -> nouns.RefusedFile:
        return nouns.RefusedFile(str(file.path), self.place.document(file.relative), reason)

    def _missing(self, documents: Sequence[str]) -> list[str]:
        """Documents of this folder without a file; blocks.  One that the globs leave out has its file still."""
        assert self._known is not None
        if not self.place.folder.is_dir():
            # A disk that is not mounted has lost nothing.
            return []
        mine = [name for name in documents if self._known[name].metadata.get(FOLDER) == self.place.label]
        return [
            name for name in mine if (path := self.place.relative(name)) and not (self.place.folder / path).is_file()
        ]

    async def _pruned(self, missing: Sequence[str], stored: Sequence[nouns.Document]) -> tuple[str, ...]:
        if missing and stored:
            await settled(self.docs, self.place.collection, {document.document for document in stored})

        async def delete(document: str) -> None:
            with suppress(NotFoundError):
                await self.docs.delete(document, collection=self.place.collection)
            assert self._known is not None
            self._known.pop(document, None)

        await each(missing, delete, self.uploads, lambda done: self.progress("deleting", done, len(missing)))
        return tuple(missing)


async def settled(docs: Documents, collection: str, documents: set[str]) -> None:
    """Wait, but not for ever, until these documents are searchable or have failed: who needs their vectors goes last."""
    waiting = set(documents)
    with suppress(TimeoutError):
        async with asyncio.timeout(_SETTLE_SECONDS), aclosing(docs.watch(collection)) as states:
            async for document, _ in states:
                if document.state not in ("pending", "running"):
                    waiting.discard(document.document)
                if not waiting:
                    return


async def each(
    items: Sequence[T], work: Callable[[T], Awaitable[None]], at_once: int, told: Callable[[int], None]
) -> None:
    """Do the work for every item, so many at a time; what one raises ends the others and is raised."""
    waiting = iter(items)
    done = 0

    async def worker() -> None:
        nonlocal done
        for item in waiting:
            await work(item)
            done += 1
            told(done)

    workers = [asyncio.create_task(worker()) for _ in range(min(at_once, len(items)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _holds(document: nouns.Document, metadata: Mapping[str, MetadataValue]) -> bool:
    return {**document.metadata, **document.typed_metadata} == {name: as_held(it) for name, it in metadata.items()}


def _sentence(error: Exception) -> str:
    if isinstance(error, TriviumError):
        return error.message
    if isinstance(error, UnicodeEncodeError):
        return "its name is not UTF-8; rename it"
    return getattr(error, "strerror", None) or str(error)
