"""``trivium.common.v1`` and the domain, both ways: shared by the wire of our own API and by the leaves."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from trivium.common.v1 import chat_pb2, receipt_pb2

from gateway.generation import (
    ChoiceEnd,
    CollectionVersion,
    FinishReason,
    Message,
    Receipt,
    Sampling,
    Shape,
    ShapeKind,
    SourceSpan,
    Speaker,
    StageTiming,
    TokenLogprob,
    ToolCall,
    Usage,
)

_ROLES = {
    Speaker.SYSTEM: chat_pb2.CHAT_ROLE_SYSTEM,
    Speaker.USER: chat_pb2.CHAT_ROLE_USER,
    Speaker.ASSISTANT: chat_pb2.CHAT_ROLE_ASSISTANT,
    Speaker.TOOL: chat_pb2.CHAT_ROLE_TOOL,
}
_SPEAKERS = {int(role): speaker for speaker, role in _ROLES.items()}
_REASONS = {
    FinishReason.UNSPECIFIED: chat_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.ABORT: chat_pb2.FINISH_REASON_ABORT,
    FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
}
_FINISHES = {int(code): reason for reason, code in _REASONS.items()}
# The same names in both worlds.
_FIELDS = tuple(field.name for field in fields(Sampling))


def of_speaker(role: int) -> Speaker:
    """A speaker of the wire; roles were validated against the annotations."""
    return _SPEAKERS[role]


def to_speaker(speaker: Speaker) -> "chat_pb2.ChatRole.ValueType":
    """A speaker as the wire carries it."""
    return _ROLES[speaker]


def to_messages(turns: Iterable[Message]) -> list[chat_pb2.ChatMessage]:
    """Turns as the wire carries them."""
    return [
        chat_pb2.ChatMessage(
            role=_ROLES[turn.speaker],
            content=turn.content,
            tool_calls=[chat_pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in turn.calls],
            tool_call_id=turn.call_id,
        )
        for turn in turns
    ]


def of_messages(turns: Iterable[chat_pb2.ChatMessage]) -> tuple[Message, ...]:
    """Turns of the wire; roles were validated against the annotations."""
    return tuple(
        Message(
            _SPEAKERS[turn.role],
            turn.content,
            tuple(ToolCall(call.id, call.name, call.arguments) for call in turn.tool_calls),
            turn.tool_call_id,
        )
        for turn in turns
    )


def to_sampling(sampling: Sampling) -> chat_pb2.Sampling:
    """Sampling with only those fields set that are."""
    return chat_pb2.Sampling(
        **{name: value for name in _FIELDS if (value := getattr(sampling, name)) is not None and value != ()}
    )


def of_sampling(message: chat_pb2.Sampling) -> Sampling:
    """Sampling of the wire; unset stays None."""
    given: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "logit_bias":
            given[field.name] = dict(value)
        else:
            given[field.name] = tuple(value) if field.is_repeated else value
    return Sampling(**given)


def to_shape(shape: Shape | None) -> chat_pb2.StructuredOutput | None:
    """A shape as the wire carries it."""
    if shape is None:
        return None
    match shape.kind:
        case ShapeKind.CHOICE:
            return chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=shape.choices))
        case ShapeKind.JSON_OBJECT:
            return chat_pb2.StructuredOutput(json_object=True)
        case ShapeKind.JSON_SCHEMA:
            return chat_pb2.StructuredOutput(json_schema=shape.text)
        case ShapeKind.REGEX:
            return chat_pb2.StructuredOutput(regex=shape.text)
        case ShapeKind.GRAMMAR:
            return chat_pb2.StructuredOutput(grammar=shape.text)


def of_shape(message: chat_pb2.StructuredOutput) -> Shape | None:
    """A shape of the wire; an unset message, and ``json_object: false``, ask for none."""
    name = message.WhichOneof("constraint")
    if name is None or (name == "json_object" and not message.json_object):
        return None
    kind = ShapeKind(name)
    if kind is ShapeKind.CHOICE:
        return Shape(kind, choices=tuple(message.choice.values))
    return Shape(kind, text="" if kind is ShapeKind.JSON_OBJECT else getattr(message, name))


def to_logprobs(items: Iterable[TokenLogprob]) -> list[chat_pb2.TokenLogprob]:
    """Probabilities as the wire carries them."""
    return [
        chat_pb2.TokenLogprob(token=item.token, token_id=item.token_id, logprob=item.logprob, top=to_logprobs(item.top))
        for item in items
    ]


def of_logprobs(items: Iterable[chat_pb2.TokenLogprob]) -> tuple[TokenLogprob, ...]:
    """Probabilities of the wire."""
    return tuple(TokenLogprob(item.token, item.token_id, item.logprob, of_logprobs(item.top)) for item in items)


def to_finish(reason: FinishReason) -> "chat_pb2.FinishReason.ValueType":
    """A finish reason as the wire carries it."""
    return _REASONS[reason]


def of_finish(code: int) -> FinishReason:
    """A finish reason of the wire; one that is newer than this build is not stated."""
    return _FINISHES.get(code, FinishReason.UNSPECIFIED)


def to_choices(choices: Iterable[ChoiceEnd]) -> list[chat_pb2.ChoiceEnd]:
    """The ends of the answers as the wire carries them."""
    return [
        chat_pb2.ChoiceEnd(
            choice=number, finish_reason=to_finish(end.finish_reason), completion_tokens=end.completion_tokens
        )
        for number, end in enumerate(choices)
    ]


def of_choices(messages: Iterable[chat_pb2.ChoiceEnd]) -> tuple[ChoiceEnd, ...]:
    """The ends of the answers, by number."""
    ordered = sorted(messages, key=lambda end: end.choice)
    return tuple(ChoiceEnd(of_finish(end.finish_reason), end.completion_tokens) for end in ordered)


def to_usage(usage: Usage) -> receipt_pb2.Usage:
    """Usage as the wire carries it."""
    return receipt_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
    )


def of_usage(message: receipt_pb2.Usage) -> Usage:
    """Usage of the wire."""
    return Usage(message.prompt_tokens, message.completion_tokens, message.cached_prompt_tokens)


def to_timings(timings: Iterable[StageTiming]) -> list[receipt_pb2.StageTiming]:
    """Stages as the wire carries them."""
    return [
        receipt_pb2.StageTiming(stage=item.stage, seconds=item.seconds, input_size=item.input_size) for item in timings
    ]


def of_timings(timings: Iterable[receipt_pb2.StageTiming]) -> tuple[StageTiming, ...]:
    """Stages of the wire."""
    return tuple(StageTiming(item.stage, item.seconds, item.input_size) for item in timings)


def to_span(span: SourceSpan) -> receipt_pb2.SourceSpan:
    """A span as the wire carries it."""
    return receipt_pb2.SourceSpan(
        collection=span.collection,
        document=span.document,
        version=span.version,
        start=span.start,
        end=span.end,
        chunk=span.chunk,
        marker=span.marker,
    )


def of_span(message: receipt_pb2.SourceSpan) -> SourceSpan:
    """A span of the wire."""
    return SourceSpan(
        message.collection,
        message.document,
        message.version,
        message.start,
        message.end,
        message.chunk,
        message.marker,
    )


def to_collections(versions: Iterable[CollectionVersion]) -> list[receipt_pb2.CollectionVersion]:
    """Collections as the wire carries them."""
    return [receipt_pb2.CollectionVersion(collection=item.collection, version=item.version) for item in versions]


def of_collections(messages: Iterable[receipt_pb2.CollectionVersion]) -> tuple[CollectionVersion, ...]:
    """Collections of the wire."""
    return tuple(CollectionVersion(item.collection, item.version) for item in messages)


def to_receipt(receipt: Receipt) -> receipt_pb2.Receipt:
    """A receipt as the wire carries it."""
    message = receipt_pb2.Receipt(
        request_id=receipt.request_id,
        engine_build=receipt.engine_build,
        base_digest=receipt.base_digest,
        version_digest=receipt.version_digest,
        requested_model=receipt.requested_model,
        resolved_model=receipt.resolved_model,
        template_digest=receipt.template_digest,
        prompt_tokens_digest=receipt.prompt_tokens_digest,
        sampling=to_sampling(receipt.sampling),
        sources=[to_span(span) for span in receipt.sources],
        usage=to_usage(receipt.usage),
        engine_slot=receipt.engine_slot,
        engine=receipt.engine,
        completion_digest=receipt.completion_digest,
        collections=to_collections(receipt.collections),
    )
    # A float of today's seconds holds microseconds exactly, and no nanoseconds: what is kept and read stays the same.
    message.complete_time.FromMicroseconds(round(receipt.complete_time_seconds * 1e6))
    return message


def of_receipt(message: receipt_pb2.Receipt) -> Receipt:
    """A receipt of the wire."""
    return Receipt(
        request_id=message.request_id,
        engine_build=message.engine_build,
        base_digest=message.base_digest,
        version_digest=message.version_digest,
        requested_model=message.requested_model,
        resolved_model=message.resolved_model,
        template_digest=message.template_digest,
        prompt_tokens_digest=message.prompt_tokens_digest,
        sampling=of_sampling(message.sampling),
        sources=tuple(of_span(span) for span in message.sources),
        usage=of_usage(message.usage),
        complete_time_seconds=message.complete_time.ToMicroseconds() / 1e6,
        engine_slot=message.engine_slot,
        engine=message.engine,
        completion_digest=message.completion_digest,
        collections=of_collections(message.collections),
    )
