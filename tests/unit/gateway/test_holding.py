"""Text that waits for a verdict leaves whole, in its order, and each token with the last of its text."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.generation import TextDelta, TokenLogprob
from gateway.policy.holding import Held
from tests.unit.gateway.text_deltas import words


@given(st.lists(st.text("ab. ", max_size=6)), st.lists(st.integers(0, 12)))
def test_what_is_held_leaves_whole_and_in_its_order(texts, cuts):
    held = Held(3)
    pieces = [TextDelta(text, (TokenLogprob(text, place, 0.0),), 1, 3) for place, text in enumerate(texts)]
    for piece in pieces:
        held.add(piece)
    left: list[TextDelta] = []
    for cut in cuts:
        left.append(held.take(min(cut, len(held.text))))
        # A token is sent only with or after the last of its text.
        told = [item.token for piece in left for item in piece.logprobs]
        assert "".join(piece.text for piece in left).startswith("".join(told))
    left.append(held.take_all())
    assert "".join(piece.text for piece in left) == "".join(texts)
    assert [item for piece in left for item in piece.logprobs] == [item for piece in pieces for item in piece.logprobs]
    assert sum(piece.tokens for piece in left) == len(texts)
    assert {piece.choice for piece in left} == {3}
    assert held.empty


def test_a_text_without_ends_of_sentences_does_not_wait_for_ever():
    held = Held(0)
    held.add(TextDelta("word " * 401))
    assert held.ready == 2005
    held.add(TextDelta("x" * 10))
    assert held.ready == 2005
    other = Held(0)
    other.add(TextDelta("x" * 2000))
    assert other.ready == 2000


def test_a_token_leaves_with_the_last_of_its_text_and_one_without_text_with_what_comes_after_it():
    held = Held(0)
    for piece in words("On", "e. Two", ". ", "", "Three"):
        held.add(piece)
    # The fourth token is the first half of a character: its own text would begin the third sentence.
    taken = [held.take(len("One. ")), held.take(len("Two. ")), held.take_all()]
    assert [piece.text for piece in taken] == ["One. ", "Two. ", "Three"]
    assert [[item.token for item in piece.logprobs] for piece in taken] == [["On"], ["e. Two", ". "], ["", "Three"]]
