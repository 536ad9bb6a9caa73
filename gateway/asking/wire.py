"""Questions and answers with sources, between ``trivium.gateway.v1`` and the domain."""

from trivium.gateway.v1 import gateway_pb2

from gateway.answering import Wish
from gateway.asking.citations import Citation
from gateway.asking.question import Answer, Question, Release, Sources, Unsupported
from gateway.asking.retrieval import Scope
from gateway.asking.wire_telling import (
    OF_PATH,
    OF_POLICY,
    PATHS,
    to_abstention,
    to_fallbacks,
    to_quote,
    to_rewrite,
    to_sentence,
    to_source,
    to_stage,
)
from gateway.generation import TextDelta
from gateway.peers.messages import (
    of_messages,
    to_finish,
    to_logprobs,
    to_receipt,
    to_span,
    to_timings,
    to_usage,
)


def question(request: gateway_pb2.AskRequest, wish: Wish) -> Question:
    """What is asked."""
    narrowed = request.filter.SerializeToString() if request.HasField("filter") else b""
    return Question(
        text=request.question,
        wish=wish,
        scope=Scope(tuple(request.collections), narrowed, tuple(request.as_readers)),
        history=of_messages(request.history),
        top_k=request.top_k,
        instructions=request.instructions,
        abstention=OF_POLICY[request.abstention],
        path=OF_PATH[request.path],
        rewrite=request.rewrite if request.HasField("rewrite") else True,
        release=Release.SENTENCE if request.release == gateway_pb2.RELEASE_MODE_SENTENCE else Release.AT_ONCE,
        unsupported=(
            Unsupported.WITHHOLD if request.unsupported == gateway_pb2.UNSUPPORTED_POLICY_WITHHOLD else Unsupported.MARK
        ),
        check_support=request.check_support,
        explain=request.explain,
        fallbacks=not request.no_fallbacks,
    )


def response(event: Sources | TextDelta | Answer) -> gateway_pb2.AskResponse:
    """One event of an answer with sources."""
    match event:
        case Sources():
            return gateway_pb2.AskResponse(sources=_sources(event))
        case TextDelta():
            delta = gateway_pb2.TextDelta(text=event.text, logprobs=to_logprobs(event.logprobs), choice=event.choice)
            return gateway_pb2.AskResponse(delta=delta)
        case Answer():
            return gateway_pb2.AskResponse(final=_final(event))


def _sources(told: Sources) -> gateway_pb2.Sources:
    return gateway_pb2.Sources(
        sources=[to_source(item) for item in told.sources],
        path=PATHS[told.path],
        abstention=to_abstention(told.abstention),
        rewrite=to_rewrite(told.rewrite),
        left_out=[to_source(item) for item in told.left_out],
    )


def _final(answer: Answer) -> gateway_pb2.AskFinal:
    end = answer.end
    return gateway_pb2.AskFinal(
        finish_reason=to_finish(end.finish_reason),
        usage=to_usage(end.usage),
        timings=to_timings(end.timings),
        receipt=to_receipt(end.receipt),
        citations=[_citation(item) for item in answer.citations],
        unresolved_markers=answer.unresolved_markers,
        path=PATHS[answer.told.path],
        abstention=to_abstention(answer.told.abstention),
        rewrite=to_rewrite(answer.told.rewrite),
        sentences=[to_sentence(item) for item in answer.sentences],
        quotes=[to_quote(item) for item in answer.quotes],
        fallbacks=to_fallbacks(answer.fallbacks),
        stages=[to_stage(item) for item in answer.stages],
        prompt_format=answer.prompt_format,
    )


def _citation(citation: Citation) -> gateway_pb2.Citation:
    return gateway_pb2.Citation(
        marker=citation.marker,
        answer_start=citation.answer_start,
        answer_end=citation.answer_end,
        span=to_span(citation.span),
    )
