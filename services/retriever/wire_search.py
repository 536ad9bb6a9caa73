"""A search between protobuf and the domain."""

from trivium.common.v1 import receipt_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.context import current
from services.retriever import wire_values
from services.retriever.documents.readers import finder
from services.retriever.search.answerable import Answerability
from services.retriever.search.filters import AllOf, AnyOf, Condition, Filter, Negated, Operator
from services.retriever.search.question import (
    ExpansionKind,
    Found,
    Fusion,
    Hit,
    Mode,
    Paging,
    Passage,
    Question,
    Reranking,
    Shape,
)
from services.retriever.search.settings import Abstention, Hyde, SearchSettings, Stated

DEFAULT_TOP_K = 10
DEFAULT_PAGED = 200
DEFAULT_RERANK_DEPTH = 40
DEFAULT_SECTION = 2000
_MODES = {
    pb.SEARCH_MODE_HYBRID: Mode.HYBRID,
    pb.SEARCH_MODE_DENSE: Mode.DENSE,
    pb.SEARCH_MODE_SPARSE: Mode.SPARSE,
}
_FUSIONS = {pb.FUSION_UNSPECIFIED: Fusion.SCORE, pb.FUSION_SCORE: Fusion.SCORE, pb.FUSION_RANK: Fusion.RANK}
_HYDE = {
    pb.HYDE_USE_OFF: Hyde.OFF,
    pb.HYDE_USE_WEAK: Hyde.WEAK,
    pb.HYDE_USE_ALWAYS: Hyde.ALWAYS,
}
_ABSTENTIONS = {
    pb.ABSTENTION_POLICY_STRICT: Abstention.STRICT,
    pb.ABSTENTION_POLICY_HEDGE: Abstention.HEDGE,
    pb.ABSTENTION_POLICY_OFF: Abstention.OFF,
}
_EXPANSIONS = {
    ExpansionKind.HYDE: pb.EXPANSION_KIND_HYDE,
    ExpansionKind.DECOMPOSITION: pb.EXPANSION_KIND_DECOMPOSITION,
    ExpansionKind.QUESTION_VECTORS: pb.EXPANSION_KIND_QUESTION_VECTORS,
}
_OPERATOR = "FILTER_OPERATOR_"


def question(request: pb.SearchRequest, dense_weight: float) -> Question:
    """What to find, as far as collections have no part in it; ``dense_weight`` is for who states none.

    Raises ROLE_MISSING for ids that a reader states.
    """
    return Question(
        collections=tuple(request.collections),
        queries=tuple(dict.fromkeys(query.strip() for query in request.queries)),
        top_k=request.top_k or (DEFAULT_PAGED if request.page_size else DEFAULT_TOP_K),
        mode=Mode.HYBRID,
        fusion=_FUSIONS[request.fusion],
        dense_weight=dense_weight,
        metadata_equals=dict(request.metadata_equals),
        documents=tuple(request.documents),
        viewer=finder(current(), request.as_readers),
        filter=filter_of(request.filter) if request.HasField("filter") else None,
        shape=_shape(request),
        paging=Paging(request.page_size, request.page_token, _asked(request)),
        explain=request.explain,
        with_metadata=request.with_metadata,
        feedback=request.feedback if request.HasField("feedback") else True,
    )


def stated(request: pb.SearchRequest) -> Stated:
    """What the request says of what collections can have stored."""
    return Stated(
        mode=_MODES.get(request.mode),
        dense_weight=request.dense_weight if request.HasField("dense_weight") else None,
        rerank=request.rerank if request.HasField("rerank") else None,
        rerank_depth=request.rerank_depth or DEFAULT_RERANK_DEPTH,
        rerank_model=request.rerank_model,
        hyde=_HYDE.get(request.hyde),
        decompose=request.decompose if request.HasField("decompose") else None,
        question_vectors=request.question_vectors if request.HasField("question_vectors") else None,
    )


def settings(message: pb.SearchSettings) -> SearchSettings:
    """What a collection is to have stored."""
    return SearchSettings(
        mode=_MODES.get(message.mode),
        dense_weight=message.dense_weight if message.HasField("dense_weight") else None,
        rerank=message.rerank,
        rerank_model=message.rerank_model,
        hyde=_HYDE.get(message.hyde, Hyde.OFF),
        decompose=message.decompose,
        questions_per_chunk=message.questions_per_chunk,
        abstention=_ABSTENTIONS.get(message.abstention),
    )


def shown_settings(value: SearchSettings) -> pb.SearchSettings:
    """What a collection has stored, as the API shows it."""
    return pb.SearchSettings(
        mode=next((number for number, mode in _MODES.items() if mode is value.mode), pb.SEARCH_MODE_UNSPECIFIED),
        dense_weight=value.dense_weight,
        rerank=value.rerank,
        rerank_model=value.rerank_model,
        hyde=next(number for number, hyde in _HYDE.items() if hyde is value.hyde),
        decompose=value.decompose,
        questions_per_chunk=value.questions_per_chunk,
        abstention=_abstention(value.abstention),
    )


def _shape(request: pb.SearchRequest) -> Shape:
    return Shape(
        diversity=request.diversity_lambda if request.HasField("diversity_lambda") else None,
        collapse=request.collapse_duplicates,
        similarity=request.duplicate_similarity if request.HasField("duplicate_similarity") else 1.0,
        section_characters=(request.section_characters or DEFAULT_SECTION) if request.expand_sections else 0,
    )


def _asked(request: pb.SearchRequest) -> str:
    """Who asks for what, the page apart."""
    asking, copy = current(), pb.SearchRequest()
    copy.CopyFrom(request)
    copy.ClearField("page_token")
    copy.ClearField("page_size")
    return f"{asking.tenant_id} {asking.principal_id} {copy.SerializeToString(deterministic=True).hex()}"


def filter_of(message: pb.Filter) -> Filter:
    """A filter; what is amiss with it is found out when it is used."""
    kind = message.WhichOneof("test")
    if kind == "all_of":
        return AllOf(tuple(map(filter_of, message.all_of.filters)))
    if kind == "any_of":
        return AnyOf(tuple(map(filter_of, message.any_of.filters)))
    if kind == "negated":
        return Negated(filter_of(message.negated))
    condition = message.condition
    return Condition(
        condition.field,
        Operator[pb.FilterOperator.Name(condition.operator).removeprefix(_OPERATOR)],
        tuple(map(wire_values.value, condition.values)),
        condition.ignore_case,
    )


def found(value: Found) -> pb.SearchResponse:
    """Hits, the time that they took, and where to go on."""
    outcome = value.reranking
    return pb.SearchResponse(
        hits=[_hit(item) for item in value.hits],
        timings=[pb.SearchTiming(stage=stage, seconds=seconds) for stage, seconds in value.seconds.items()],
        next_page_token=value.next_page_token,
        rerank=None if outcome is None else _outcome(outcome),
        filters=value.filters,
        expansions=[
            pb.SearchExpansion(kind=_EXPANSIONS[it.kind], applied=it.applied, reason=it.reason, texts=it.texts)
            for it in value.expansions
        ],
        answerability=None if value.answerability is None else _answerability(value.answerability),
        versions=[
            receipt_pb2.CollectionVersion(collection=name, version=version) for name, version in value.versions.items()
        ],
    )


def _answerability(value: Answerability) -> pb.Answerability:
    return pb.Answerability(
        score=value.score,
        threshold=value.threshold,
        answerable=value.answerable,
        abstention=_abstention(value.abstention),
    )


def _abstention(value: str | None) -> "pb.AbstentionPolicy.ValueType":
    policies = (number for number, policy in _ABSTENTIONS.items() if policy == value)
    return next(policies, pb.ABSTENTION_POLICY_UNSPECIFIED)


def _outcome(value: Reranking) -> pb.RerankOutcome:
    return pb.RerankOutcome(applied=value.applied, reason=value.reason, passages=value.passages)


def _hit(value: Hit) -> pb.Hit:
    where, ranked = value.passage, value.ranked
    places = [
        pb.ListPlace(list=it.list, query=it.query, rank=it.rank, score=it.score, part=it.part) for it in value.places
    ]
    return pb.Hit(
        collection=where.collection,
        document=where.document,
        version=where.version,
        chunk=_chunk(where.chunk),
        start=where.start,
        end=where.end,
        text=value.text,
        title=value.title,
        heading_path=value.heading_path,
        score=ranked.score,
        dense_score=ranked.dense,
        sparse_score=ranked.sparse,
        first_page=value.pages[0],
        last_page=value.pages[1],
        rerank_score=ranked.rerank,
        duplicates=[_passage(it) for it in value.duplicates],
        metadata={name: wire_values.shown(it) for name, it in value.metadata.items()},
        merged_chunks=[_chunk(it) for it in ranked.merged],
        explanation=pb.HitExplanation(places=places) if places else None,
    )


def _passage(value: Passage) -> pb.Passage:
    return pb.Passage(
        collection=value.collection,
        document=value.document,
        version=value.version,
        chunk=_chunk(value.chunk),
        start=value.start,
        end=value.end,
    )


def _chunk(number: int) -> str:
    return f"{number:016x}"
