"""Answers computed again by weights whose every word is known, and texts that are held against them."""

import hashlib
import struct
from contextlib import nullcontext
from dataclasses import replace

import pytest

from gateway.answering import Answerer, Wish
from gateway.asking.abstaining import HEDGE
from gateway.asking.prompt import Quotation, grounded
from gateway.asking.question import Question, Unsupported
from gateway.asking.retrieval import Scope
from gateway.chat import Conversation
from gateway.generation import (
    FinishReason,
    Generated,
    Message,
    Opening,
    Receipt,
    Sampling,
    Shape,
    ShapeKind,
    SourceSpan,
    Speaker,
    TextDelta,
    TokenIds,
    TokenLogprob,
    Usage,
)
from gateway.policy import in_force
from gateway.policy.nouns import Allow, ContentPolicy, Refuse, Replace
from gateway.policy.policing import Policing
from gateway.replaying.generating import Generating
from gateway.replaying.nouns import Recalled, Reread, Verdict
from gateway.replaying.replayer import Replayer
from gateway.routing import ModelKind, Route
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger

BASE, VERSION = "sha256:" + "b" * 64, "sha256:" + "a" * 64
END = "<|end|>"
ASKING = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/ReplayAnswer")
TURNS = (Message(Speaker.USER, "Where does the ferry go?"),)
SPAN = SourceSpan("ferry", "fares.md", "v" * 64, 0, 20, "k", 1)
# What the weights say after what: the likeliest tokens with their logarithms, best first.
SAYS = {
    "": [("The", -0.1), ("A", -3.0)],
    "The": [(" ferry", -0.70), (" boat", -0.72), (" ship", -4.0)],
    "The ferry": [(" sails", -0.2), (" sinks", -5.0)],
    "The ferry sails": [(END, -0.1), (" on", -3.0)],
    "The boat": [(" floats", -0.2), (" sinks", -5.0)],
    "The boat floats": [(END, -0.1)],
}
WORDS = [END, *dict.fromkeys(word for likely in SAYS.values() for word, _ in likely)]


def digest(ids):
    return f"sha256:{hashlib.sha256(struct.pack(f'<{len(ids)}i', *ids)).hexdigest()}"


def ids(*words):
    return [WORDS.index(word) for word in words]


def characters(prompt):
    return tuple(
        map(ord, prompt if isinstance(prompt, str) else repr([(turn.speaker, turn.content) for turn in prompt]))
    )


class Weights:
    """Greedy over ``SAYS``; a prompt's tokens are its characters, then those of the answer that it goes on with."""

    def __init__(self, prompt=TURNS):
        self.prompt = prompt
        self.requests = []
        self.says = SAYS
        self.version, self.base, self.build = "", BASE, "engine 1"
        self.fails = None

    async def token_ids(self, prompt, tools, base, version):
        return characters(prompt)

    async def generate(self, request):
        self.requests.append(request)
        if self.fails is not None:
            raise self.fails
        receipt = self.receipt(request)
        yield Opening(receipt)
        said = self.begun(request)
        begun, made = len(said), []
        while len(said) < begun + (request.sampling.max_tokens or 256):
            likely = self.says["".join(said)]
            top = tuple(TokenLogprob(word, WORDS.index(word), logprob) for word, logprob in likely)
            said.append(likely[0][0])
            made.append(top[0].token_id)
            told = (replace(top[0], top=top[: request.sampling.logprobs]),)
            yield TextDelta("" if said[-1] == END else said[-1], told if request.sampling.logprobs else (), 1)
            if said[-1] == END:
                break
        yield Generated(FinishReason.STOP, Usage(5, len(made)), (), replace(receipt, completion_digest=digest(made)))

    def begun(self, request):
        if not isinstance(request.prompt, TokenIds):
            return []
        own = characters(self.prompt)
        assert request.prompt.ids[: len(own)] == own
        return [WORDS[number] for number in request.prompt.ids[len(own) :]]

    def receipt(self, request):
        return Receipt(
            "", self.build, self.base, self.version, sampling=request.sampling, usage=Usage(5), template_digest="t"
        )


class Peers:
    """The ledger, the registry, the documents and the recorder at once."""

    def __init__(self, receipt, weights):
        self.kept = receipt
        self.weights = weights
        self.recorded = []
        self.versions = {f"desk@{VERSION}"}
        self.texts = {"fares.md": Reread(SPAN, "Fares", "A ticket is 9 crowns")}

    async def receipt(self, request_id):
        if request_id != self.kept.request_id:
            raise Failure(Reason.RECEIPT_NOT_FOUND, name=request_id)
        return self.kept

    async def resolve(self, name, sticky_key=""):
        if name not in self.versions:
            raise Failure(Reason.MODEL_NOT_FOUND, name=name)
        return Route(name, name, ModelKind.ADAPTER, name.partition("@")[2], base_digest=BASE, fallback="base")

    async def read(self, span, as_readers):
        return self.texts.get(span.document, Reread(span))

    async def record(self, tenant, principal, method, receipt, project=""):
        self.recorded.append(receipt)

    def record_cancelled(self, *told):
        raise AssertionError("nobody left")


def receipt(words=("The", " ferry", " sails", END), prompt=TURNS, **changes):
    kept = Receipt(
        "r1",
        "engine 1",
        BASE,
        requested_model="base",
        resolved_model="base",
        template_digest="t",
        prompt_tokens_digest=digest(characters(prompt)),
        sampling=Sampling(max_tokens=8, temperature=0.0, n=1, seed=7),
        usage=Usage(len(characters(prompt)), len(words)),
        completion_digest=digest(ids(*words)),
    )
    return replace(kept, **changes)


async def replayed(answer=None, kept=None, weights=None, asked=None, peers=None, policing=None, **recalled):
    weights = weights or Weights()
    peers = peers or Peers(kept or receipt(), weights)
    generating = Generating(Answerer(weights, peers), lambda: 0.0, iter("123456789").__next__, policing)
    replayer = Replayer(peers, peers, weights, peers, generating)
    with serving(ASKING):
        return await replayer.replay(Recalled("r1", asked or Conversation(TURNS, Wish()), answer, **recalled)), peers


async def test_an_answer_whose_tokens_are_those_of_the_receipt_is_exact_without_its_text():
    weights = Weights()
    found, peers = await replayed(weights=weights)
    assert found.verdict is Verdict.EXACT
    assert found.text == "The ferry sails"
    (request,) = weights.requests
    assert (request.base, request.version, request.sampling.seed) == (BASE, "", 7)
    assert [item.request_id for item in peers.recorded] == ["r1~replay-1"]


class Judge:
    """Judges answers as it is told to."""

    def __init__(self, verdict):
        self.verdict = verdict
        self.texts = []

    async def prompt(self, policy, prompt):
        raise AssertionError("a prompt of a receipt was judged when it was answered")

    async def part(self, policy, part):
        self.texts.append(part.text)
        return self.verdict


@pytest.mark.parametrize("verdict", [Refuse("no ferries"), Replace("A boat sails", "no ferries"), Allow()])
async def test_a_replay_tells_nothing_that_the_content_policy_kept_back(verdict):
    judge = Judge(verdict)
    weights = Weights()
    peers = Peers(receipt(), weights)
    in_force.begin(ContentPolicy("judge:1", 1.0))
    policing = Policing(judge, logger("test"))
    passes = nullcontext() if verdict == Allow() else pytest.raises(Failure, match="content policy")
    with passes:
        found, _ = await replayed(weights=weights, peers=peers, policing=policing)
        assert found.text == "The ferry sails"
    in_force.begin(None)
    assert judge.texts == ["The ferry sails"]
    # What it took is recorded in any case.
    assert [item.request_id for item in peers.recorded] == ["r1~replay-1"]


async def test_a_text_is_exact_beside_the_digest_and_by_itself_where_the_receipt_is_older():
    for kept in (receipt(), receipt(completion_digest="")):
        found, _ = await replayed("The ferry sails", kept)
        assert found.verdict is Verdict.EXACT


@pytest.mark.parametrize(
    "text", ["The ferry sinks", "The boat floats", "The ferry", "The ferry sails on", "", "A boat"]
)
async def test_a_text_that_was_changed_is_told_from_the_tokens_that_the_receipt_records(text):
    found, _ = await replayed(text)
    assert found.verdict is Verdict.DIFFERENT
    assert "changed" in found.explanation


@pytest.mark.parametrize(
    ("text", "position", "rank"),
    [
        ("The ferry sinks", 2, 2),
        ("A boat", 0, 2),
        ("The ferry sails on", 3, 2),
        ("The submarine", 1, None),
        ("", 0, None),
    ],
)
async def test_a_false_text_of_an_older_receipt_is_told_by_its_tokens_rank_and_margin(text, position, rank):
    found, _ = await replayed(text, receipt(completion_digest=""))
    assert found.verdict is Verdict.DIFFERENT
    (last,) = found.differences
    assert (last.position, last.rank) == (position, rank)
    assert rank is None or last.margin > 0.25


async def test_a_text_that_left_the_weights_by_rounding_is_followed_to_its_end():
    weights = Weights()
    found, peers = await replayed("The boat floats", receipt(("The", " boat", " floats", END)), weights)
    assert found.verdict is Verdict.EXPLAINED
    (at,) = found.differences
    assert (at.position, at.start, at.rival.token, at.rank) == (1, 3, " boat", 2)
    assert at.margin == pytest.approx(0.02)
    assert [request.sampling.max_tokens for request in weights.requests] == [8, 6]
    assert [item.request_id for item in peers.recorded] == ["r1~replay-1", "r1~replay-2"]


async def test_without_its_text_an_answer_is_found_again_behind_the_token_that_rounding_chose():
    weights = Weights()
    found, _ = await replayed(None, receipt(("The", " boat", " floats", END)), weights)
    assert found.verdict is Verdict.EXPLAINED
    assert [(item.position, item.rank) for item in found.differences] == [(1, 2)]
    assert len(weights.requests) == 2
    false, peers = await replayed(None, receipt(("The", " boat", " sinks", END)))
    assert (false.verdict, len(peers.recorded)) == (Verdict.UNDECIDED, 2)
    sampled = receipt(("The", " boat", " floats", END), sampling=Sampling(max_tokens=8, temperature=1.0))
    chance, peers = await replayed(None, sampled)
    assert (chance.verdict, len(peers.recorded)) == (Verdict.UNDECIDED, 1)


async def test_a_text_that_begins_by_rounding_and_goes_on_by_invention_is_different():
    found, _ = await replayed("The boat sinks", receipt(("The", " boat", " sinks", END)))
    assert found.verdict is Verdict.DIFFERENT
    assert [item.position for item in found.differences] == [1, 2]


async def test_a_text_that_rounding_explains_is_undecided_where_the_receipt_records_other_tokens():
    found, _ = await replayed("The boat floats", receipt(("A", END)))
    assert found.verdict is Verdict.UNDECIDED


async def test_the_end_of_an_answer_is_a_token_like_any_other():
    weights = Weights()
    weights.says = {**SAYS, "The ferry sails": [(" on", -0.69), (END, -0.70)], "The ferry sails on": [(END, -0.1)]}
    found, _ = await replayed("The ferry sails", weights=weights)
    assert found.verdict is Verdict.EXPLAINED
    assert len(weights.requests) == 1


async def test_what_goes_on_where_the_replay_had_no_room_left_is_different():
    kept = receipt(("The", " ferry", " sails"), sampling=Sampling(max_tokens=3, temperature=0.0), completion_digest="")
    found, _ = await replayed("The ferry sails on", kept)
    assert found.verdict is Verdict.DIFFERENT
    assert found.differences[0].made is None


@pytest.mark.parametrize(
    "sampling",
    [Sampling(max_tokens=8, temperature=0.7), Sampling(max_tokens=8, temperature=0.0, presence_penalty=1.0)],
    ids=["chance", "a penalty"],
)
async def test_where_something_beside_the_weights_chose_a_difference_decides_nothing(sampling):
    found, _ = await replayed("The ferry sinks", receipt(completion_digest="", sampling=sampling))
    assert found.verdict is Verdict.UNDECIDED
    assert found.differences[0].rank == 2
    changed, _ = await replayed("The ferry sinks", receipt(sampling=sampling))
    assert changed.verdict is Verdict.DIFFERENT


async def test_what_follows_in_an_answer_of_a_given_shape_is_not_asked_for():
    wish = Wish(shape=Shape(ShapeKind.REGEX, "The .*"))
    found, peers = await replayed("The boat sinks", receipt(completion_digest=""), asked=Conversation(TURNS, wish))
    assert found.verdict is Verdict.UNDECIDED
    assert len(peers.recorded) == 1


async def test_without_a_text_other_tokens_decide_nothing_and_neither_does_a_receipt_without_a_digest():
    for kept in (receipt(("A", END)), receipt(completion_digest="")):
        found, _ = await replayed(None, kept)
        assert found.verdict is Verdict.UNDECIDED


async def test_what_is_not_as_it_was_is_said():
    weights = Weights()
    weights.build = "engine 2"
    found, _ = await replayed(None, receipt(("A", END)), weights)
    assert "engine 1" in found.explanation
    assert "engine 2" in found.explanation


async def test_of_another_request_nothing_is_generated():
    weights = Weights()
    other = Conversation((Message(Speaker.USER, "Where does the train go?"),), Wish())
    found, _ = await replayed(asked=other, weights=weights)
    assert found.verdict is Verdict.PROMPT_DIFFERS
    assert weights.requests == []


async def test_the_receipts_version_answers_whatever_its_name_means_now_and_nothing_in_its_place():
    weights = Weights()
    weights.version = VERSION
    kept = receipt(version_digest=VERSION, requested_model="desk", resolved_model=f"desk@{VERSION}")
    found, peers = await replayed(kept=kept, weights=weights)
    assert found.verdict is Verdict.EXACT
    assert weights.requests[0].version == VERSION
    weights.fails = Failure(Reason.VERSION_NOT_FOUND, name=VERSION, fate="")
    gone, _ = await replayed(kept=kept, weights=weights)
    assert gone.verdict is Verdict.WEIGHTS_GONE
    assert len(weights.requests) == 2
    weights.fails = None
    peers.versions.clear()
    forgotten, _ = await replayed(weights=weights, peers=peers)
    assert forgotten.verdict is Verdict.WEIGHTS_GONE


async def test_a_base_that_is_not_served_any_more_is_gone_and_a_generator_that_is_away_is_not():
    weights = Weights()
    weights.fails = Failure(Reason.BASE_NOT_FOUND, name=BASE, known="")
    found, _ = await replayed(weights=weights)
    assert found.verdict is Verdict.WEIGHTS_GONE
    weights.fails = Failure(Reason.PEER_UNAVAILABLE, service="generator")
    with pytest.raises(Failure) as caught:
        await replayed(weights=weights)
    assert caught.value.reason is Reason.PEER_UNAVAILABLE


async def test_what_no_model_said_has_nothing_to_replay():
    found, peers = await replayed(kept=Receipt("r1"))
    assert (found.verdict, peers.recorded) == (Verdict.UNDECIDED, [])


@pytest.mark.parametrize(
    ("kept", "asked", "field"),
    [
        (receipt(), Conversation(TURNS, Wish(request_id="r2")), "request"),
        (receipt(sampling=Sampling(n=2)), Conversation(TURNS, Wish()), "answer"),
        (receipt(), Question("?", Wish(), Scope(("ferry",)), unsupported=Unsupported.WITHHOLD), "answer"),
    ],
    ids=["of another id", "of several answers", "of withheld sentences"],
)
async def test_a_request_or_a_text_that_cannot_be_the_receipts_is_refused(kept, asked, field):
    with pytest.raises(Failure) as caught:
        await replayed("The ferry sails", kept, asked=asked)
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, field)


ASKED = Question("What is a ticket?", Wish(), Scope(("ferry",)))
GROUNDED = grounded("What is a ticket?", [Quotation("Fares", "A ticket is 9 crowns")])


async def test_a_question_is_put_again_with_its_sources_as_they_were():
    weights = Weights(GROUNDED)
    kept = receipt(prompt=GROUNDED, sources=(SPAN,))
    found, peers = await replayed(HEDGE + "The ferry sails", kept, weights, ASKED)
    assert found.verdict is Verdict.EXACT
    assert weights.requests[0].sources == (SPAN,)
    assert [(item.title, item.text) for item in found.sources] == [("Fares", "A ticket is 9 crowns")]
    peers.texts.clear()
    gone, _ = await replayed(peers=peers, weights=weights, asked=ASKED)
    assert gone.verdict is Verdict.PROMPT_DIFFERS
    assert "fares.md" in gone.explanation


async def test_a_question_that_was_rewritten_is_replayed_as_it_was_put():
    kept = receipt(prompt=GROUNDED, sources=(SPAN,))
    short = replace(ASKED, text="And a ticket?")
    found, _ = await replayed(None, kept, Weights(GROUNDED), short, rewritten="What is a ticket?")
    assert found.verdict is Verdict.EXACT
    other, _ = await replayed(None, kept, Weights(GROUNDED), short)
    assert other.verdict is Verdict.PROMPT_DIFFERS


async def test_a_marker_that_did_not_leave_is_no_difference():
    weights = Weights(GROUNDED)
    weights.says = {"": [("The", -0.1)], "The": [(" [7]", -0.1)], "The [7]": [(END, -0.1)]}
    WORDS.append(" [7]")
    kept = receipt(("The", " [7]", END), GROUNDED, sources=(SPAN,))
    found, _ = await replayed("The", kept, weights, ASKED)
    assert found.verdict is Verdict.EXACT
    false, _ = await replayed("They", kept, weights, ASKED)
    assert false.verdict is Verdict.DIFFERENT
    older, _ = await replayed("They", replace(kept, completion_digest=""), weights, ASKED)
    assert older.verdict is Verdict.UNDECIDED
