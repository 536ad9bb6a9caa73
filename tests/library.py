"""The retriever over a real embedder and a real access, as processes, and a client that keeps documents in it."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from trivium.common.v1 import transfer_pb2
from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1 import retriever_pb2_grpc

from services.chassis.status import from_rpc_error
from tests.stack import RECONNECTS, Api, Process, Stack, eventually, peer_settings

CHUNK_BYTES = 512 * 1024
_QUICK = {
    "TRIVIUM_RETRIEVER_RETRY_SECONDS": "0.5",
    "TRIVIUM_RETRIEVER_EXPIRY_SECONDS": "0.3",
}


class Library:
    """A retriever process.  It shares access (and its key file) with a stack, and an embedder with who gives one."""

    def __init__(
        self,
        stack: Stack,
        data: Path,
        embedder_address: str,
        environment: Mapping[str, str] | None = None,
        *,
        prelude: str = "",
    ) -> None:
        """``prelude`` names a module of the tests that is imported in the retriever's process first."""
        data.mkdir(parents=True, exist_ok=True)
        self.stack = stack
        self.data = data
        self.embedder_address = embedder_address
        own = f"sqlite:///{data / 'retriever' / 'retriever.db'}"
        self.catalog_url = (environment or {}).get("TRIVIUM_RETRIEVER_DATABASE_URL", own)
        self.process = Process(
            "retriever",
            data,
            {
                **peer_settings(stack.access),
                "TRIVIUM_EMBEDDER_ADDRESS": embedder_address,
                **_QUICK,
                **(environment or {}),
            },
            prelude=prelude,
        ).start()
        self.process.keep_port()
        self._channel = grpc.insecure_channel(self.process.address, RECONNECTS)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self.process.stop()

    def restart(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Kill -9, start again at the same address, and wait until our own connection to it stands again."""
        self.process.kill()
        meanwhile()
        self.process.start()

        def reached() -> bool:
            try:
                self.api().ListCollections(pb.ListCollectionsRequest())
            except grpc.RpcError as error:
                return from_rpc_error(error).reason == "CREDENTIAL_MISSING"
            return False

        eventually(reached, "the retriever answers after its restart")

    def api(self, credential: str = "") -> Api:
        """The retriever, as the holder of a credential."""
        return Api(retriever_pb2_grpc.RetrieverServiceStub(self._channel), credential)

    def newcomer(self) -> "Reader":
        """Somebody in a tenant of their own, with one collection."""
        tenant = self.stack.tenant()
        reader = Reader(self.api(self.stack.tenant_key(tenant)), tenant)
        reader.create(reader.collection)
        return reader


class Reader:
    """The retriever in somebody's hands.  Calls concern ``collection`` unless they name another."""

    def __init__(self, api: Api, tenant: str) -> None:
        self.api = api
        self.tenant = tenant
        self.collection = f"c-{uuid.uuid4().hex[:8]}"

    def create(self, collection: str, **fields: Any) -> pb.Collection:
        """Create a collection."""
        answer: pb.Collection = self.api.CreateCollection(
            pb.CreateCollectionRequest(collection=collection, **fields)
        ).collection
        return answer

    def header(self, document: str, **fields: Any) -> pb.DocumentHeader:
        """What a put says about a document."""
        return pb.DocumentHeader(**{"collection": self.collection, "document": document, **fields})

    def put(self, document: str, content: str | bytes, **fields: Any) -> pb.PutDocumentResponse:
        """Store a document; it may not be searchable yet."""
        raw = content.encode() if isinstance(content, str) else content
        answer: pb.PutDocumentResponse = self.api.PutDocument(
            pb.PutDocumentRequest(header=self.header(document, **fields), content=raw)
        )
        return answer

    def add(self, document: str, content: str | bytes, **fields: Any) -> pb.Document:
        """Store a document and wait until it is searchable or has failed."""
        collection = fields.get("collection", self.collection)
        self.put(document, content, **fields)
        return self.settled(document, collection)

    def upload(self, document: str, content: bytes, **header: Any) -> pb.UploadDocumentResponse:
        """Store a document piece by piece; ``sha256`` and ``size_bytes`` may lie."""
        announced = {"filename": "f", "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        upload = transfer_pb2.UploadHeader(**{**announced, **header})

        def messages() -> Iterator[pb.UploadDocumentRequest]:
            yield pb.UploadDocumentRequest(
                header=pb.DocumentUploadHeader(document=self.header(document), upload=upload)
            )
            for start in range(0, len(content), CHUNK_BYTES):
                chunk = transfer_pb2.Chunk(offset_bytes=start, data=content[start : start + CHUNK_BYTES])
                yield pb.UploadDocumentRequest(chunk=chunk)

        answer: pb.UploadDocumentResponse = self.api.UploadDocument(messages())
        return answer

    def settled(self, document: str = "", collection: str = "") -> pb.Document:
        """Wait until nothing (of the document, or at all) is pending; the last state seen."""
        last = pb.Document()
        for message in self.watch(document, collection):
            last = message.document
        return last

    def watch(self, document: str = "", collection: str = "") -> Iterable[pb.WatchIngestionResponse]:
        """Ingestion states until nothing is pending."""
        request = pb.WatchIngestionRequest(collection=collection or self.collection, document=document)
        states: Iterable[pb.WatchIngestionResponse] = self.api.WatchIngestion(request)
        return states

    def get(self, document: str) -> pb.Document:
        """A document as it stands."""
        answer: pb.Document = self.api.GetDocument(
            pb.GetDocumentRequest(collection=self.collection, document=document)
        ).document
        return answer

    def text(self, document: str, version: str = "", start: int = 0, end: int = 0) -> str:
        """Characters of a version."""
        request = pb.GetDocumentTextRequest(
            collection=self.collection, document=document, version=version, start=start, end=end
        )
        return str(self.api.GetDocumentText(request).text)

    def delete(self, document: str) -> int:
        """Delete a document; the chunks that it had."""
        request = pb.DeleteDocumentRequest(collection=self.collection, document=document)
        return int(self.api.DeleteDocument(request).chunks)

    def search(self, *queries: str, **fields: Any) -> list[pb.Hit]:
        """Hits, best first."""
        return list(self.answer(*queries, **fields).hits)

    def answer(self, *queries: str, **fields: Any) -> pb.SearchResponse:
        """Hits with timings."""
        answer: pb.SearchResponse = self.api.Search(
            pb.SearchRequest(**{"collections": [self.collection], "queries": queries, **fields})
        )
        return answer

    def statistics(self) -> pb.GetStatisticsResponse:
        """Counts of the collection."""
        answer: pb.GetStatisticsResponse = self.api.GetStatistics(pb.GetStatisticsRequest(collection=self.collection))
        return answer
