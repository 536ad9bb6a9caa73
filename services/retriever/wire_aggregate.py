"""Counting between protobuf and the domain."""

import hashlib

from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis import paging
from services.chassis.context import current
from services.chassis.errors import Failure, Reason
from services.retriever import wire_values
from services.retriever.aggregates.question import Counted, Counting, Group, Match, Matching, Mention
from services.retriever.documents.readers import finder
from services.retriever.text.keywords import words
from services.retriever.wire_search import filter_of

MOST_GROUPS = 1000
_MATCHES = {
    pb.KEYWORD_MATCH_UNSPECIFIED: Match.PASSAGE,
    pb.KEYWORD_MATCH_PASSAGE: Match.PASSAGE,
    pb.KEYWORD_MATCH_DOCUMENT: Match.DOCUMENT,
    pb.KEYWORD_MATCH_ANY: Match.ANY,
}


def counting(request: pb.AggregateRequest) -> Counting:
    """What to count.  Raises ROLE_MISSING for ids that a reader states, QUESTION_EMPTY and PAGE_TOKEN_INVALID."""
    found = words(request.keywords)
    if request.keywords and not found:
        raise Failure(Reason.QUESTION_EMPTY, field="keywords")
    (after,) = paging.decode(request.page_token, [str], _asked(request)) or ("",)
    return Counting(
        collection=request.collection,
        words=found,
        match=_MATCHES[request.match],
        documents=tuple(request.documents),
        viewer=finder(current(), request.as_readers),
        filter=filter_of(request.filter) if request.HasField("filter") else None,
        group_by=request.group_by,
        after=str(after),
        most=paging.size_of(request.page_size),
    )


def _asked(request: pb.AggregateRequest) -> str:
    """What is asked, the page apart."""
    copy = pb.AggregateRequest()
    copy.CopyFrom(request)
    copy.ClearField("page_token")
    copy.ClearField("page_size")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()


def counted(request: pb.AggregateRequest, asked: Counting, value: Counted) -> pb.AggregateResponse:
    """The numbers, and the page that fits one message."""
    matches = paging.fitting([_matching(asked.collection, it) for it in value.listed])
    more = value.more or len(matches) < len(value.listed)
    return pb.AggregateResponse(
        documents=value.documents,
        passages=value.passages,
        searched=value.searched,
        groups=[] if request.page_token else [_group(it) for it in value.groups[:MOST_GROUPS]],
        groups_total=len(value.groups),
        matches=matches,
        next_page_token=paging.encode([matches[-1].document], _asked(request)) if more else "",
        words=asked.words,
        version=value.version,
    )


def _group(value: Group) -> pb.AggregateGroup:
    shown = None if value.value is None else wire_values.shown(value.value)
    return pb.AggregateGroup(value=shown, documents=value.documents, passages=value.passages)


def _matching(collection: str, value: Matching) -> pb.MatchingDocument:
    first = value.first
    start, end = (0, 0) if first is None else first.passage
    return pb.MatchingDocument(
        document=value.document,
        version=value.version,
        title=value.title,
        passages=value.passages,
        first=None if first is None else _citation(collection, value, first),
        passage_start=start,
        passage_end=end,
    )


def _citation(collection: str, value: Matching, first: Mention) -> pb.Citation:
    return pb.Citation(
        collection=collection,
        document=value.document,
        version=value.version,
        chunk=f"{first.chunk:016x}",
        start=first.start,
        end=first.end,
        text=first.text,
        title=value.title,
    )
