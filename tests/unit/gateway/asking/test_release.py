"""With what leaves of an answer leave the probabilities of its tokens, and of nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.asking.guard import Guard
from gateway.asking.quotes import Quotable
from gateway.asking.release import Outlet
from gateway.asking.support import Support
from gateway.asking.tokens import stretches
from gateway.generation import TextDelta, TokenLogprob
from tests.unit.gateway.asking.stock import SOURCES, Embedder

BY = pytest.mark.parametrize("by_sentence", [False, True])


def told(*texts):
    return tuple(TokenLogprob(text, number, -0.5) for number, text in enumerate(texts))


def outlet(**named):
    guard = Guard((1, 2), Quotable(SOURCES, "Who pays?"))
    return Outlet(guard, Support(SOURCES, Embedder(), lambda _: None), **named)


async def left(out, *deltas):
    """Each piece that left: its text, and the tokens that left with it."""
    pieces = [piece for delta in deltas for piece in [it async for it in out.push(delta)]]
    pieces += [piece async for piece in out.finish()]
    return [(piece.text, [token.token for token in piece.logprobs]) for piece in pieces]


async def said(*tokens, **named):
    return await left(outlet(**named), *(TextDelta(token, told(token)) for token in tokens))


def tokens_of(pieces):
    return [token for _, tokens in pieces for token in tokens]


@BY
async def test_a_marker_that_does_not_leave_tells_none_of_its_tokens_and_what_leaves_tells_all(by_sentence):
    pieces = await said("Dogs", " travel", " free", " [", "7", "]", ",", " says", " [1", "].", by_sentence=by_sentence)
    assert "".join(text for text, _ in pieces) == "Dogs travel free, says [1]."
    assert tokens_of(pieces) == ["Dogs", " travel", " free", ",", " says", " [1", "]."]


async def test_a_token_leaves_with_its_text_and_not_before():
    assert await said("Dogs", " [", "1", "]") == [("Dogs", ["Dogs"]), (" [1]", [" [", "1", "]"])]


@BY
async def test_of_a_marker_that_loses_a_number_the_tokens_that_are_left_of_it_leave(by_sentence):
    pieces = await said("Nine", " [1", ", 7", "; ", "2]", ".", by_sentence=by_sentence)
    assert ("".join(text for text, _ in pieces), tokens_of(pieces)) == ("Nine [1, 2].", ["Nine", " [1", "2]", "."])


async def test_marks_of_a_quotation_that_stands_nowhere_leave_no_token_and_its_words_all():
    pieces = await said("says", " “", "dogs", " pay", " a", " crown", " [9]", "”", ".")
    assert "".join(text for text, _ in pieces) == "says dogs pay a crown."
    # A token of a mark and of the space before it is a token of the mark.
    assert tokens_of(pieces) == ["says", "dogs", " pay", " a", " crown", "."]


async def test_tokens_of_sentences_leave_with_them_after_they_were_checked():
    pieces = await said("Dogs", " travel", " free. Fog", " slows", " boats.", by_sentence=True)
    assert pieces == [
        ("Dogs travel free. ", ["Dogs", " travel"]),
        ("Fog slows boats.", [" free. Fog", " slows", " boats."]),
    ]


async def test_a_sentence_that_is_withheld_tells_none_of_its_tokens():
    said_so = ("Dogs travel", " free.", " Paris", " is in", " France.", " Dogs", " travel", " free.")
    pieces = await said(*said_so, by_sentence=True, withhold=True)
    assert "".join(text for text, _ in pieces) == "Dogs travel free. Dogs travel free."
    assert tokens_of(pieces) == ["Dogs travel", " free.", " Dogs", " travel", " free."]


async def test_tokens_that_come_before_their_text_wait_for_it():
    # So they come where a text stops the answer, which the engine looks for before it tells more.
    out = outlet()
    deltas = (
        TextDelta("", told("Dogs", " [")),
        TextDelta("Dogs", told("7")),
        TextDelta(" [7", told("]", " pay")),
        TextDelta("] p", told("END")),
    )
    assert await left(out, *deltas) == [("Dogs", ["Dogs"]), (" p", [])]


async def test_parts_of_a_character_leave_with_it():
    pieces = await left(
        outlet(), TextDelta("", told("")), TextDelta("é [9", told("é", " [9")), TextDelta("]", told("]"))
    )
    assert pieces == [("é", ["", "é"])]


async def test_tokens_that_are_told_without_the_space_before_them_find_their_text():
    deltas = (
        TextDelta("Dogs", told(" Dogs")),
        TextDelta(" pay [7]", told("pay", "[", "7", "]")),
        TextDelta(".", told(".")),
    )
    assert tokens_of(await left(outlet(), *deltas)) == [" Dogs", "pay", "."]


@pytest.mark.parametrize(("end", "leaves"), [("", True), (" [7]", False)])
async def test_tokens_that_fit_no_text_leave_at_its_end_where_all_of_it_left(end, leaves):
    pieces = await left(outlet(), TextDelta("Dogs", told("Dogs")), TextDelta(f" travel free{end}", told("?", "[7]")))
    assert tokens_of(pieces) == (["Dogs", "?", "[7]"] if leaves else ["Dogs"])


async def test_a_text_in_place_of_the_models_has_no_tokens_and_the_next_ones_find_theirs():
    pieces = await left(
        outlet(), TextDelta("One.", told("One", ".")), TextDelta(" Two [9]."), TextDelta(" Three", told(" Three"))
    )
    assert ["".join(text for text, _ in pieces), tokens_of(pieces)] == ["One. Two. Three", ["One", ".", " Three"]]


async def test_what_is_shaped_leaves_as_it_comes():
    out = Outlet(None, Support(SOURCES, Embedder(), lambda _: None))
    assert await left(out, TextDelta("[7]", told("[", "7]"))) == [("[7]", ["[", "7]"])]


PARTS = st.sampled_from(
    ["[", "]", "1", "9", ",", " ", "“", "”", "dogs pay a crown each", ". ", "Dogs travel free", "\n"]
)


@BY
@settings(max_examples=60)
@given(tokens=st.lists(PARTS, max_size=14), lag=st.integers(0, 3))
async def test_whatever_the_pieces_the_tokens_that_leave_are_laid_along_the_text_that_left(by_sentence, tokens, lag):
    text, came, deltas = "".join(tokens), 0, []
    for at, token in enumerate(tokens):
        come = max(came, len("".join(tokens[: at + 1])) - lag)
        deltas.append(TextDelta(text[came:come], told(token)))
        came = come
    pieces = await left(outlet(by_sentence=by_sentence), *deltas, TextDelta(text[came:]))
    whole, laid, at = "".join(text for text, _ in pieces), "", 0
    for piece, several in pieces:
        laid += piece
        for token in several:
            # In the text that has left by then, in its order.
            at = laid.index(token.strip(), at) + len(token.strip())
    if whole == text:
        assert tokens_of(pieces) == tokens


@settings(max_examples=60)
@given(came=st.text("ab[1", max_size=6), kept=st.text("ab[1", max_size=6))
def test_what_became_of_a_text_is_told_to_the_character(came, kept):
    found = stretches(came, kept)
    assert (sum(it.came for it in found), sum(it.left for it in found)) == (len(came), len(kept))
    assert all(it.came == it.left for it in found if it.kept)
    assert sum(not it.kept for it in found) <= 1
