"""What is put to the weights again: the request of the receipt, under its version, with its sources, and nothing else."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from gateway.answering import Wish
from gateway.asking.abstaining import HEDGE
from gateway.asking.prompt import Quotation, grounded
from gateway.asking.question import Question, Unsupported
from gateway.asking.retrieval import Scope
from gateway.chat import Conversation
from gateway.generation import CollectionVersion, Message, Receipt, Sampling, Several, Speaker, TokenIds
from gateway.policy import in_force
from gateway.policy.nouns import Allow, ContentPolicy, Refuse, Replace
from gateway.policy.policing import Policing
from gateway.replaying.nouns import Named, Revisited, Verdict
from gateway.side_by_side import digest_of
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from tests.harness.wording import missing
from tests.unit.gateway.replaying.known_weights import (
    BASE,
    END,
    SPAN,
    TURNS,
    VERSION,
    WORDS,
    Peers,
    Weights,
    characters,
    digest,
    ids,
    receipt,
    replayed,
)


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


async def test_a_request_that_is_named_alone_is_replayed_as_it_is_found():
    found, peers = await replayed(named=Named("r1", "The ferry sails"))
    assert (found.verdict, len(peers.recorded)) == (Verdict.EXACT, 1)
    request_id = "5b1c6f0e-3b1d-4f0e-9d52-0f7d1c1f6a11"
    named = Named(f"resp_{request_id.replace('-', '')}")
    again, _ = await replayed(kept=receipt(request_id=request_id), named=named)
    assert (again.verdict, again.receipt.request_id) == (Verdict.EXACT, request_id)


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
    assert "abstention" in found.explanation


async def test_vectors_are_told_to_be_vectors_and_by_which_encoder():
    kept = Receipt("r1", version_digest="sha256:e", requested_model="all", resolved_model="all-minilm-l6-v2")
    found, peers = await replayed(kept=kept)
    assert (found.verdict, peers.recorded) == (Verdict.UNDECIDED, [])
    assert not missing(found.explanation, "vectors", "encoder", "all-minilm-l6-v2", "sha256:e")
    assert "abstention" not in found.explanation


@pytest.mark.parametrize(
    ("kept", "asked", "field"),
    [
        (receipt(), Conversation(TURNS, Wish(request_id="r2")), "request"),
        (receipt(sampling=Sampling(n=2)), Conversation(TURNS, Wish()), "answer"),
        (receipt(), Conversation(Several(("a", "b")), Wish()), "answer"),
        (receipt(), Question("?", Wish(), Scope(("ferry",)), unsupported=Unsupported.WITHHOLD), "answer"),
    ],
    ids=["of another id", "of several answers", "of several prompts", "of withheld sentences"],
)
async def test_a_request_or_a_text_that_cannot_be_the_receipts_is_refused(kept, asked, field):
    with pytest.raises(Failure) as caught:
        await replayed("The ferry sails", kept, asked=asked)
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, field)


SEVERAL = ("Where?", TokenIds((5, 6)))
MADE = digest(ids("The", " ferry", " sails", END))
KEPT_OF_SEVERAL = receipt(
    prompt_tokens_digest=digest_of([digest(characters("Where?")), digest((5, 6))]),
    completion_digest=digest_of([MADE, MADE]),
)


@pytest.mark.parametrize(
    ("kept", "prompts", "verdict"),
    [
        (KEPT_OF_SEVERAL, SEVERAL, Verdict.EXACT),
        (replace(KEPT_OF_SEVERAL, completion_digest=digest_of([MADE, digest(ids("A"))])), SEVERAL, Verdict.UNDECIDED),
        (KEPT_OF_SEVERAL, SEVERAL[::-1], Verdict.PROMPT_DIFFERS),
    ],
)
async def test_several_prompts_are_computed_again_each_and_compared_together(kept, prompts, verdict):
    weights = Weights()
    weights.continues = False
    found, peers = await replayed(None, kept, weights, Conversation(Several(prompts), Wish()))
    assert found.verdict is verdict, found.explanation
    seeds = [] if verdict is Verdict.PROMPT_DIFFERS else [(prompts[0], 7), (prompts[1], 8)]
    assert [(request.prompt, request.sampling.seed) for request in weights.requests] == seeds
    assert len(peers.recorded) == bool(seeds)


async def test_token_ids_are_the_prompt_of_their_receipt_and_need_no_tokenizer():
    prompt = TokenIds((5, 6))
    weights = Weights()
    weights.continues = False
    kept = receipt(prompt_tokens_digest=digest((5, 6)))
    found, _ = await replayed("The ferry sails", kept, weights, Conversation(prompt, Wish()))
    assert found.verdict is Verdict.EXACT
    assert [request.prompt for request in weights.requests] == [prompt]


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


@pytest.mark.parametrize("prompt", [GROUNDED, TURNS], ids=["replayed", "another prompt"])
async def test_the_collections_of_a_receipt_are_told_as_they_were_and_are(prompt):
    of = tuple(CollectionVersion(*it) for it in (("ferry", "v1"), ("gone", "v9"), ("ferry", "v2")))
    kept = receipt(prompt=prompt, sources=(SPAN,), collections=of)
    found, peers = await replayed(None, kept, Weights(GROUNDED), ASKED)
    assert found.collections == (
        Revisited("ferry", "v1", "v2"),
        Revisited("gone", "v9"),
        Revisited("ferry", "v2", "v2"),
    )
    # The replay is from the same.
    assert all(item.collections == of for item in peers.recorded)


async def test_of_what_no_model_said_the_collections_are_told_too():
    found, _ = await replayed(kept=Receipt("r1", collections=(CollectionVersion("ferry", "v1"),)))
    assert (found.verdict, found.collections) == (Verdict.UNDECIDED, (Revisited("ferry", "v1", "v2"),))


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
