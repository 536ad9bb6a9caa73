"""Between the contract and the domain, of requests and answers; ``wire_engines`` has the engines and what they hold."""

from __future__ import annotations

from datetime import datetime

from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.generator.v1 import generator_pb2

from services.generator.asking import Ask, Done, More, Opening, Prompt, TokenIds
from services.generator.conversation import Call, Turn
from services.generator.engine import Constraint, ConstraintKind, Finish, Logprob, Sampling
from services.generator.tools import Choice, Tool, ToolUse
from services.generator.wire_times import timestamp

_ROLES = {
    chat_pb2.CHAT_ROLE_SYSTEM: "system",
    chat_pb2.CHAT_ROLE_USER: "user",
    chat_pb2.CHAT_ROLE_ASSISTANT: "assistant",
    chat_pb2.CHAT_ROLE_TOOL: "tool",
}
_FINISH = {
    Finish.STOP: chat_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    Finish.ABORT: chat_pb2.FINISH_REASON_ABORT,
    Finish.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
}
_CHOICES = {
    chat_pb2.TOOL_CHOICE_UNSPECIFIED: Choice.AUTO,
    chat_pb2.TOOL_CHOICE_AUTO: Choice.AUTO,
    chat_pb2.TOOL_CHOICE_NONE: Choice.NONE,
    chat_pb2.TOOL_CHOICE_REQUIRED: Choice.REQUIRED,
    chat_pb2.TOOL_CHOICE_NAMED: Choice.NAMED,
}
_TEXT_CONSTRAINTS = {
    "json_schema": ConstraintKind.JSON_SCHEMA,
    "regex": ConstraintKind.REGEX,
    "grammar": ConstraintKind.GRAMMAR,
}


def of_prompt(request: generator_pb2.GenerateRequest | generator_pb2.TokenizeRequest) -> Prompt:
    """Turns, a text, or token ids."""
    if request.WhichOneof("prompt") == "conversation":
        # A list: the domain tells turns from token ids by it.
        return [_turn(message) for message in request.conversation.messages]
    if isinstance(request, generator_pb2.GenerateRequest) and request.WhichOneof("prompt") == "token_ids":
        return TokenIds(tuple(request.token_ids.ids))
    return request.text


def _turn(message: chat_pb2.ChatMessage) -> Turn:
    calls = tuple(Call(call.id, call.name, call.arguments) for call in message.tool_calls)
    return Turn(_ROLES[message.role], message.content, calls, message.tool_call_id)


def of_tools(request: generator_pb2.GenerateRequest | generator_pb2.TokenizeRequest) -> ToolUse | None:
    """The tools of a conversation; None where it has none."""
    if not request.conversation.HasField("tool_use"):
        return None
    use = request.conversation.tool_use
    tools = tuple(
        Tool(tool.name, tool.description, tool.parameters, tool.strict if tool.HasField("strict") else None)
        for tool in use.tools
    )
    return ToolUse(tools, _CHOICES[use.choice], use.name, use.single)


def of_request(request: generator_pb2.GenerateRequest, deadline: float | None = None, weight: int = 1) -> Ask:
    """The domain's ask; ``max_tokens`` 0 and seed None mean that the server decides.

    ``deadline`` and ``weight`` are the call's: no field of a request says them.
    """
    sampling = request.sampling
    return Ask(
        prompt=of_prompt(request),
        version=request.version,
        base=request.base,
        sampling=Sampling(
            max_tokens=sampling.max_tokens,
            temperature=_temperature(sampling),
            top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
            top_k=sampling.top_k,
            stop=tuple(sampling.stop),
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            repetition_penalty=sampling.repetition_penalty if sampling.HasField("repetition_penalty") else 1.0,
            logprobs=sampling.logprobs if sampling.HasField("logprobs") else None,
            min_p=sampling.min_p,
            min_tokens=sampling.min_tokens,
            ignore_eos=sampling.ignore_eos,
            stop_token_ids=tuple(sampling.stop_token_ids),
            logit_bias=dict(sampling.logit_bias),
            n=sampling.n if sampling.HasField("n") else 1,
            bad_words=tuple(sampling.bad_words),
            allowed_token_ids=tuple(sampling.allowed_token_ids),
            include_stop_str_in_output=sampling.include_stop_str_in_output,
            skip_special_tokens=sampling.skip_special_tokens if sampling.HasField("skip_special_tokens") else True,
        ),
        seed=sampling.seed if sampling.HasField("seed") else None,
        constraint=_constraint(request),
        request_id=request.request_id,
        requested_model=request.requested_model,
        tools=of_tools(request),
        background=request.background,
        deadline=deadline,
        weight=weight,
    )


def _constraint(request: generator_pb2.GenerateRequest) -> Constraint | None:
    if not request.HasField("structured_output"):
        return None
    shape = request.structured_output
    kind = shape.WhichOneof("constraint")
    if kind == "choice":
        return Constraint(ConstraintKind.CHOICE, choices=tuple(shape.choice.values))
    if kind == "json_object":
        return Constraint(ConstraintKind.JSON_OBJECT) if shape.json_object else None
    return Constraint(_TEXT_CONSTRAINTS[str(kind)], getattr(shape, str(kind)))


def to_response(
    part: Opening | More | Done, request: generator_pb2.GenerateRequest, complete_time: datetime
) -> generator_pb2.GenerateResponse:
    """One message of the answer; ``complete_time`` is used on the last."""
    if isinstance(part, Opening):
        receipt = _receipt(part, request, _usage(part, 0))
        return generator_pb2.GenerateResponse(opening=generator_pb2.Opening(receipt=receipt))
    if isinstance(part, More):
        delta = generator_pb2.Delta(
            text=part.text,
            token_ids=part.token_ids,
            logprobs=[_logprob(told) for told in part.logprobs],
            choice=part.choice,
            tool_calls=[
                chat_pb2.ToolCallDelta(index=more.index, id=more.id, name=more.name, arguments=more.arguments)
                for more in part.calls
            ],
        )
        return generator_pb2.GenerateResponse(delta=delta)
    usage = _usage(part.opening, part.completion_tokens)
    receipt = _receipt(part.opening, request, usage)
    receipt.completion_digest = part.completion_digest
    receipt.complete_time.CopyFrom(timestamp(complete_time))
    timings = [
        receipt_pb2.StageTiming(stage=stage.name, seconds=stage.seconds, input_size=stage.input_size)
        for stage in part.stages
    ]
    choices = [
        chat_pb2.ChoiceEnd(
            choice=number, finish_reason=_FINISH[ended.finish], completion_tokens=ended.completion_tokens
        )
        for number, ended in enumerate(part.choices)
    ]
    final = generator_pb2.Final(
        finish_reason=_FINISH[part.finish], usage=usage, timings=timings, receipt=receipt, choices=choices
    )
    return generator_pb2.GenerateResponse(final=final)


def _usage(opening: Opening, completion_tokens: int) -> receipt_pb2.Usage:
    return receipt_pb2.Usage(
        prompt_tokens=opening.prompt_tokens,
        completion_tokens=completion_tokens,
        cached_prompt_tokens=opening.cached_tokens,
    )


def _receipt(opening: Opening, request: generator_pb2.GenerateRequest, usage: receipt_pb2.Usage) -> receipt_pb2.Receipt:
    return receipt_pb2.Receipt(
        request_id=opening.request_id,
        engine_build=opening.engine_build,
        base_digest=opening.base_digest,
        version_digest=opening.version,
        requested_model=opening.requested_model,
        template_digest=opening.template_digest,
        prompt_tokens_digest=opening.prompt_tokens_digest,
        sampling=_sampling(opening.sampling),
        sources=request.sources,
        usage=usage,
        engine_slot=opening.attestation.slot,
        engine=opening.engine,
        resolved_model=opening.resolved_model,
    )


def _temperature(sampling: chat_pb2.Sampling) -> float:
    """The one that is asked for; else none, or as much as several answers need to differ."""
    return sampling.temperature if sampling.HasField("temperature") else float(sampling.n > 1)


def _sampling(sampling: Sampling) -> chat_pb2.Sampling:
    return chat_pb2.Sampling(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        stop=sampling.stop,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logprobs=sampling.logprobs,
        min_p=sampling.min_p,
        min_tokens=sampling.min_tokens,
        ignore_eos=sampling.ignore_eos,
        stop_token_ids=sampling.stop_token_ids,
        logit_bias=sampling.logit_bias,
        n=sampling.n,
        bad_words=sampling.bad_words,
        allowed_token_ids=sampling.allowed_token_ids,
        include_stop_str_in_output=sampling.include_stop_str_in_output,
        skip_special_tokens=sampling.skip_special_tokens,
    )


def _logprob(told: Logprob) -> chat_pb2.TokenLogprob:
    return chat_pb2.TokenLogprob(
        token=told.text, token_id=told.token_id, logprob=told.logprob, top=[_logprob(other) for other in told.top]
    )
