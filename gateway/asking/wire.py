"""Questions and answers with sources, between ``trivium.gateway.v1`` and the domain."""

from trivium.gateway.v1 import gateway_pb2

from gateway.answering import Wish
from gateway.asking.citations import Citation
from gateway.asking.question import Answer, Path, Question, Release, Rewrite, Sources, Unsupported
from gateway.asking.quotes import Quote
from gateway.asking.retrieval import Abstention, Scope, Source
from gateway.asking.stages import Report
from gateway.asking.support import Judge, Judged, Verdict
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
from gateway.peers.retriever import POLICIES

_PATHS = {
    Path.UNSPECIFIED: gateway_pb2.ANSWER_PATH_UNSPECIFIED,
    Path.PASSAGES: gateway_pb2.ANSWER_PATH_PASSAGES,
    Path.SUMMARY: gateway_pb2.ANSWER_PATH_SUMMARY,
    Path.INDEX: gateway_pb2.ANSWER_PATH_INDEX,
}
_OF_PATH = {int(number): path for path, number in _PATHS.items()}
_OF_POLICY = {int(number): policy for policy, number in POLICIES.items()}
_VERDICTS = {
    Verdict.SUPPORTED: gateway_pb2.SUPPORT_VERDICT_SUPPORTED,
    Verdict.UNSUPPORTED: gateway_pb2.SUPPORT_VERDICT_UNSUPPORTED,
    Verdict.NO_CLAIM: gateway_pb2.SUPPORT_VERDICT_NO_CLAIM,
}
_JUDGES = {
    Judge.WORDS: gateway_pb2.SUPPORT_JUDGE_WORDS,
    Judge.VECTORS: gateway_pb2.SUPPORT_JUDGE_VECTORS,
    Judge.MODEL: gateway_pb2.SUPPORT_JUDGE_MODEL,
}


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
        abstention=_OF_POLICY[request.abstention],
        path=_OF_PATH[request.path],
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
        sources=[_source(item) for item in told.sources],
        path=_PATHS[told.path],
        abstention=_abstention(told.abstention),
        rewrite=_rewrite(told.rewrite),
        left_out=[_source(item) for item in told.left_out],
    )


def _source(source: Source) -> gateway_pb2.Source:
    return gateway_pb2.Source(
        span=to_span(source.span),
        title=source.title,
        heading_path=source.heading_path,
        text=source.text,
        score=source.score,
    )


def _abstention(value: Abstention | None) -> gateway_pb2.Abstention | None:
    if value is None:
        return None
    return gateway_pb2.Abstention(
        policy=POLICIES[value.policy],
        score=value.score,
        threshold=value.threshold,
        answerable=value.answerable,
        abstained=value.abstained,
        hedged=value.hedged,
        says=value.says,
    )


def _rewrite(value: Rewrite | None) -> gateway_pb2.Rewrite | None:
    if value is None:
        return None
    return gateway_pb2.Rewrite(question=value.question, rewritten=value.rewritten, reason=value.reason)


def _final(answer: Answer) -> gateway_pb2.AskFinal:
    end = answer.end
    return gateway_pb2.AskFinal(
        finish_reason=to_finish(end.finish_reason),
        usage=to_usage(end.usage),
        timings=to_timings(end.timings),
        receipt=to_receipt(end.receipt),
        citations=[_citation(item) for item in answer.citations],
        unresolved_markers=answer.unresolved_markers,
        path=_PATHS[answer.told.path],
        abstention=_abstention(answer.told.abstention),
        rewrite=_rewrite(answer.told.rewrite),
        sentences=[_sentence(item) for item in answer.sentences],
        quotes=[_quote(item) for item in answer.quotes],
        fallbacks=[
            gateway_pb2.Fallback(stage=item.stage, instead=item.instead, reason=item.reason)
            for item in answer.fallbacks
        ],
        stages=[_stage(item) for item in answer.stages],
        prompt_format=answer.prompt_format,
    )


def _citation(citation: Citation) -> gateway_pb2.Citation:
    return gateway_pb2.Citation(
        marker=citation.marker,
        answer_start=citation.answer_start,
        answer_end=citation.answer_end,
        span=to_span(citation.span),
    )


def _sentence(item: Judged) -> gateway_pb2.Sentence:
    return gateway_pb2.Sentence(
        start=item.start,
        end=item.end,
        verdict=_VERDICTS[item.verdict],
        judge=_JUDGES[item.judge],
        words=item.words,
        similarity=item.similarity,
        marker=item.marker,
        withheld=item.withheld,
        text=item.text,
    )


def _quote(item: Quote) -> gateway_pb2.Quote:
    span = None if item.span is None else to_span(item.span)
    return gateway_pb2.Quote(start=item.start, end=item.end, found=item.found, span=span)


def _stage(item: Report) -> gateway_pb2.Stage:
    return gateway_pb2.Stage(
        stage=item.stage,
        seconds=item.seconds,
        input_size=item.input_size,
        budget_seconds=item.budget_seconds,
        decision=item.decision,
    )
