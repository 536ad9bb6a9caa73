"""A summary between protobuf and the domain."""

from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.context import current
from services.retriever.documents.readers import finder
from services.retriever.summaries.question import Cited, Request, Summary, Told
from services.retriever.summaries.statements import Mode
from services.retriever.wire_search import filter_of

_MODES = {pb.SUMMARY_MODE_EXTRACTIVE: Mode.EXTRACTIVE, pb.SUMMARY_MODE_ABSTRACTIVE: Mode.ABSTRACTIVE}


def asked(request: pb.SummarizeRequest, mode: Mode) -> Request:
    """What to summarise; ``mode`` is for who states none.  Raises ROLE_MISSING for ids that a reader states."""
    return Request(
        collection=request.collection,
        focus=request.focus,
        viewer=finder(current(), request.as_readers),
        filter=filter_of(request.filter) if request.HasField("filter") else None,
        documents=tuple(request.documents),
        mode=_MODES.get(request.mode, mode),
        max_tokens=request.max_tokens,
    )


def summary(request: pb.SummarizeRequest, value: Summary) -> pb.SummarizeResponse:
    """Statements with their citations, and what they were made from."""
    return pb.SummarizeResponse(
        text="\n".join(" ".join(it.text.split()) for it in value.statements),
        coverage=value.chunks_read / value.chunks if value.chunks else 1.0,
        statements=[_statement(request.collection, it) for it in value.statements],
        chunks_read=value.chunks_read,
        chunks=value.chunks,
        nodes_computed=value.nodes_computed,
        nodes_reused=value.nodes_reused,
        embedding_digest=value.embedding_digest,
        generator_digest=value.generator_digest,
        version=value.version,
    )


def _statement(collection: str, value: Told) -> pb.SummaryStatement:
    citations = [_citation(collection, it) for it in value.citations]
    return pb.SummaryStatement(text=value.text, citations=citations, generated=value.generated)


def _citation(collection: str, value: Cited) -> pb.Citation:
    return pb.Citation(
        collection=collection,
        document=value.document,
        version=value.version,
        chunk=f"{value.chunk:016x}",
        start=value.start,
        end=value.end,
        text=value.text,
        title=value.title,
    )
