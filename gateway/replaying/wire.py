"""Replays, between ``trivium.gateway.v1`` and the domain."""

from trivium.gateway.v1 import replays_pb2 as pb

from gateway import wire
from gateway.asking.question import Question
from gateway.chat import Conversation
from gateway.generation import Receipt
from gateway.limits.terms import Demand
from gateway.names import model_of
from gateway.peers.messages import to_logprobs, to_receipt, to_span
from gateway.replaying.nouns import Difference, Named, Recalled, Replay, Reread, Verdict

_VERDICTS = {
    Verdict.EXACT: pb.REPLAY_VERDICT_EXACT,
    Verdict.EXPLAINED: pb.REPLAY_VERDICT_EXPLAINED,
    Verdict.DIFFERENT: pb.REPLAY_VERDICT_DIFFERENT,
    Verdict.UNDECIDED: pb.REPLAY_VERDICT_UNDECIDED,
    Verdict.PROMPT_DIFFERS: pb.REPLAY_VERDICT_PROMPT_DIFFERS,
    Verdict.WEIGHTS_GONE: pb.REPLAY_VERDICT_WEIGHTS_GONE,
}


def demand(receipt: Receipt) -> Demand:
    """What a replay would use of its caller's limits: as much as the answer did, of the models of its receipt.

    It is recorded under the names of both; what a request that is brought names is not asked.
    """
    requested, answers = receipt.requested_model, receipt.resolved_model or receipt.requested_model
    usage = receipt.usage
    return Demand(model_of(requested), usage.prompt_tokens, usage.completion_tokens, model_of(answers))


def recalled(request: pb.ReplayAnswerRequest) -> Recalled | Named:
    """What is to be computed again."""
    answer = request.answer if request.HasField("answer") else None
    asked = _asked(request)
    if asked is None:
        return Named(request.request_id, answer, request.rewritten_question)
    return Recalled(request.request_id, asked, answer, request.rewritten_question)


def _asked(request: pb.ReplayAnswerRequest) -> Conversation | Question | None:
    match request.WhichOneof("request"):
        case "chat":
            return wire.conversation(request.chat)
        case "complete":
            return wire.continuation(request.complete)
        case "ask":
            return wire.question(request.ask)
        case _:
            return None


def response(found: Replay) -> pb.ReplayAnswerResponse:
    """What was found."""
    return pb.ReplayAnswerResponse(
        verdict=_VERDICTS[found.verdict],
        explanation=found.explanation,
        receipt=to_receipt(found.receipt),
        replayed=None if found.again is None else to_receipt(found.again),
        text=found.text,
        differences=[_difference(item) for item in found.differences],
        sources=[_source(item) for item in found.sources],
        collections=[
            pb.ReplayedCollection(collection=item.collection, version=item.version, present_version=item.present)
            for item in found.collections
        ],
    )


def _difference(found: Difference) -> pb.TokenDifference:
    message = pb.TokenDifference(position=found.position, start=found.start, rank=found.rank or 0, margin=found.margin)
    if found.made is not None:
        message.made.CopyFrom(*to_logprobs([found.made]))
    if found.rival is not None:
        message.rival.CopyFrom(*to_logprobs([found.rival]))
    return message


def _source(source: Reread) -> pb.ReplayedSource:
    return pb.ReplayedSource(
        span=to_span(source.span), title=source.title, found=source.text is not None, text=source.text or ""
    )
