from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.asking.sentences import bounds, complete, telling


def split(text):
    return [text[start:end] for start, end in bounds(text)]


def test_sentences_end_where_people_end_them():
    assert split("Dogs travel free [1]. An adult pays 9.50 crowns, e.g. Anna. [2] Is it so? Yes!") == [
        "Dogs travel free [1].",
        "An adult pays 9.50 crowns, e.g. Anna. [2]",
        "Is it so?",
        "Yes!",
    ]


def test_lines_and_other_scripts_end_sentences():
    assert split("- one\n- two\n\n犬は無料です。猫もです。") == ["- one", "- two", "犬は無料です。", "猫もです。"]


def test_an_abbreviation_ends_nothing():
    assert split("Dr. Anna sails. Approx. nine pay.") == ["Dr. Anna sails.", "Approx. nine pay."]


def test_only_what_nothing_can_change_is_complete():
    assert complete("Dogs travel free.") == 0
    assert complete("Dogs travel free. ") == 0
    assert complete("Dogs travel free. [1") == 0
    assert complete("Dogs travel free. [1] Cats") == len("Dogs travel free. [1] ")


@given(st.text(st.sampled_from("ab. [1]\n?A"), max_size=40))
def test_sentences_follow_one_another_and_hold_everything(text):
    found = bounds(text)
    held = "".join(text[start:end] for start, end in found)
    assert "".join(held.split()) == "".join(text.split())
    assert all(one[1] <= other[0] for one, other in pairwise(found))
    done = complete(text)
    assert [span for span in found if span[1] <= done] == bounds(text[:done])


def test_words_that_tell_something_are_compared_by_their_stems():
    assert telling("The tickets of the boats [1]") == telling("a ticket, and boat")
    assert telling("It is what it is.") == []
