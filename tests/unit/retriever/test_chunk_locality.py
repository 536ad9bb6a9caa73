"""What an edit changes: the chunk that it is in and a few behind it, wherever in however long a document it is."""

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever.text.chunking import Budget
from services.retriever.text.cutting import pieces
from tests.unit.retriever.test_chunking import split

BUDGET = Budget(chunk_tokens=100, context_tokens=20)
WORDS = ["river", "ferry", "lantern", "harbour", "paper", "engine", "crown", "of", "the", "tide", "mast", "rope"]


def sentence(chance):
    return " ".join(chance.choices(WORDS, k=chance.randint(5, 20))).capitalize() + "."


def prose(chance):
    """Three hundred paragraphs without a heading."""
    return [" ".join(sentence(chance) for _ in range(chance.randint(1, 6))) for _ in range(300)], "\n\n", False


def one_paragraph(chance):
    """A paragraph of a thousand sentences."""
    return [sentence(chance) for _ in range(1000)], " ", True


def rows(chance):
    """A table of a thousand rows."""
    head = "| a | b |\n|---|---|"
    return [head, *(f"| {sentence(chance)} | {chance.random()} |" for _ in range(1000))], "\n", True


def items(chance):
    """A list of a thousand items."""
    return [f"- {sentence(chance)}" for _ in range(1000)], "\n", True


def code(chance):
    """A fence of a thousand lines."""
    lines = [f"{chance.choice(WORDS)}_{n} = {chance.choice(WORDS)}({chance.randint(1, 9)})" for n in range(1000)]
    return ["```python", *lines, "```"], "\n", True


def unbroken(chance):
    """Ten thousand words without a full stop or a line's end."""
    return [" ".join(chance.choices(WORDS, k=10)) for _ in range(1000)], " ", True


def letters(chance):
    """A hundred thousand letters without a space."""
    return ["".join(chance.choices("abcdefgh", k=100)) for _ in range(1000)], "", True


def weight(text):
    """Words, or a token for every four letters of what has no spaces."""
    return sum(max(1, len(word) // 4) for word in text.split())


def texts_of(text, *, markdown):
    return {chunk.indexed_text for chunk in split(text, BUDGET, markdown=markdown, tokens=weight)}


# Without a full stop anywhere, stretches of 1,500 characters are cut first and then chunks out of each.
@pytest.mark.sampled(every=3)
@pytest.mark.parametrize(
    ("kind", "mean"),
    [(prose, 3), (one_paragraph, 3), (rows, 3), (items, 3), (code, 3), (unbroken, 4), (letters, 8)],
)
def test_an_edit_in_a_long_section_changes_a_few_chunks_and_cuts_fall_at_the_same_places_soon_after(kind, mean):
    chance = random.Random(5)
    parts, gap, markdown = kind(chance)
    before = texts_of(gap.join(parts), markdown=markdown)
    assert len(before) > 30
    changed = []
    for _ in range(12):
        at = chance.randrange(2, len(parts) // 2)
        added = [*parts[:at], parts[at] + " A new one", *parts[at + 1 :]]
        gone = [*parts[:at], *parts[at + 1 :]]
        changed += [len(texts_of(gap.join(each), markdown=markdown) - before) for each in (added, gone)]
    assert statistics.mean(changed) < mean
    assert max(changed) < 5 * mean


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 19), st.booleans())
def test_an_edit_changes_nothing_outside_of_its_section(seed, at, longer):
    chance = random.Random(seed)
    sections = [
        f"## Section {n}\n\n" + "\n\n".join(sentence(chance) for _ in range(chance.randint(1, 30))) for n in range(20)
    ]
    before = split("\n\n".join(sections), BUDGET)
    sections[at] = sections[at] + " More." if longer else sections[at].rsplit(" ", 1)[0]
    after = split("\n\n".join(sections), BUDGET)
    kept = [
        [chunk.indexed_text for chunk in each if f"Section {at}" not in chunk.heading_path] for each in (before, after)
    ]
    assert kept[0] == kept[1]


def test_chunks_of_a_long_section_are_three_quarters_full():
    parts, gap, markdown = one_paragraph(random.Random(3))
    sizes = [weight(chunk.text) for chunk in split(gap.join(parts), BUDGET, markdown=markdown, tokens=weight)]
    assert statistics.mean(sizes) > 0.7 * BUDGET.chunk_tokens
    assert min(sizes[:-1]) >= BUDGET.chunk_tokens / 2


@settings(deadline=None)
@given(st.text("ab \n漢é", max_size=300), st.integers(1, 40))
def test_pieces_hold_every_character_once_and_are_short_enough(text, most):
    end = 0
    for first, last in pieces(text, 0, len(text), most):
        assert not text[end:first].strip()
        assert 0 < last - first <= most
        assert text[first:last] == text[first:last].strip()
        end = last
    assert not text[end:].strip()
