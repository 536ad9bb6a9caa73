"""The RPCs of the retriever: wire to domain, call, domain to wire."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1 import retriever_pb2_grpc

from services.chassis import paging
from services.chassis.idempotency import key_for
from services.chassis.interceptors.call import MethodPolicy
from services.retriever import (
    wire,
    wire_aggregate,
    wire_batches,
    wire_listing,
    wire_search,
    wire_sources,
    wire_summaries,
    wire_tuning,
)
from services.retriever.verbs import Verbs

# A tree is built, and worded, within the call; who is cut off goes on with the next.
_SUMMARY_SECONDS = 600.0

POLICIES = {"Summarize": MethodPolicy(default_seconds=_SUMMARY_SECONDS, max_seconds=_SUMMARY_SECONDS)}


class RetrieverServicer(retriever_pb2_grpc.RetrieverServiceServicer):
    """Serves the verbs."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def CreateCollection(self, request: pb.CreateCollectionRequest, context: Any) -> pb.CreateCollectionResponse:
        draft = wire.collection_draft(request)
        created = await self._do.collections.create(wire.tenant(), draft, key_for(request))
        return pb.CreateCollectionResponse(collection=wire.collection(created))

    async def GetCollection(self, request: pb.GetCollectionRequest, context: Any) -> pb.GetCollectionResponse:
        found = await self._do.collections.get(wire.tenant(), request.collection)
        return pb.GetCollectionResponse(collection=wire.collection(found))

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Any) -> pb.ListCollectionsResponse:
        asked = wire_listing.asked(request, *wire_listing.holding(request))
        viewer = wire.viewer(())
        page = await self._do.collections.page(wire.tenant(), asked, request.document, viewer)
        hidden = await self._do.collections.hides(wire.tenant(), request.document, viewer)
        shown = [wire.collection(item) for item in page.entries]
        more = wire_listing.token(request, page, *wire_listing.holding(request))
        return pb.ListCollectionsResponse(collections=shown, next_page_token=more, hidden=hidden)

    async def UpdateCollection(self, request: pb.UpdateCollectionRequest, context: Any) -> pb.UpdateCollectionResponse:
        wanted = wire.collection_change(request)
        changed = await self._do.collections.update(wire.tenant(), request.collection, wanted)
        return pb.UpdateCollectionResponse(collection=wire.collection(changed))

    async def DeleteCollection(self, request: pb.DeleteCollectionRequest, context: Any) -> pb.DeleteCollectionResponse:
        return pb.DeleteCollectionResponse(
            documents=await self._do.removal.collection(wire.tenant(), request.collection, request.etag)
        )

    async def PutDocument(self, request: pb.PutDocumentRequest, context: Any) -> pb.PutDocumentResponse:
        stored = await self._do.intake.put(
            wire.tenant(), wire.draft(request.header), request.content, wire.put_key(request)
        )
        return wire.put_response(stored)

    async def UploadDocument(
        self, requests: AsyncIterator[pb.UploadDocumentRequest], context: Any
    ) -> pb.UploadDocumentResponse:
        header = await wire.upload_header(requests)
        stored = await self._do.intake.upload(
            wire.tenant(),
            wire.draft(header.document),
            wire.announced(header),
            wire.chunks(requests),
            wire.upload_key(header),
        )
        return wire.upload_response(stored)

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> pb.GetDocumentResponse:
        viewer = wire.viewer(request.as_readers)
        found = await self._do.documents.get(wire.tenant(), request.collection, request.document, viewer)
        return pb.GetDocumentResponse(document=wire.document(found))

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> pb.ListDocumentsResponse:
        viewer, states = wire.viewer(request.as_readers), wire_batches.states(request.states)
        asked = wire_listing.asked(request, request.collection)
        page = await self._do.documents.page(wire.tenant(), request.collection, asked, states, viewer)
        shown = [wire.document(item) for item in page.entries]
        more = wire_listing.token(request, page, request.collection)
        return pb.ListDocumentsResponse(documents=shown, next_page_token=more)

    async def ListDocumentVersions(
        self, request: pb.ListDocumentVersionsRequest, context: Any
    ) -> pb.ListDocumentVersionsResponse:
        size, viewer = paging.size_of(request.page_size), wire.viewer(request.as_readers)
        filters = request.collection, request.document
        before = paging.number(request.page_token, *filters)
        found = await self._do.documents.versions(wire.tenant(), *filters, before, size + 1, viewer)
        more = paging.encode([found[size - 1].sequence], *filters) if len(found) > size else ""
        return pb.ListDocumentVersionsResponse(
            versions=[wire.version(item) for item in found[:size]], next_page_token=more
        )

    async def GetDocumentText(self, request: pb.GetDocumentTextRequest, context: Any) -> pb.GetDocumentTextResponse:
        span = request.version, request.start, request.end
        viewer = wire.viewer(request.as_readers)
        excerpt = await self._do.documents.text(wire.tenant(), request.collection, request.document, *span, viewer)
        return wire.excerpt(excerpt)

    async def UpdateDocument(self, request: pb.UpdateDocumentRequest, context: Any) -> pb.UpdateDocumentResponse:
        named = wire.tenant(), request.collection, request.document
        wanted = dict(request.metadata), wire.attributes(request)
        changed = await self._do.documents.describe(*named, *wanted, wire.viewer(()))
        return pb.UpdateDocumentResponse(document=wire.document(changed))

    async def CreateDocumentBatch(
        self, request: pb.CreateDocumentBatchRequest, context: Any
    ) -> pb.CreateDocumentBatchResponse:
        brought = request.documents, wire_batches.refused(request)
        made = await self._do.batches.create(
            wire.tenant(), request.collection, *brought, key_for(request), wire.viewer(())
        )
        return pb.CreateDocumentBatchResponse(batch=wire_batches.batch(made))

    async def GetDocumentBatch(self, request: pb.GetDocumentBatchRequest, context: Any) -> pb.GetDocumentBatchResponse:
        found = await self._do.batches.get(wire.tenant(), request.collection, request.batch, wire.viewer(()))
        return pb.GetDocumentBatchResponse(batch=wire_batches.batch(found))

    async def CancelDocumentBatch(
        self, request: pb.CancelDocumentBatchRequest, context: Any
    ) -> pb.CancelDocumentBatchResponse:
        left = await self._do.batches.cancel(wire.tenant(), request.collection, request.batch, wire.viewer(()))
        return pb.CancelDocumentBatchResponse(batch=wire_batches.batch(left))

    async def ListBatchDocuments(
        self, request: pb.ListBatchDocumentsRequest, context: Any
    ) -> pb.ListBatchDocumentsResponse:
        viewer, states = wire.viewer(request.as_readers), wire_batches.states(request.states)
        named = request.collection, request.batch
        asked = wire_listing.asked(request, *named, of_a_batch=True)
        page = await self._do.batches.page(wire.tenant(), *named, asked, states, viewer)
        shown = [wire.document(item) for item in page.entries]
        return pb.ListBatchDocumentsResponse(documents=shown, next_page_token=wire_listing.token(request, page, *named))

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Any) -> pb.DeleteDocumentResponse:
        viewer = wire.viewer(())
        chunks = await self._do.removal.document(wire.tenant(), request.collection, request.document, viewer)
        return pb.DeleteDocumentResponse(chunks=chunks)

    async def WatchIngestion(
        self, request: pb.WatchIngestionRequest, context: Any
    ) -> AsyncIterator[pb.WatchIngestionResponse]:
        watched = request.collection, request.document, wire.viewer(request.as_readers)
        async with aclosing(self._do.watching.follow(wire.tenant(), *watched)) as beats:
            async for beat in beats:
                yield wire.beat(beat)

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        question = wire_search.question(request, self._do.dense_weight)
        found = await self._do.search.search(wire.tenant(), question, wire_search.stated(request))
        return wire_search.found(found)

    async def Tune(self, request: pb.TuneRequest, context: Any) -> AsyncIterator[pb.TuneResponse]:
        asked = wire.tenant(), request.collection, wire_tuning.pairs(request), wire.viewer(())
        trying = self._do.tuner.tune(*asked, unanswerable=tuple(request.unanswerable), apply=request.apply)
        async with aclosing(trying) as steps:
            async for step in steps:
                yield wire_tuning.told(step)

    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: Any) -> pb.GetStatisticsResponse:
        return wire.statistics(
            await self._do.collections.statistics(wire.tenant(), request.collection, wire.viewer(()))
        )

    async def IngestSource(self, request: pb.IngestSourceRequest, context: Any) -> pb.IngestSourceResponse:
        queued = await self._do.sources.ingest(wire.tenant(), wire_sources.order(request), key_for(request))
        return pb.IngestSourceResponse(source=wire_sources.source(queued))

    async def GetSource(self, request: pb.GetSourceRequest, context: Any) -> pb.GetSourceResponse:
        return wire_sources.source_with_failures(
            *await self._do.sources.get(wire.tenant(), request.source, wire.viewer(()))
        )

    async def ListSources(self, request: pb.ListSourcesRequest, context: Any) -> pb.ListSourcesResponse:
        size = paging.size_of(request.page_size)
        after = paging.number(request.page_token, request.collection) or 0
        found = await self._do.sources.page(wire.tenant(), request.collection, after, size + 1, wire.viewer(()))
        more = paging.encode([found[size - 1].number], request.collection) if len(found) > size else ""
        return pb.ListSourcesResponse(
            sources=[wire_sources.source(item) for item in found[:size]], next_page_token=more
        )

    async def CancelSource(self, request: pb.CancelSourceRequest, context: Any) -> pb.CancelSourceResponse:
        stopped = await self._do.sources.cancel(wire.tenant(), request.source, wire.viewer(()))
        return pb.CancelSourceResponse(source=wire_sources.source(stopped))

    async def DeleteSource(self, request: pb.DeleteSourceRequest, context: Any) -> pb.DeleteSourceResponse:
        documents = await self._do.sources.delete(
            wire.tenant(), request.source, wire.viewer(()), documents=request.delete_documents
        )
        return pb.DeleteSourceResponse(documents=documents)

    async def Aggregate(self, request: pb.AggregateRequest, context: Any) -> pb.AggregateResponse:
        asked = wire_aggregate.counting(request)
        return wire_aggregate.counted(request, asked, await self._do.aggregates.count(wire.tenant(), asked))

    async def Summarize(self, request: pb.SummarizeRequest, context: Any) -> pb.SummarizeResponse:
        asked = wire_summaries.asked(request, self._do.summary_mode)
        return wire_summaries.summary(request, await self._do.summaries.summarize(wire.tenant(), asked))

    async def Reembed(self, request: pb.ReembedRequest, context: Any) -> pb.ReembedResponse:
        changing = await self._do.reembedding.start(wire.tenant(), request.collection, request.model)
        return pb.ReembedResponse(collection=wire.collection(changing))

    async def CancelReembedding(
        self, request: pb.CancelReembeddingRequest, context: Any
    ) -> pb.CancelReembeddingResponse:
        left = await self._do.reembedding.cancel(wire.tenant(), request.collection)
        return pb.CancelReembeddingResponse(collection=wire.collection(left))

    async def Reindex(self, request: pb.ReindexRequest, context: Any) -> AsyncIterator[pb.ReindexResponse]:
        kind = wire.index_kind(request.index)
        async with aclosing(self._do.reindexing.reindex(wire.tenant(), request.collection, kind)) as reports:
            async for report in reports:
                yield wire.index_progress(report)
