"""Collections, documents and search."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from trivium.common.v1 import transfer_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from trivium_client import charsets, document_wire, folder_watch, nouns
from trivium_client.corpus import Corpus
from trivium_client.errors import ConflictError
from trivium_client.folder_files import Selection
from trivium_client.folders import FolderPasses, Place
from trivium_client.metadata import MetadataValue, header_fields
from trivium_client.rebuilding import Rebuilding
from trivium_client.searching import Searching
from trivium_client.transport import new_request_id, upload

# Above this a document travels as a stream; the contract's bound on one message is 3 MiB.
_INLINE_BYTES = 1 << 20


class Collections(Rebuilding):
    """Sets of documents that are searched together."""

    async def create(self, collection: str, description: str = "", *, exist_ok: bool = False) -> nouns.Collection:
        """Create a collection.  Raises ConflictError if it exists, unless `exist_ok`."""
        request = pb.CreateCollectionRequest(
            collection=collection, description=description, request_id=new_request_id()
        )
        try:
            response = await self._transport.call("retriever", self._stub().CreateCollection, request)
        except ConflictError:
            if not exist_ok:
                raise
            return await self.get(collection)
        return document_wire.collection(response.collection)

    async def list(self) -> AsyncIterator[nouns.Collection]:
        """Every collection of the tenant, by id."""
        request = pb.ListCollectionsRequest()
        while True:
            page = await self._transport.call("retriever", self._stub().ListCollections, request)
            for item in page.collections:
                yield document_wire.collection(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self,
        collection: str,
        *,
        description: str | None = None,
        search_settings: nouns.SearchSettings | None = None,
        answerable_threshold: float | None = None,
        etag: str = "",
    ) -> nouns.Collection:
        """Change its description, how it is searched where a request does not say, or its threshold; None leaves what is.

        Raises PreconditionError for settings that need a generator where there is none, ConflictError when it changed
        since `etag` was read.
        """
        settings = None if search_settings is None else document_wire.to_settings(search_settings)
        request = pb.UpdateCollectionRequest(
            collection=collection,
            description=description,
            search_settings=settings,
            answerable_threshold=answerable_threshold,
            etag=etag,
        )
        response = await self._transport.call("retriever", self._stub().UpdateCollection, request)
        return document_wire.collection(response.collection)

    async def delete(self, collection: str) -> int:
        """Delete a collection with all that is in it; returns how many documents that were."""
        request = pb.DeleteCollectionRequest(collection=collection)
        response = await self._transport.call("retriever", self._stub().DeleteCollection, request)
        return response.documents


class Documents(Searching, Corpus):
    """Documents of a collection: added at once, searchable when `watch` says ready."""

    async def add(
        self,
        path: str | Path,
        *,
        collection: str,
        document: str = "",
        title: str = "",
        metadata: Mapping[str, MetadataValue] | None = None,
        readers: Sequence[str] = (),
        charset: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> nouns.Document:
        """Store a file as a document (id: its name), or a new version of one; returns once it is durable.

        `metadata` are texts, numbers, booleans, dates, times and lists of texts; searches filter by them.  `readers`
        are the ids that may read it; without any, everybody of the tenant may.  `charset` is that of a text that is not
        UTF-8, such as latin-1.
        Raises ValueError for a charset that there is not, InvalidRequestError for a file that is not text, is empty or is
        too large.
        """
        path = Path(path)
        header = pb.DocumentHeader(
            collection=collection,
            document=document or path.name,
            title=title,
            media_type=charsets.media_type(charset),
            readers=readers,
            request_id=new_request_id(),
            **header_fields(metadata),
        )
        if path.stat().st_size <= _INLINE_BYTES:
            return await self._put(header, path.read_bytes())

        async def from_the_start(_: str) -> int:
            return 0

        def frame(part: transfer_pb2.UploadHeader | transfer_pb2.Chunk) -> pb.UploadDocumentRequest:
            if isinstance(part, transfer_pb2.Chunk):
                return pb.UploadDocumentRequest(chunk=part)
            return pb.UploadDocumentRequest(header=pb.DocumentUploadHeader(document=header, upload=part))

        response = await upload(
            self._transport,
            "retriever",
            path,
            send=self._stub().UploadDocument,
            committed=from_the_start,
            frame=frame,
            progress=progress,
        )
        return document_wire.document(response.document)

    async def add_folder(
        self,
        folder: str | Path,
        *,
        collection: str,
        prefix: str = "",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        metadata: Mapping[str, MetadataValue] | None = None,
        readers: Sequence[str] | None = None,
        charset: str = "",
        prune: bool = False,
        uploads: int = 4,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> nouns.FolderReport:
        """Store a folder's files, each under its path inside it, behind `prefix`; those that are there already stay.

        A file whose bytes the server has is not sent; one that is refused is named in the report, the others go on.
        `include` and `exclude` are globs over paths (see `folder_files.Selection`).  `metadata` are set beside what a
        document has already.  `readers` are as `add` has them; None leaves to each document those that it has.  `prune`
        deletes the documents that came from this folder and whose files are gone, once what was stored is searchable, so
        that a file with a new name has nothing embedded again.  `progress` hears (phase, done, whole) in files, `uploads`
        go at once.
        `charset` is that of the texts among them that are not UTF-8; those that were read under another one are sent again.
        Raises NotADirectoryError, ValueError for a charset that there is not, and TriviumError where going on is of no use.
        """
        selection = Selection(tuple(include), tuple(exclude))
        place = _place(folder, collection, prefix, selection, metadata, readers, charset)
        passes = FolderPasses(self, Collections(self._transport), place, uploads, progress or _unheard)
        return await passes.bring(prune=prune)

    async def follow_folder(
        self,
        folder: str | Path,
        *,
        collection: str,
        prefix: str = "",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        metadata: Mapping[str, MetadataValue] | None = None,
        readers: Sequence[str] | None = None,
        charset: str = "",
        prune: bool = False,
        uploads: int = 4,
    ) -> AsyncIterator[nouns.FolderReport]:
        """`add_folder`, and again after every change, until the iterator is closed: a report of each pass.

        While the server is away, a report says so (`waits`), and the pass is tried again.
        """
        selection = Selection(tuple(include), tuple(exclude))
        place = _place(folder, collection, prefix, selection, metadata, readers, charset)
        passes = FolderPasses(self, Collections(self._transport), place, uploads)
        async with aclosing(folder_watch.follow(passes, prune=prune)) as reports:
            async for report in reports:
                yield report

    async def add_text(
        self,
        text: str,
        *,
        collection: str,
        document: str,
        title: str = "",
        metadata: Mapping[str, MetadataValue] | None = None,
        readers: Sequence[str] = (),
    ) -> nouns.Document:
        """Store a text under an id; its kind follows the id's ending (.md is Markdown).  As `add` otherwise."""
        header = pb.DocumentHeader(
            collection=collection,
            document=document,
            title=title,
            readers=readers,
            request_id=new_request_id(),
            **header_fields(metadata),
        )
        return await self._put(header, text.encode())

    async def _put(self, header: pb.DocumentHeader, content: bytes) -> nouns.Document:
        request = pb.PutDocumentRequest(header=header, content=content)
        response = await self._transport.call("retriever", self._stub().PutDocument, request)
        return document_wire.document(response.document)

    async def get(self, document: str, *, collection: str) -> nouns.Document:
        """One document.  Raises NotFoundError."""
        request = pb.GetDocumentRequest(collection=collection, document=document)
        response = await self._transport.call("retriever", self._stub().GetDocument, request)
        return document_wire.document(response.document)

    async def list(self, collection: str) -> AsyncIterator[nouns.Document]:
        """Every document of a collection, by id."""
        request = pb.ListDocumentsRequest(collection=collection)
        while True:
            page = await self._transport.call("retriever", self._stub().ListDocuments, request)
            for item in page.documents:
                yield document_wire.document(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def text(
        self, document: str, *, collection: str, version: str = "", start: int = 0, end: int = 0
    ) -> nouns.DocumentText:
        """Characters [start, end) of a version: what a citation resolves to; `end` 0 means the end."""
        request = pb.GetDocumentTextRequest(
            collection=collection, document=document, version=version, start=start, end=end
        )
        response = await self._transport.call("retriever", self._stub().GetDocumentText, request)
        return nouns.DocumentText(response.text, response.version, response.characters)

    async def delete(self, document: str, *, collection: str) -> None:
        """Delete a document with all its versions."""
        request = pb.DeleteDocumentRequest(collection=collection, document=document)
        await self._transport.call("retriever", self._stub().DeleteDocument, request)

    async def watch(self, collection: str, document: str = "") -> AsyncGenerator[tuple[nouns.Document, int]]:
        """Ingestion states with the number still pending, until nothing is."""
        request = pb.WatchIngestionRequest(collection=collection, document=document)
        async for message in self._transport.stream("retriever", self._stub().WatchIngestion, request):
            yield document_wire.document(message.document), message.pending


def _place(
    folder: str | Path,
    collection: str,
    prefix: str,
    selection: Selection,
    metadata: Mapping[str, MetadataValue] | None,
    readers: Sequence[str] | None,
    charset: str,
) -> Place:
    path = Path(folder)
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder")
    whom = None if readers is None else tuple(sorted(set(readers)))
    named = charsets.known_as(charset)
    return Place(path, collection, prefix.strip("/"), selection, dict(metadata or {}), whom, named)


def _unheard(phase: str, done: int, whole: int) -> None:
    """Nobody looks."""
