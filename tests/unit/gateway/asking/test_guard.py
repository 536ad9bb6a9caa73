"""What may leave of a text that cannot be taken back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asking.guard import Guard
from gateway.asking.quotes import Quotable
from tests.unit.gateway.asking.stock import FARES, SOURCES

QUESTION = "May I read the notice that the boats put up?"


def through(*pieces, markers=(1, 2)):
    guard = Guard(markers, Quotable(SOURCES, QUESTION))
    gone = [guard.push(piece) for piece in pieces]
    return "".join([*gone, guard.finish()]), guard


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Nine crowns [1].", "Nine crowns [1]."),
        ("Nine crowns [9].", "Nine crowns."),
        ("Nine [1][7] crowns", "Nine [1] crowns"),
        ("Nine [1, 7; 2].", "Nine [1, 2]."),
        ("Nine [7, 8].", "Nine."),
        ("a[0] is not cited", "a is not cited"),
        ("see [sic] and [", "see [sic] and ["),
        ("cut off [12", "cut off"),
        ("[" + "1," * 60 + "1]", None),
        ("[99999999999999999999]", ""),
        # What is left out must not make a marker of its neighbours.
        ("[[7]9]", "[-9]"),
        ("[“9] dogs pay a crown each”", "[-9] dogs pay a crown each"),
        ("“dogs pay a crown [”9]", "dogs pay a crown [-9]"),
    ],
)
def test_markers_leave_where_they_name_a_source(said, left):
    text, _ = through(said)
    if left is not None:
        assert text.rstrip() == left
    assert all(
        int(number) in (1, 2) for group in re.findall(r"\[([0-9, ;]+)\]", text) for number in re.findall(r"\d+", group)
    )


def test_what_was_dropped_is_told_once_in_its_order():
    _, guard = through("a [9] b [7] c [9] d [1]")
    assert guard.unresolved_markers == (9, 7)


def test_a_quotation_leaves_in_marks_where_its_characters_stand_in_a_source():
    text, guard = through("It says “A child's day ticket is 4 crowns.” [1]")
    assert text == "It says “A child's day ticket is 4 crowns.” [1]"
    (quote,) = guard.quotes
    assert text[quote.start : quote.end] == "A child's day ticket is 4 crowns."
    span = quote.span
    assert quote.found
    assert FARES[span.start - 100 : span.end - 100] == "A child's day ticket is 4 crowns."


def test_a_quotation_that_stands_nowhere_leaves_without_its_marks():
    text, guard = through('It says "a child travels for nothing at all" [1].')
    assert text == "It says a child travels for nothing at all [1]."
    (quote,) = guard.quotes
    assert (quote.found, quote.span) == (False, None)
    assert text[quote.start : quote.end] == "a child travels for nothing at all"


@pytest.mark.parametrize(
    "said", ['a "day ticket" costs', 'a 5" pipe and a 6" pipe', 'you ask to "read the notice that the boats put up"']
)
def test_names_inches_and_the_questions_own_words_stay_as_they_are(said):
    assert through(said)[0] == said


def test_a_quotation_that_never_ends_leaves_without_its_mark():
    assert through("It says “dogs and cats pay four crowns")[0] == "It says dogs and cats pay four crowns"


def test_a_source_that_was_broken_into_lines_is_still_found():
    text, guard = through("“sail at half   speed\nand sound one”")
    assert guard.quotes[0].found
    assert text.startswith("“")


PIECES = st.sampled_from(
    [
        "[",
        "]",
        "1",
        "9",
        ",",
        " ",
        "“",
        "”",
        '"',
        "«",
        "»",
        "‹",
        "›",
        "Dogs travel free",
        "dogs pay a crown each",
        ".",
        "\n",
    ]
)


@given(st.lists(PIECES, max_size=14), st.integers(1, 7))
def test_whatever_the_pieces_what_leaves_is_the_same_and_names_only_sources(parts, size):
    said = "".join(parts)
    whole, guard = through(said)
    cut, _ = through(*(said[at : at + size] for at in range(0, len(said), size)))
    assert cut == whole
    for group in re.findall(r"\[ *([0-9]+(?: *[,;] *[0-9]+)*) *\]", whole):
        assert {int(number) for number in re.findall(r"\d+", group)} <= {1, 2}
    for quote in guard.quotes:
        assert 0 <= quote.start <= quote.end <= len(whole)
