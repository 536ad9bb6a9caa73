"""What can be quoted of a passage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.text.sentences import sentences


def quoted(text):
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One is here. Two is there!  Is three? Four", ["One is here.", "Two is there!", "Is three?", "Four"]),
        ("Dr. Ada paid 3.50 crowns, e.g. for bread. Then she left.",
         ["Dr. Ada paid 3.50 crowns, e.g. for bread.", "Then she left."]),
        ('He said "No." She left (at last.) Then rain.', ['He said "No."', "She left (at last.)", "Then rain."]),
        ("# Storms\nThe gate\nis closed.\n\n- one item\n- another. With two.",
         ["The gate\nis closed.", "one item", "another.", "With two."]),
        ("Before.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nAfter.", ["Before.", "After."]),
        ("Before.\n\n```\ncode. more.\n\nstill code.\n```\n\nAfter.", ["Before.", "After."]),
        ("東京は首都である。人口は多い。", ["東京は首都である。", "人口は多い。"]),
        ("   \n\n ", []),
    ],
)  # fmt: skip
def test_sentences_are_quoted_as_they_are_written(text, expected):
    assert quoted(text) == expected


@given(st.text(alphabet="ab .!?\n#-|`1。é", max_size=300))
def test_spans_are_in_order_and_have_no_blanks_at_their_ends(text):
    at = 0
    for start, end in sentences(text):
        assert at <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        at = end


def test_a_sentence_without_end_comes_in_pieces():
    parts = quoted("word " * 400)
    assert all(len(part) <= 400 for part in parts)
    assert " ".join(parts) == ("word " * 400).strip()
