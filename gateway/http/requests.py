"""From OpenAI's requests to our own API's: names and places change, meaning does not."""

import json
import uuid
from collections.abc import Sequence

from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2

from gateway.http import asking
from gateway.http.prompts import of_prompt
from gateway.http.schemas import ChatCompletion, ChatTurn, Generation, Manner, TextCompletion
from gateway.http.tools import of_tools
from services.chassis.errors import Failure, Reason

_ROLES = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "developer": chat_pb2.CHAT_ROLE_SYSTEM,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
    "tool": chat_pb2.CHAT_ROLE_TOOL,
}


def of_chat(body: ChatCompletion, request_id: str) -> gateway_pb2.ChatRequest | gateway_pb2.AskRequest:
    """A turn; with collections named, a question with sources."""
    _require_stream(body)
    if body.trivium.searched:
        return _ask(body, request_id)
    asking.refuse(body.trivium)
    return gateway_pb2.ChatRequest(
        model=body.model,
        messages=_messages(body.messages),
        sampling=_chat_sampling(body),
        structured_output=_shape(body),
        request_id=body.trivium.request_id or request_id,
        sticky_key=body.sticky_key,
        fallback=body.trivium.fallback,
        tool_use=of_tools(body),
    )


def _ask(body: ChatCompletion, request_id: str) -> gateway_pb2.AskRequest:
    if body.tools:
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="tools", why=" beside a collection in trivium")
    *earlier, last = body.messages
    if last.role != "user":
        raise Failure(
            Reason.FIELD_INVALID, field="messages", problem="with a collection, the last one must be the user's"
        )
    return gateway_pb2.AskRequest(
        model=body.model,
        question=last.text,
        collections=body.trivium.searched,
        history=_messages(earlier),
        top_k=_int32(body.trivium.top_k, "trivium.top_k") or 0,
        sampling=_chat_sampling(body),
        structured_output=_shape(body),
        request_id=body.trivium.request_id or request_id,
        sticky_key=body.sticky_key,
        filter=asking.filter_of(body.trivium.filter),
        **asking.fields(body.trivium),
    )


def of_completion(body: TextCompletion, request_id: str) -> gateway_pb2.CompleteRequest:
    """A continuation."""
    _require_stream(body)
    if body.trivium.searched:
        raise Failure(
            Reason.PARAMETER_UNSUPPORTED,
            field="trivium.collections",
            why=" here; ask with /v1/chat/completions",
        )
    asking.refuse(body.trivium)
    return gateway_pb2.CompleteRequest(
        model=body.model,
        **of_prompt(body.prompt),
        sampling=_sampling(body, body.max_tokens, body.logprobs),
        structured_output=constraint_of(body.trivium),
        request_id=body.trivium.request_id or request_id,
        sticky_key=body.sticky_key,
        fallback=body.trivium.fallback,
    )


def _require_stream(body: Generation) -> None:
    """Raise PARAMETER_UNSUPPORTED for what is said of a stream where there is none, as OpenAI does."""
    if "stream_options" in body.model_fields_set and not body.stream:
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="stream_options", why=" without stream: true")


def _messages(turns: Sequence[ChatTurn]) -> list[chat_pb2.ChatMessage]:
    for number, turn in enumerate(turns):
        _require_sound(turn, f"messages[{number}]")
    return [
        chat_pb2.ChatMessage(
            role=_ROLES[turn.role],
            content=turn.text,
            tool_calls=[
                chat_pb2.ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in turn.tool_calls
            ],
            tool_call_id=turn.tool_call_id,
        )
        for turn in turns
    ]


def _require_sound(turn: ChatTurn, where: str) -> None:
    """Raise FIELD_INVALID for a turn that has not what its role needs, or what another one has."""
    for name in turn.assistants if turn.role != "assistant" else ():
        raise Failure(Reason.FIELD_INVALID, field=f"{where}.{name}", problem="is of an assistant's message alone")
    if bool(turn.tool_call_id) != (turn.role == "tool"):
        problem = "is needed by a tool's message" if turn.role == "tool" else "is of a tool's message alone"
        raise Failure(Reason.FIELD_INVALID, field=f"{where}.tool_call_id", problem=problem)
    if turn.model_fields_set.isdisjoint(("content", "refusal")) and not turn.tool_calls:
        raise Failure(Reason.FIELD_INVALID, field=f"{where}.content", problem="is required")


def _chat_sampling(body: ChatCompletion) -> chat_pb2.Sampling:
    one, other = body.max_tokens, body.max_completion_tokens
    if None not in (one, other) and one != other:
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="max_completion_tokens", why=" beside another max_tokens")
    if body.top_logprobs is not None and not body.logprobs:
        raise Failure(Reason.FIELD_INVALID, field="top_logprobs", problem="needs logprobs: true")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return _sampling(body, other if one is None else one, logprobs)


def _sampling(body: Generation, max_tokens: int | None, logprobs: int | None) -> chat_pb2.Sampling:
    sent = body.sent
    return chat_pb2.Sampling(
        max_tokens=_int32(max_tokens, sent["sampling.max_tokens"]),
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=_int32(body.top_k, "top_k"),
        seed=_within(body.seed, "seed", 63),
        n=_int32(body.n, "n"),
        stop=body.stops,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        repetition_penalty=body.repetition_penalty,
        logprobs=_int32(logprobs, sent["sampling.logprobs"]),
        min_p=body.min_p,
        min_tokens=_int32(body.min_tokens, "min_tokens"),
        ignore_eos=body.ignore_eos,
        stop_token_ids=[_token(token, "stop_token_ids") for token in body.stop_token_ids],
        bad_words=body.bad_words,
        allowed_token_ids=[_token(token, "allowed_token_ids") for token in body.allowed_token_ids],
        include_stop_str_in_output=body.include_stop_str_in_output,
        skip_special_tokens=body.skip_special_tokens,
        logit_bias={_token(token, "logit_bias"): bias for token, bias in body.logit_bias.items()},
    )


def _int32(value: int | None, field: str) -> int | None:
    return _within(value, field, 31)


def _token(value: int, field: str) -> int:
    _int32(value, field)
    return value


def _within(value: int | None, field: str, bits: int) -> int | None:
    """The value, if the wire can carry it; its real bounds are checked with every other rule of our API."""
    if value is not None and not -(1 << bits) <= value < 1 << bits:
        raise Failure(Reason.FIELD_INVALID, field=field, problem="is out of range")
    return value


def _shape(body: ChatCompletion) -> chat_pb2.StructuredOutput | None:
    wanted = body.response_format
    if wanted is not None and wanted.json_schema is not None and wanted.type != "json_schema":
        why = f" beside type {wanted.type}"
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="response_format.json_schema", why=why)
    constraint = constraint_of(body.trivium)
    if wanted is None or wanted.type == "text":
        return constraint
    if constraint is not None:
        raise Failure(
            Reason.PARAMETER_UNSUPPORTED, field="response_format", why=" beside another constraint in trivium"
        )
    if wanted.type == "json_object":
        return chat_pb2.StructuredOutput(json_object=True)
    if wanted.json_schema is None:
        raise Failure(Reason.FIELD_INVALID, field="response_format.json_schema", problem="is required")
    return chat_pb2.StructuredOutput(json_schema=json.dumps(wanted.json_schema.schema_))


def constraint_of(wanted: Manner) -> chat_pb2.StructuredOutput | None:
    """The shape that the extension forces an answer into.  Raises PARAMETER_UNSUPPORTED for several."""
    given = [name for name in ("regex", "choice", "grammar") if getattr(wanted, name) is not None]
    if len(given) > 1:
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field=f"trivium.{given[1]}", why=f" beside {given[0]}")
    if wanted.choice is not None:
        return chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=wanted.choice))
    if wanted.regex is not None:
        return chat_pb2.StructuredOutput(regex=wanted.regex)
    if wanted.grammar is not None:
        return chat_pb2.StructuredOutput(grammar=wanted.grammar)
    return None


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID, and so safe to stand in a header."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
