"""What is said of a whole collection, from the wire.  Part of `wire`."""

from __future__ import annotations

from trivium.retriever.v1 import retriever_pb2

from trivium_client import metadata, nouns


def citation(message: retriever_pb2.Citation) -> nouns.Citation:
    """From the wire."""
    span = nouns.Span(
        collection=message.collection,
        document=message.document,
        version=message.version,
        start=message.start,
        end=message.end,
        chunk=message.chunk,
    )
    return nouns.Citation(span, message.text)


def matching(message: retriever_pb2.MatchingDocument) -> nouns.MatchingDocument:
    """From the wire."""
    first = citation(message.first) if message.HasField("first") else None
    passage = None
    if first is not None:
        at = first.span
        passage = nouns.Span(
            at.collection, at.document, at.version, message.passage_start, message.passage_end, at.chunk
        )
    return nouns.MatchingDocument(message.document, message.version, message.title, message.passages, first, passage)


def tally(message: retriever_pb2.AggregateResponse) -> nouns.Tally:
    """From the wire."""
    return nouns.Tally(
        documents=message.documents,
        passages=message.passages,
        searched=message.searched,
        groups=tuple(_group(group) for group in message.groups),
        groups_total=message.groups_total,
        words=tuple(message.words),
    )


def _group(message: retriever_pb2.AggregateGroup) -> nouns.Group:
    value = metadata.value(message.value) if message.HasField("value") else None
    return nouns.Group(value, message.documents, message.passages)


def summary(message: retriever_pb2.SummarizeResponse) -> nouns.Summary:
    """From the wire."""
    return nouns.Summary(
        text=message.text,
        statements=tuple(
            nouns.Statement(it.text, tuple(map(citation, it.citations)), it.generated) for it in message.statements
        ),
        coverage=message.coverage,
        chunks_read=message.chunks_read,
        chunks=message.chunks,
        nodes_computed=message.nodes_computed,
        nodes_reused=message.nodes_reused,
        embedding_digest=message.embedding_digest,
        generator_digest=message.generator_digest,
    )
