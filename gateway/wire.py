"""``trivium.gateway.v1`` and the domain, both ways.  Branches on types live here, so that the servicer has none."""

from dataclasses import replace

from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2

from gateway.answering import Wish
from gateway.asking import wire as asking_wire
from gateway.asking.question import Answer, Question, Sources
from gateway.asking.retrieval import DEFAULT_TOP_K
from gateway.auto.choosing import Choice
from gateway.chat import Conversation
from gateway.generation import Generated, Receipt, Several, TextDelta, TokenIds
from gateway.limits.terms import Demand, guessed_tokens
from gateway.models.wire import to_model
from gateway.names import model_of
from gateway.peers.messages import (
    of_messages,
    of_sampling,
    of_shape,
    to_choices,
    to_finish,
    to_logprobs,
    to_receipt,
    to_timings,
    to_usage,
)
from gateway.peers.tools import of_tools, to_calls
from gateway.routing import Explanation


def _wish(
    request: gateway_pb2.AskRequest | gateway_pb2.ChatRequest | gateway_pb2.CompleteRequest,
) -> Wish:
    return Wish(
        model=request.model,
        sampling=of_sampling(request.sampling),
        shape=of_shape(request.structured_output),
        request_id=request.request_id,
        sticky_key=request.sticky_key,
        fallback=request.fallback,
    )


# What the generator takes where nothing is asked for.
_ANSWER_TOKENS = 256


def demand(request: gateway_pb2.AskRequest | gateway_pb2.ChatRequest | gateway_pb2.CompleteRequest) -> Demand:
    """What a request would use of its limits, guessed."""
    prompts = len(request.prompts) if isinstance(request, gateway_pb2.CompleteRequest) else 1
    return demanded(request.model, _prompt_tokens(request), request.sampling, max(1, prompts))


def demanded(model: str, prompt_tokens: int, sampling: chat_pb2.Sampling, prompts: int = 1) -> Demand:
    """What prompts of so many tokens together would use at a model."""
    wanted = sampling.max_tokens or _ANSWER_TOKENS
    return Demand(model_of(model), prompt_tokens, wanted * max(1, sampling.n) * prompts)


def _prompt_tokens(request: gateway_pb2.AskRequest | gateway_pb2.ChatRequest | gateway_pb2.CompleteRequest) -> int:
    match request:
        case gateway_pb2.ChatRequest():
            return guessed_tokens(turn.content for turn in request.messages)
        case gateway_pb2.AskRequest():
            texts = [request.question, request.instructions, *(turn.content for turn in request.history)]
            sources = (request.top_k or DEFAULT_TOP_K) if request.collections else 0
            return guessed_tokens(texts, sources)
        case _:
            each = [_raw(prompt) for prompt in request.prompts] or [request.prompt]
            counted = sum(len(prompt.ids) for prompt in each if isinstance(prompt, TokenIds))
            return counted + guessed_tokens(prompt for prompt in each if isinstance(prompt, str))


def question(request: gateway_pb2.AskRequest) -> Question:
    """What is asked."""
    return asking_wire.question(request, _wish(request))


def conversation(request: gateway_pb2.ChatRequest) -> Conversation:
    """Turns to answer."""
    return Conversation(of_messages(request.messages), replace(_wish(request), tools=of_tools(request.tool_use)))


def continuation(request: gateway_pb2.CompleteRequest) -> Conversation:
    """What is to be continued."""
    each = tuple(_raw(prompt) for prompt in request.prompts) or (request.prompt,)
    return Conversation(each[0] if len(each) == 1 else Several(each), _wish(request))


def _raw(prompt: gateway_pb2.RawPrompt) -> str | TokenIds:
    return TokenIds(tuple(prompt.token_ids.ids)) if prompt.HasField("token_ids") else prompt.text


def ask_response(event: Sources | TextDelta | Answer) -> gateway_pb2.AskResponse:
    """One event of an answer with sources."""
    return asking_wire.response(event)


def chat_response(event: TextDelta | Generated) -> gateway_pb2.ChatResponse:
    """One event of a turn."""
    if isinstance(event, TextDelta):
        return gateway_pb2.ChatResponse(delta=_delta(event))
    return gateway_pb2.ChatResponse(final=_final(event))


def complete_response(event: TextDelta | Generated) -> gateway_pb2.CompleteResponse:
    """One event of a continuation."""
    if isinstance(event, TextDelta):
        return gateway_pb2.CompleteResponse(delta=_delta(event))
    return gateway_pb2.CompleteResponse(final=_final(event))


def explain_response(explanation: Explanation) -> gateway_pb2.ExplainRouteResponse:
    """Where a request would go."""
    return gateway_pb2.ExplainRouteResponse(
        resolved_model=explanation.route.resolved,
        reason=explanation.reason,
        alias=explanation.route.alias,
        engines=explanation.engines,
        model=to_model(explanation.model),
        canary=explanation.route.canary,
        choice=None if explanation.choice is None else _choice(explanation.choice),
    )


def _choice(choice: Choice) -> gateway_pb2.AutoChoice:
    return gateway_pb2.AutoChoice(
        candidates=[gateway_pb2.ScoredModel(model=item.model, score=item.score) for item in choice.candidates],
        confidence=choice.confidence,
        threshold=choice.threshold,
        abstained=choice.abstained,
        ambiguous=choice.ambiguous,
    )


def receipt_response(receipt: Receipt) -> gateway_pb2.GetReceiptResponse:
    """A receipt."""
    return gateway_pb2.GetReceiptResponse(receipt=to_receipt(receipt))


def _delta(delta: TextDelta) -> gateway_pb2.TextDelta:
    return gateway_pb2.TextDelta(
        text=delta.text,
        logprobs=to_logprobs(delta.logprobs),
        choice=delta.choice,
        tool_calls=to_calls(delta.calls),
    )


def _final(end: Generated) -> gateway_pb2.GenerationFinal:
    return gateway_pb2.GenerationFinal(
        finish_reason=to_finish(end.finish_reason),
        usage=to_usage(end.usage),
        timings=to_timings(end.timings),
        receipt=to_receipt(end.receipt),
        choices=to_choices(end.choices),
        fallbacks=_fallbacks(end),
    )


def _fallbacks(end: Generated) -> list[gateway_pb2.Fallback]:
    return [gateway_pb2.Fallback(stage=item.stage, instead=item.instead, reason=item.reason) for item in end.fallbacks]
