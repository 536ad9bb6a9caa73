"""Answers from the wire, questions to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import gateway_pb2
from trivium.generator.v1 import generator_pb2

from trivium_client import answers, asking_wire
from trivium_client.wire import number, word

_SCALARS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "min_p",
    "min_tokens",
    "ignore_eos",
    "n",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "logprobs",
)


def sampling_to_wire(sampling: answers.Sampling | None) -> chat_pb2.Sampling:
    """To the wire; what is None stays unset."""
    message = chat_pb2.Sampling()
    if sampling is None:
        return message
    for name in _SCALARS:
        if (value := getattr(sampling, name)) is not None:
            setattr(message, name, value)
    message.stop.extend(sampling.stop)
    message.stop_token_ids.extend(sampling.stop_token_ids)
    message.bad_words.extend(sampling.bad_words)
    message.allowed_token_ids.extend(sampling.allowed_token_ids)
    message.logit_bias.update(sampling.logit_bias)
    return message


def messages_to_wire(messages: Iterable[answers.Message]) -> list[chat_pb2.ChatMessage]:
    """To the wire.  Raises ValueError for an unknown role."""
    return [
        chat_pb2.ChatMessage(
            role=number(chat_pb2.ChatRole, message.role, "role"),
            content=message.content,
        )
        for message in messages
    ]


def shape_to_wire(shape: answers.Shape | None, json_schema: str | None) -> chat_pb2.StructuredOutput | None:
    """To the wire; `json_schema` stands for a shape of that alone.  Raises ValueError unless one thing is asked for."""
    if json_schema:
        if shape is not None:
            raise ValueError("give json_schema or shape, not both")
        shape = answers.Shape(json_schema=json_schema)
    if shape is None:
        return None
    given = [name for name in ("json_schema", "json_object", "regex", "choices", "grammar") if getattr(shape, name)]
    if len(given) != 1:
        raise ValueError(f"a shape is one thing; this one has {' and '.join(given) or 'none'}")
    if shape.choices:
        return chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=shape.choices))
    return chat_pb2.StructuredOutput(**{given[0]: getattr(shape, given[0])})


def prompts_to_wire(prompt: str | Sequence[int] | Sequence[str | Sequence[int]]) -> dict[str, Any]:
    """The fields of CompleteRequest.  Raises ValueError for no prompt."""
    if isinstance(prompt, str):
        return {"prompt": prompt}
    numbers = [part for part in prompt if isinstance(part, int)]
    prompts = [part for part in prompt if not isinstance(part, int)]
    if bool(numbers) == bool(prompts):
        raise ValueError("a prompt is a text, a list of token ids, or a list of texts and of lists of token ids")
    return {"prompts": [_raw_prompt(part) for part in prompts or [numbers]]}


def _raw_prompt(prompt: str | Sequence[int]) -> gateway_pb2.RawPrompt:
    if isinstance(prompt, str):
        return gateway_pb2.RawPrompt(text=prompt)
    return gateway_pb2.RawPrompt(token_ids=generator_pb2.TokenIds(ids=prompt))


def part(message: Any) -> answers.Part:
    """From one message of Ask, Chat or Complete."""
    kind = message.WhichOneof("part")
    if kind == "sources":
        return asking_wire.sources(message.sources)
    if kind == "delta":
        delta = message.delta
        return answers.Text(delta.text, delta.choice, tuple(token_logprob(item) for item in delta.logprobs))
    return final(message.final)


def token_logprob(message: chat_pb2.TokenLogprob) -> answers.TokenLogprob:
    """From the wire."""
    top = tuple(token_logprob(item) for item in message.top)
    return answers.TokenLogprob(message.token, message.token_id, message.logprob, top)


def final(message: gateway_pb2.AskFinal | gateway_pb2.GenerationFinal) -> answers.Final:
    """From the wire."""
    asked = message if isinstance(message, gateway_pb2.AskFinal) else None
    return answers.Final(
        finish_reason=word(chat_pb2.FinishReason, message.finish_reason),
        usage=usage(message.usage),
        timings=tuple(
            answers.StageTiming(timing.stage, timing.seconds, timing.input_size) for timing in message.timings
        ),
        receipt=receipt(message.receipt),
        citations=tuple(asking_wire.citation(item) for item in asked.citations) if asked else (),
        unresolved_markers=tuple(asked.unresolved_markers) if asked else (),
        choices=() if isinstance(message, gateway_pb2.AskFinal) else tuple(choice_end(end) for end in message.choices),
        fallbacks=tuple(answers.Fallback(item.stage, item.instead, item.reason) for item in message.fallbacks),
        **(asking_wire.told(asked) if asked else {}),
    )


def choice_end(message: chat_pb2.ChoiceEnd) -> answers.ChoiceEnd:
    """From the wire."""
    return answers.ChoiceEnd(word(chat_pb2.FinishReason, message.finish_reason), message.completion_tokens)


def usage(message: receipt_pb2.Usage) -> answers.Usage:
    """From the wire."""
    return answers.Usage(message.prompt_tokens, message.completion_tokens, message.cached_prompt_tokens)


def receipt(message: receipt_pb2.Receipt) -> answers.Receipt:
    """From the wire."""
    return answers.Receipt(
        request_id=message.request_id,
        engine_build=message.engine_build,
        engine=message.engine,
        engine_slot=message.engine_slot,
        base_digest=message.base_digest,
        version=message.version_digest,
        requested_model=message.requested_model,
        resolved_model=message.resolved_model,
        template_digest=message.template_digest,
        prompt_tokens_digest=message.prompt_tokens_digest,
        seed=message.sampling.seed,
        temperature=message.sampling.temperature,
        max_tokens=message.sampling.max_tokens,
        sources=tuple(asking_wire.span(item) for item in message.sources),
        completion_digest=message.completion_digest,
        collections=tuple(answers.CollectionVersion(it.collection, it.version) for it in message.collections),
    )
