"""What a response has of an answer with sources, as the wire carries it: fields of its settings, and of itself."""

from typing import Any

from trivium.gateway.v1 import gateway_pb2
from trivium.gateway.v1 import responses_pb2 as pb

from gateway.asking.question import Path, Release, Unsupported
from gateway.asking.retrieval import Policy
from gateway.asking.wire_telling import (
    OF_PATH,
    OF_POLICY,
    PATHS,
    of_abstention,
    of_quote,
    of_rewrite,
    of_sentence,
    of_source,
    of_stage,
    to_abstention,
    to_quote,
    to_rewrite,
    to_sentence,
    to_source,
    to_stage,
)
from gateway.peers.retriever import POLICIES
from gateway.responses.grounds import Grounds, Manner

_RELEASES = {
    Release.AT_ONCE: gateway_pb2.RELEASE_MODE_TOKEN,
    Release.SENTENCE: gateway_pb2.RELEASE_MODE_SENTENCE,
}
_UNSUPPORTED = {
    Unsupported.MARK: gateway_pb2.UNSUPPORTED_POLICY_MARK,
    Unsupported.WITHHOLD: gateway_pb2.UNSUPPORTED_POLICY_WITHHOLD,
}
_OF_RELEASE = {int(number): release for release, number in _RELEASES.items()}
_OF_UNSUPPORTED = {int(number): policy for policy, number in _UNSUPPORTED.items()}


def of_manner(message: pb.ResponseSettings) -> Manner:
    """How an answer is made from sources."""
    return Manner(
        abstention=OF_POLICY.get(message.abstention, Policy.UNSPECIFIED),
        path=OF_PATH.get(message.path, Path.UNSPECIFIED),
        rewrite=message.rewrite if message.HasField("rewrite") else None,
        release=_OF_RELEASE.get(message.release),
        unsupported=_OF_UNSUPPORTED.get(message.unsupported),
        check_support=message.check_support,
        as_readers=tuple(message.as_readers),
        explain=message.explain,
        fallbacks=not message.no_fallbacks,
    )


def to_manner(value: Manner) -> dict[str, Any]:
    """The same as fields of ResponseSettings."""
    return {
        "abstention": POLICIES[value.abstention],
        "path": PATHS[value.path],
        "rewrite": value.rewrite,
        "release": None if value.release is None else _RELEASES[value.release],
        "unsupported": None if value.unsupported is None else _UNSUPPORTED[value.unsupported],
        "check_support": value.check_support,
        "as_readers": value.as_readers,
        "explain": value.explain,
        "no_fallbacks": not value.fallbacks,
    }


def of_grounds(message: pb.Response) -> Grounds:
    """What an answer tells beside its citations."""
    return Grounds(
        path=OF_PATH.get(message.path, Path.UNSPECIFIED),
        abstention=of_abstention(message.abstention) if message.HasField("abstention") else None,
        rewrite=of_rewrite(message.rewrite) if message.HasField("rewrite") else None,
        left_out=tuple(of_source(it) for it in message.left_out),
        sentences=tuple(of_sentence(it) for it in message.sentences),
        quotes=tuple(of_quote(it) for it in message.quotes),
        unresolved_markers=tuple(message.unresolved_markers),
        stages=tuple(of_stage(it) for it in message.stages),
        prompt_format=message.prompt_format,
    )


def to_grounds(value: Grounds) -> dict[str, Any]:
    """The same as fields of Response."""
    return {
        "path": PATHS[value.path],
        "abstention": to_abstention(value.abstention),
        "rewrite": to_rewrite(value.rewrite),
        "left_out": [to_source(it) for it in value.left_out],
        "sentences": [to_sentence(it) for it in value.sentences],
        "quotes": [to_quote(it) for it in value.quotes],
        "unresolved_markers": value.unresolved_markers,
        "stages": [to_stage(it) for it in value.stages],
        "prompt_format": value.prompt_format,
    }
