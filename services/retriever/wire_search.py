"""A search between protobuf and the domain."""

from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.context import current
from services.retriever import wire_values
from services.retriever.filters import AllOf, AnyOf, Condition, Filter, Negated, Operator
from services.retriever.question import Found, Fusion, Hit, Mode, Question
from services.retriever.readers import finder

DEFAULT_TOP_K = 10
_MODES = {
    pb.SEARCH_MODE_UNSPECIFIED: Mode.HYBRID,
    pb.SEARCH_MODE_HYBRID: Mode.HYBRID,
    pb.SEARCH_MODE_DENSE: Mode.DENSE,
    pb.SEARCH_MODE_SPARSE: Mode.SPARSE,
}
_FUSIONS = {pb.FUSION_UNSPECIFIED: Fusion.SCORE, pb.FUSION_SCORE: Fusion.SCORE, pb.FUSION_RANK: Fusion.RANK}
_OPERATOR = "FILTER_OPERATOR_"


def question(request: pb.SearchRequest, dense_weight: float) -> Question:
    """What to find; ``dense_weight`` is for who states none.  Raises ROLE_MISSING for ids that a reader states."""
    return Question(
        collections=tuple(request.collections),
        queries=tuple(request.queries),
        top_k=request.top_k or DEFAULT_TOP_K,
        mode=_MODES[request.mode],
        fusion=_FUSIONS[request.fusion],
        dense_weight=request.dense_weight if request.HasField("dense_weight") else dense_weight,
        metadata_equals=dict(request.metadata_equals),
        documents=tuple(request.documents),
        viewer=finder(current(), request.as_readers),
        filter=_filter(request.filter) if request.HasField("filter") else None,
    )


def _filter(message: pb.Filter) -> Filter:
    kind = message.WhichOneof("test")
    if kind == "all_of":
        return AllOf(tuple(map(_filter, message.all_of.filters)))
    if kind == "any_of":
        return AnyOf(tuple(map(_filter, message.any_of.filters)))
    if kind == "negated":
        return Negated(_filter(message.negated))
    condition = message.condition
    return Condition(
        condition.field,
        Operator[pb.FilterOperator.Name(condition.operator).removeprefix(_OPERATOR)],
        tuple(map(wire_values.value, condition.values)),
        condition.ignore_case,
    )


def found(value: Found) -> pb.SearchResponse:
    """Hits and the time that they took."""
    return pb.SearchResponse(
        hits=[_hit(item) for item in value.hits],
        timings=[pb.SearchTiming(stage=stage, seconds=seconds) for stage, seconds in value.seconds.items()],
    )


def _hit(value: Hit) -> pb.Hit:
    return pb.Hit(
        collection=value.collection,
        document=value.document,
        version=value.version,
        chunk=f"{value.chunk:016x}",
        start=value.start,
        end=value.end,
        text=value.text,
        title=value.title,
        heading_path=value.heading_path,
        score=value.score,
        dense_score=value.dense_score,
        sparse_score=value.sparse_score,
    )
