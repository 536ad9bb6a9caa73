"""What only answers with sources have, from the wire and to it."""

from __future__ import annotations

from typing import Any

from trivium.common.v1 import receipt_pb2
from trivium.gateway.v1 import gateway_pb2
from trivium.retriever.v1 import retriever_pb2

from trivium_client import answers, nouns
from trivium_client.wire import number, word


def fields(asking: answers.Asking | None) -> dict[str, Any]:
    """The fields of a request.  Raises ValueError for a word that is none."""
    if asking is None:
        return {}
    return {
        "abstention": number(retriever_pb2.AbstentionPolicy, asking.abstention, "abstention"),
        "path": number(gateway_pb2.AnswerPath, asking.path, "path"),
        "rewrite": asking.rewrite,
        "release": number(gateway_pb2.ReleaseMode, asking.release, "release"),
        "unsupported": number(gateway_pb2.UnsupportedPolicy, asking.unsupported, "unsupported"),
        "check_support": asking.check_support,
        "explain": asking.explain,
        "no_fallbacks": not asking.fallbacks,
        "filter": None if asking.filter is None else asking.filter._message,
        "as_readers": asking.as_readers,
    }


def span(message: receipt_pb2.SourceSpan) -> nouns.Span:
    """From the wire."""
    return nouns.Span(
        collection=message.collection,
        document=message.document,
        version=message.version,
        start=message.start,
        end=message.end,
        chunk=message.chunk,
        marker=message.marker,
    )


def source(message: gateway_pb2.Source) -> answers.Source:
    """From the wire."""
    return answers.Source(
        span=span(message.span),
        title=message.title,
        heading_path=tuple(message.heading_path),
        text=message.text,
        score=message.score,
    )


def citation(message: gateway_pb2.Citation) -> answers.Citation:
    """From the wire."""
    return answers.Citation(message.marker, message.answer_start, message.answer_end, span(message.span))


def sources(message: gateway_pb2.Sources) -> answers.Sources:
    """From the wire."""
    return answers.Sources(
        tuple(source(item) for item in message.sources),
        word(gateway_pb2.AnswerPath, message.path),
        _abstention(message),
        _rewrite(message),
        tuple(source(item) for item in message.left_out),
    )


def told(message: gateway_pb2.AskFinal) -> dict[str, Any]:
    """What the end of an answer with sources has beside its citations."""
    return {
        "path": word(gateway_pb2.AnswerPath, message.path),
        "abstention": _abstention(message),
        "rewrite": _rewrite(message),
        "sentences": tuple(_sentence(item) for item in message.sentences),
        "quotes": tuple(_quote(item) for item in message.quotes),
        "stages": tuple(_stage(item) for item in message.stages),
        "prompt_format": message.prompt_format,
    }


def _abstention(message: gateway_pb2.Sources | gateway_pb2.AskFinal) -> answers.Abstention | None:
    if not message.HasField("abstention"):
        return None
    found = message.abstention
    return answers.Abstention(
        policy=word(retriever_pb2.AbstentionPolicy, found.policy),
        score=found.score,
        threshold=found.threshold,
        answerable=found.answerable,
        abstained=found.abstained,
        hedged=found.hedged,
        says=found.says,
    )


def _rewrite(message: gateway_pb2.Sources | gateway_pb2.AskFinal) -> answers.Rewrite | None:
    if not message.HasField("rewrite"):
        return None
    return answers.Rewrite(message.rewrite.question, message.rewrite.rewritten, message.rewrite.reason)


def _sentence(message: gateway_pb2.Sentence) -> answers.Sentence:
    return answers.Sentence(
        start=message.start,
        end=message.end,
        verdict=word(gateway_pb2.SupportVerdict, message.verdict),
        judge=word(gateway_pb2.SupportJudge, message.judge),
        words=message.words,
        similarity=message.similarity if message.HasField("similarity") else None,
        marker=message.marker,
        withheld=message.withheld,
        text=message.text,
    )


def _quote(message: gateway_pb2.Quote) -> answers.Quote:
    return answers.Quote(
        message.start, message.end, message.found, span(message.span) if message.HasField("span") else None
    )


def _stage(message: gateway_pb2.Stage) -> answers.Stage:
    return answers.Stage(
        stage=message.stage,
        seconds=message.seconds,
        input_size=message.input_size,
        budget_seconds=message.budget_seconds if message.HasField("budget_seconds") else None,
        decision=message.decision,
    )
