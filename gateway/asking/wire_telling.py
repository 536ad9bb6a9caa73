"""What an answer with sources tells of itself, between ``trivium.gateway.v1`` and the domain, both ways."""

from collections.abc import Iterable

from trivium.gateway.v1 import gateway_pb2

from gateway.asking.question import Path, Rewrite
from gateway.asking.quotes import Quote
from gateway.asking.retrieval import Abstention, Policy, Source
from gateway.asking.stages import Report
from gateway.asking.support import Judge, Judged, Verdict
from gateway.generation import Fallback
from gateway.peers.messages import of_span, to_span
from gateway.peers.retriever import POLICIES

PATHS = {
    Path.UNSPECIFIED: gateway_pb2.ANSWER_PATH_UNSPECIFIED,
    Path.PASSAGES: gateway_pb2.ANSWER_PATH_PASSAGES,
    Path.SUMMARY: gateway_pb2.ANSWER_PATH_SUMMARY,
    Path.INDEX: gateway_pb2.ANSWER_PATH_INDEX,
}
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
OF_PATH = {int(number): path for path, number in PATHS.items()}
OF_POLICY = {int(number): policy for policy, number in POLICIES.items()}
_OF_VERDICT = {int(number): verdict for verdict, number in _VERDICTS.items()}
_OF_JUDGE = {int(number): judge for judge, number in _JUDGES.items()}


def to_source(source: Source) -> gateway_pb2.Source:
    """A source as the wire carries it."""
    return gateway_pb2.Source(
        span=to_span(source.span),
        title=source.title,
        heading_path=source.heading_path,
        text=source.text,
        score=source.score,
    )


def of_source(message: gateway_pb2.Source) -> Source:
    """A source."""
    return Source(of_span(message.span), message.title, tuple(message.heading_path), message.text, message.score)


def to_abstention(value: Abstention | None) -> gateway_pb2.Abstention | None:
    """Whether to answer, as the wire carries it."""
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


def of_abstention(message: gateway_pb2.Abstention) -> Abstention:
    """Whether to answer."""
    return Abstention(
        OF_POLICY.get(message.policy, Policy.UNSPECIFIED),
        message.score,
        message.threshold,
        message.answerable,
        message.abstained,
        message.hedged,
        message.says,
    )


def to_rewrite(value: Rewrite | None) -> gateway_pb2.Rewrite | None:
    """What became of a question, as the wire carries it."""
    if value is None:
        return None
    return gateway_pb2.Rewrite(question=value.question, rewritten=value.rewritten, reason=value.reason)


def of_rewrite(message: gateway_pb2.Rewrite) -> Rewrite:
    """What became of a question."""
    return Rewrite(message.question, message.rewritten, message.reason)


def to_sentence(item: Judged) -> gateway_pb2.Sentence:
    """A sentence as the wire carries it."""
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


def of_sentence(message: gateway_pb2.Sentence) -> Judged:
    """A sentence."""
    return Judged(
        message.start,
        message.end,
        _OF_VERDICT.get(message.verdict, Verdict.NO_CLAIM),
        _OF_JUDGE.get(message.judge, Judge.WORDS),
        message.words,
        message.similarity if message.HasField("similarity") else None,
        message.marker,
        message.withheld,
        message.text,
    )


def to_quote(item: Quote) -> gateway_pb2.Quote:
    """A quotation as the wire carries it."""
    span = None if item.span is None else to_span(item.span)
    return gateway_pb2.Quote(start=item.start, end=item.end, found=item.found, span=span)


def of_quote(message: gateway_pb2.Quote) -> Quote:
    """A quotation."""
    span = of_span(message.span) if message.HasField("span") else None
    return Quote(message.start, message.end, message.found, span)


def to_stage(item: Report) -> gateway_pb2.Stage:
    """A stage as the wire carries it."""
    return gateway_pb2.Stage(
        stage=item.stage,
        seconds=item.seconds,
        input_size=item.input_size,
        budget_seconds=item.budget_seconds,
        decision=item.decision + item.words,
    )


def of_stage(message: gateway_pb2.Stage) -> Report:
    """A stage."""
    budget = message.budget_seconds if message.HasField("budget_seconds") else None
    return Report(message.stage, message.seconds, message.input_size, budget, message.decision)


def to_fallbacks(items: Iterable[Fallback]) -> list[gateway_pb2.Fallback]:
    """What was left out or replaced, as the wire carries it."""
    return [gateway_pb2.Fallback(stage=it.stage, instead=it.instead, reason=it.reason) for it in items]


def of_fallbacks(messages: Iterable[gateway_pb2.Fallback]) -> tuple[Fallback, ...]:
    """What was left out or replaced."""
    return tuple(Fallback(it.stage, it.instead, it.reason) for it in messages)
