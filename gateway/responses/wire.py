"""``trivium.gateway.v1.ResponseService`` and the domain, both ways."""

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.gateway.v1 import responses_pb2 as pb
from trivium.gateway.v1 import vector_stores_pb2
from trivium.retriever.v1 import retriever_pb2

from gateway.asking.retrieval import DEFAULT_TOP_K, Ranking
from gateway.asking.wire_telling import of_fallbacks, to_fallbacks
from gateway.generation import ToolCall
from gateway.limits.terms import Demand, guessed_tokens
from gateway.peers.messages import (
    of_receipt,
    of_sampling,
    of_shape,
    of_span,
    of_speaker,
    of_timings,
    of_usage,
    to_receipt,
    to_sampling,
    to_shape,
    to_span,
    to_speaker,
    to_timings,
    to_usage,
)
from gateway.peers.metadata_values import of_values, to_values
from gateway.peers.tools import of_tools, to_tools
from gateway.responses.nouns import (
    Asked,
    Citation,
    Error,
    FileSearch,
    Item,
    ItemStatus,
    Listing,
    Response,
    Result,
    Returned,
    Search,
    Settings,
    Status,
    ToolChoice,
    Turn,
)
from gateway.responses.wire_grounds import of_grounds, of_manner, to_grounds, to_manner
from gateway.wire import demanded

_CHOICES = {
    ToolChoice.AUTO: pb.RESPONSE_TOOL_CHOICE_UNSPECIFIED,
    ToolChoice.NONE: pb.RESPONSE_TOOL_CHOICE_NONE,
    ToolChoice.REQUIRED: pb.RESPONSE_TOOL_CHOICE_REQUIRED,
}
_ITEMS = {
    ItemStatus.IN_PROGRESS: pb.RESPONSE_ITEM_STATUS_IN_PROGRESS,
    ItemStatus.COMPLETED: pb.RESPONSE_ITEM_STATUS_COMPLETED,
    ItemStatus.INCOMPLETE: pb.RESPONSE_ITEM_STATUS_INCOMPLETE,
}
_STATUSES = {
    Status.IN_PROGRESS: pb.RESPONSE_STATUS_IN_PROGRESS,
    Status.COMPLETED: pb.RESPONSE_STATUS_COMPLETED,
    Status.INCOMPLETE: pb.RESPONSE_STATUS_INCOMPLETE,
    Status.FAILED: pb.RESPONSE_STATUS_FAILED,
}
_OF_CHOICES = {int(number): choice for choice, number in _CHOICES.items()}
_OF_ITEMS = {int(number): status for status, number in _ITEMS.items()}
_OF_STATUSES = {int(number): status for status, number in _STATUSES.items()}


def asked(request: pb.CreateResponseRequest) -> Asked:
    """One request."""
    return Asked(
        of_settings(request.settings),
        tuple(of_item(item) for item in request.input),
        request.request_id,
        request.include_results,
    )


def counted(request: pb.CountResponseInputTokensRequest) -> Asked:
    """One request whose prompt is counted."""
    return Asked(of_settings(request.settings), tuple(of_item(item) for item in request.input))


def demand(request: pb.CreateResponseRequest) -> Demand:
    """What one request would use of its limits, guessed; what it goes on from is settled."""
    settings = request.settings
    texts = [settings.instructions, *map(_text, request.input)]
    sources = (settings.file_search.max_num_results or DEFAULT_TOP_K) if settings.HasField("file_search") else 0
    return demanded(settings.model, guessed_tokens(texts, sources), settings.sampling)


def _text(item: pb.ResponseItem) -> str:
    return "".join((*item.message.parts, item.function_call.arguments, item.function_call_output.output))


def listing(request: pb.ListResponseInputItemsRequest) -> Listing:
    """Which page of an input."""
    oldest = request.order == retriever_pb2.LIST_ORDER_OLDEST_FIRST
    return Listing(request.limit, oldest, request.after)


def of_settings(message: pb.ResponseSettings) -> Settings:
    """What a response is asked with."""
    return Settings(
        model=message.model,
        instructions=message.instructions,
        previous=message.previous_response,
        metadata=dict(message.metadata),
        sampling=of_sampling(message.sampling),
        shape=of_shape(message.structured_output),
        format_name=message.format_name,
        search=_of_search(message.file_search) if message.HasField("file_search") else None,
        tool_choice=_OF_CHOICES.get(message.tool_choice, ToolChoice.AUTO),
        store=message.store if message.HasField("store") else True,
        sticky_key=message.sticky_key,
        functions=of_tools(message.tool_use),
        fallback=message.fallback,
        manner=of_manner(message),
    )


def to_settings(value: Settings) -> pb.ResponseSettings:
    """The same as the wire carries it."""
    return pb.ResponseSettings(
        model=value.model,
        instructions=value.instructions,
        previous_response=value.previous,
        metadata=value.metadata,
        sampling=to_sampling(value.sampling),
        structured_output=to_shape(value.shape),
        format_name=value.format_name,
        file_search=None if value.search is None else _to_search(value.search),
        tool_choice=_CHOICES[value.tool_choice],
        store=value.store,
        sticky_key=value.sticky_key,
        tool_use=to_tools(value.functions),
        fallback=value.fallback,
        **to_manner(value.manner),
    )


def _of_search(message: pb.FileSearchTool) -> FileSearch:
    narrowed = message.filter.SerializeToString() if message.HasField("filter") else b""
    said = message.ranking_options
    dense = said.dense_weight if said.HasField("dense_weight") else None
    ranking = Ranking(said.ranker, said.score_threshold, dense)
    return FileSearch(tuple(message.vector_stores), narrowed, message.max_num_results, ranking)


def _to_search(value: FileSearch) -> pb.FileSearchTool:
    ranking = value.ranking
    options = vector_stores_pb2.RankingOptions(
        ranker=ranking.ranker, score_threshold=ranking.score_threshold, dense_weight=ranking.dense_weight
    )
    message = pb.FileSearchTool(vector_stores=value.stores, max_num_results=value.most, ranking_options=options)
    if value.narrowed:
        message.filter.ParseFromString(value.narrowed)
    return message


def of_item(message: pb.ResponseItem) -> Item:
    """An item; one of a request has no status, and is whole."""
    status = _OF_ITEMS.get(message.status, ItemStatus.COMPLETED)
    if message.WhichOneof("kind") == "file_search_call":
        call = message.file_search_call
        return Item(message.item, Search(tuple(call.queries), tuple(_of_result(it) for it in call.results)), status)
    if message.WhichOneof("kind") == "function_call":
        made = message.function_call
        return Item(message.item, ToolCall(made.call, made.name, made.arguments), status)
    if message.WhichOneof("kind") == "function_call_output":
        return Item(
            message.item, Returned(message.function_call_output.call, message.function_call_output.output), status
        )
    said = message.message
    citations = tuple(Citation(it.file, it.filename, it.index, it.end_index, of_span(it.span)) for it in said.citations)
    return Item(message.item, Turn(of_speaker(said.role), tuple(said.parts), citations, said.refused), status)


def to_item(value: Item, *, results: bool = True) -> pb.ResponseItem:
    """An item as the wire carries it, with the passages of a search if they are wanted."""
    message = pb.ResponseItem(item=value.item, status=_ITEMS[value.status])
    match value.content:
        case Search() as search:
            found = [_to_result(it) for it in search.results] if results else []
            message.file_search_call.CopyFrom(pb.FileSearchCall(queries=search.queries, results=found))
        case Turn() as turn:
            cited = [to_citation(it) for it in turn.citations]
            role = to_speaker(turn.speaker)
            said = pb.ResponseMessage(role=role, parts=turn.parts, citations=cited, refused=turn.refused)
            message.message.CopyFrom(said)
        case ToolCall() as made:
            called = pb.FunctionCall(call=made.id, name=made.name, arguments=made.arguments)
            message.function_call.CopyFrom(called)
        case Returned() as returned:
            output = pb.FunctionCallOutput(call=returned.call_id, output=returned.output)
            message.function_call_output.CopyFrom(output)
    return message


def to_citation(value: Citation) -> pb.FileCitation:
    """A citation as the wire carries it."""
    return pb.FileCitation(
        file=value.file,
        filename=value.filename,
        index=value.start,
        end_index=value.end,
        span=to_span(value.span),
    )


def _of_result(message: pb.FileSearchResult) -> Result:
    return Result(
        message.file,
        message.filename,
        message.score,
        message.text,
        of_values(message.attributes),
        of_span(message.span),
    )


def _to_result(value: Result) -> pb.FileSearchResult:
    return pb.FileSearchResult(
        file=value.file,
        filename=value.filename,
        score=value.score,
        text=value.text,
        attributes=to_values(value.attributes),
        span=to_span(value.span),
    )


def of_response(message: pb.Response) -> Response:
    """A response that was kept."""
    return Response(
        response=message.response,
        created_at=message.create_time.ToNanoseconds() / 1e9,
        settings=of_settings(message.settings),
        status=_OF_STATUSES.get(message.status, Status.FAILED),
        output=tuple(of_item(item) for item in message.output),
        error=Error(message.error.reason, message.error.message) if message.HasField("error") else None,
        usage=of_usage(message.usage) if message.HasField("usage") else None,
        receipt=of_receipt(message.receipt) if message.HasField("receipt") else None,
        timings=of_timings(message.timings),
        fallbacks=of_fallbacks(message.fallbacks),
        grounds=of_grounds(message),
    )


def to_response(value: Response, *, results: bool = True) -> pb.Response:
    """A response as the wire carries it, with the passages of a search if they are wanted."""
    created = Timestamp()
    created.FromMicroseconds(int(value.created_at * 1e6))
    error = value.error
    return pb.Response(
        response=value.response,
        create_time=created,
        status=_STATUSES[value.status],
        error=None if error is None else pb.ResponseError(reason=error.reason, message=error.message),
        settings=to_settings(value.settings),
        output=[to_item(item, results=results) for item in value.output],
        usage=None if value.usage is None else to_usage(value.usage),
        receipt=None if value.receipt is None else to_receipt(value.receipt),
        timings=to_timings(value.timings),
        fallbacks=to_fallbacks(value.fallbacks),
        **to_grounds(value.grounds),
    )
