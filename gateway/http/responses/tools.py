"""The tools of a response and which of them is used, in OpenAI's words, both ways."""

import json
from typing import Any

from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import responses_pb2 as pb
from trivium.gateway.v1 import vector_stores_pb2

from gateway.http import bodies
from gateway.http.filters import filter_of
from gateway.http.filters import told as told_filter
from gateway.http.responses.schemas import ChosenFunction, ChosenSearch, CountInput, FileSearch, Function
from gateway.http.vector_stores.requests import ranking
from services.chassis.errors import Failure, Reason

_SEARCHES = {
    "auto": pb.RESPONSE_TOOL_CHOICE_UNSPECIFIED,
    "none": pb.RESPONSE_TOOL_CHOICE_NONE,
    "required": pb.RESPONSE_TOOL_CHOICE_REQUIRED,
}
_CALLS = {
    "auto": chat_pb2.TOOL_CHOICE_AUTO,
    "none": chat_pb2.TOOL_CHOICE_NONE,
    "required": chat_pb2.TOOL_CHOICE_REQUIRED,
}
_SEARCH_WORDS = {pb.RESPONSE_TOOL_CHOICE_NONE: "none", pb.RESPONSE_TOOL_CHOICE_REQUIRED: "required"}
_CALL_WORDS = {int(number): word for word, number in _CALLS.items()}


def apply(body: CountInput, settings: pb.ResponseSettings) -> None:
    """Put the request's tools into its settings.  Raises FIELD_INVALID, or PARAMETER_UNSUPPORTED by name."""
    searches, functions = _sorted(body.tools or [])
    choice = body.tool_choice or "auto"
    kind = choice if isinstance(choice, str) else _chosen(choice)
    if (kind == "file_search" and not searches) or (kind == "function" and not functions):
        raise Failure(Reason.FIELD_INVALID, field="tool_choice", problem="names no tool of the request")
    for search in searches:
        settings.file_search.CopyFrom(search)
    if not functions or searches:
        settings.tool_choice = _SEARCHES.get(kind, pb.RESPONSE_TOOL_CHOICE_REQUIRED)
    if functions:
        named = kind == "function"
        settings.tool_use.CopyFrom(
            chat_pb2.ToolUse(
                tools=functions,
                choice=chat_pb2.TOOL_CHOICE_NAMED if named else _CALLS.get(kind, chat_pb2.TOOL_CHOICE_AUTO),
                name=choice["name"] if named and isinstance(choice, dict) else "",
                # One that is named is called once in any case.
                single=body.parallel_tool_calls is False and not named,
            )
        )


def told(settings: pb.ResponseSettings) -> list[dict[str, Any]]:
    """The tools as the client gave them."""
    searches = [_search(settings.file_search)] if settings.HasField("file_search") else []
    return [*searches, *map(_function, settings.tool_use.tools)]


def told_choice(settings: pb.ResponseSettings) -> str | dict[str, Any]:
    """Which of them is used."""
    use = settings.tool_use
    if use.choice == chat_pb2.TOOL_CHOICE_NAMED:
        return {"type": "function", "name": use.name}
    if use.tools:
        return _CALL_WORDS.get(use.choice, "auto")
    return _SEARCH_WORDS.get(settings.tool_choice, "auto")


def _sorted(given: list[dict[str, Any]]) -> tuple[list[pb.FileSearchTool], list[chat_pb2.Tool]]:
    searches: list[pb.FileSearchTool] = []
    functions: list[chat_pb2.Tool] = []
    for place, tool in enumerate(given):
        where, present = f"tools[{place}]", {name: it for name, it in tool.items() if it is not None}
        match tool.get("type"):
            case "function":
                functions.append(_of_function(bodies.checked(Function, present, where)))
            case "file_search" if not searches:
                searches.append(_of_search(bodies.checked(FileSearch, present, where), where))
            case "file_search":
                raise Failure(Reason.PARAMETER_UNSUPPORTED, field=where, why=" beside another file_search")
            case kind:
                raise Failure(Reason.PARAMETER_UNSUPPORTED, field=where, why=f" of type {kind!r} in this version")
    return searches, functions


def _chosen(choice: dict[str, Any]) -> str:
    """The type of what is to be used in any case.  Raises FIELD_INVALID, or PARAMETER_UNSUPPORTED by name."""
    match choice.get("type"):
        case "file_search":
            return bodies.checked(ChosenSearch, choice, "tool_choice").type
        case "function":
            return bodies.checked(ChosenFunction, choice, "tool_choice").type
        case kind:
            raise Failure(Reason.PARAMETER_UNSUPPORTED, field="tool_choice", why=f" of type {kind!r}")


def _of_function(tool: Function) -> chat_pb2.Tool:
    return chat_pb2.Tool(
        name=tool.name,
        description=tool.description,
        parameters=json.dumps(tool.parameters, ensure_ascii=False) if tool.parameters else "",
        strict=tool.strict,
    )


def _of_search(search: FileSearch, where: str) -> pb.FileSearchTool:
    if search.max_num_results == 0:
        raise Failure(Reason.FIELD_INVALID, field=f"{where}.max_num_results", problem="must be at least 1")
    return pb.FileSearchTool(
        vector_stores=search.vector_store_ids,
        filter=filter_of(search.filters) if search.filters else None,
        max_num_results=bodies.int32(search.max_num_results, f"{where}.max_num_results"),
        ranking_options=ranking(search.ranking_options, f"{where}.ranking_options"),
    )


def _search(tool: pb.FileSearchTool) -> dict[str, Any]:
    return {
        "type": "file_search",
        "vector_store_ids": list(tool.vector_stores),
        "filters": told_filter(tool.filter) if tool.HasField("filter") else None,
        "max_num_results": tool.max_num_results or None,
        "ranking_options": _ranking(tool.ranking_options),
    }


def _ranking(options: vector_stores_pb2.RankingOptions) -> dict[str, Any]:
    told: dict[str, Any] = {"ranker": options.ranker or "auto", "score_threshold": options.score_threshold}
    if options.HasField("dense_weight"):
        dense = options.dense_weight
        told["hybrid_search"] = {"embedding_weight": dense, "text_weight": 1 - dense}
    return told


def _function(tool: chat_pb2.Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": json.loads(tool.parameters) if tool.parameters else None,
        "strict": tool.strict if tool.HasField("strict") else None,
    }
