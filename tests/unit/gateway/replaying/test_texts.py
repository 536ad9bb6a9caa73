"""A text held against weights whose every word is known: theirs, theirs but for rounding, or another one."""

import pytest

from gateway.answering import Wish
from gateway.chat import Conversation
from gateway.generation import Sampling, Shape, ShapeKind
from gateway.replaying.nouns import Verdict
from tests.unit.gateway.replaying.known_weights import BASE, END, SAYS, TURNS, Weights, receipt, replayed


async def test_an_answer_whose_tokens_are_those_of_the_receipt_is_exact_without_its_text():
    weights = Weights()
    found, peers = await replayed(weights=weights)
    assert found.verdict is Verdict.EXACT
    assert found.text == "The ferry sails"
    (request,) = weights.requests
    assert (request.base, request.version, request.sampling.seed) == (BASE, "", 7)
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
