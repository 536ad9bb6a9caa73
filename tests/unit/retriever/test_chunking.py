import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever.text.blocks import MAX_UNIT_CHARACTERS, BlockKind, outline
from services.retriever.text.chunking import Budget, Measured, chunked, contexts, refined, texts_to_measure
from services.retriever.text.texts import normalised

PLENTY = Budget(chunk_tokens=1000, context_tokens=50)


def split(text, budget=PLENTY, *, markdown=True, title="Title", tokens=lambda text: len(re.findall(r"\S+", text))):
    """Chunks as ingestion makes them, with words for tokens."""
    found, measured = outline(text, markdown=markdown), Measured()
    while True:
        for wanted in measured.missing(texts_to_measure(text, found, title)):
            measured.tokens[wanted] = tokens(wanted)
        finer = refined(text, found, measured, budget)
        if finer is found:
            return chunked(text, found, title, measured, budget)
        found = finer


PIECES = st.sampled_from(
    ["# One", "## Two", "### Three", "Under\n=====", "A sentence. Another one!", "word " * 40, "- item\n- item two\n\n  more",
     "1. a\n2. b", "| a | b |\n|---|---|\n| 1 | 2 |", "```\ncode\n\n# no heading\n```", "> quoted\n> lines", "    indented",
     "<div>\nhtml\n</div>", "[ref]: http://example.org", "---", "***", "x" * 400, "漢字。かな。", "e\u0301 \u00a0 ",
     "\t", "- - nested\n  - deep", "~~~\nopen fence", "\\# escaped", "a\u2028b\x0bc\x0cd"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=60)), max_size=12).flatmap(
    lambda pieces: st.sampled_from(["\n", "\n\n", "\n \n"]).map(lambda gap: normalised(gap.join(pieces)))
)


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.booleans(), st.integers(1, 30))
def test_chunks_are_the_text_to_the_character_and_hold_all_of_it_once(text, markdown, most):
    end = 0
    for chunk in split(text, Budget(most, 10), markdown=markdown):
        assert chunk.start >= end
        assert not text[end : chunk.start].strip()
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        end = chunk.end
    assert not text[end:].strip()


@settings(deadline=None, max_examples=100)
@given(TEXTS, st.integers(2, 30))
def test_no_chunk_has_more_tokens_than_its_budget(text, most):
    for chunk in split(text, Budget(most, 10)):
        assert len(chunk.text.split()) <= most


@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_no_unit_is_longer_than_the_embedder_can_be_asked_to_count(text):
    for block in outline(text, markdown=True).blocks:
        assert all(end - start <= MAX_UNIT_CHARACTERS for start, end in block.units)


DOCUMENT = """# Fares

## Crossings

A single crossing costs six crowns. Children cross free.

It is paid before boarding.

## Dogs

A dog crosses free.
"""


def test_a_chunk_never_crosses_a_heading():
    first, second = split(DOCUMENT)
    assert first.text.endswith("before boarding.")
    assert second.text == "## Dogs\n\nA dog crosses free."


def test_a_heading_without_words_of_its_own_goes_with_its_first_section():
    assert split(DOCUMENT)[0].text.startswith("# Fares\n\n## Crossings")


def test_a_heading_followed_by_a_sibling_stays_alone():
    assert [chunk.text for chunk in split("## One\n\n## Two\n\nwords")] == ["## One", "## Two\n\nwords"]


def test_a_chunk_says_under_which_headings_it_stands():
    first, second = split(DOCUMENT, title="House rules")
    assert first.context == "House rules › Fares › Crossings"
    assert second.heading_path == ("Fares", "Dogs")
    assert second.indexed_text == "House rules › Fares › Dogs\n## Dogs\n\nA dog crosses free."


def test_a_title_that_is_the_first_heading_is_said_once():
    assert contexts("Fares", ["Fares", "Dogs"]) == ["Fares › Dogs", "Dogs"]


def test_a_context_that_is_too_long_loses_its_outermost_parts():
    (chunk,) = split("# " + "long " * 30 + "\n\n## Inner\n\nwords", Budget(100, 5), title="very " * 20)[-1:]
    assert chunk.context == "Inner"


def test_paragraphs_are_grouped_up_to_the_budget():
    text = "\n\n".join(f"Paragraph {n} has five words." for n in range(60))
    grouped = [chunk.text.count("Paragraph") for chunk in split(text, Budget(25, 10))]
    assert set(grouped[:-1]) == {3, 4, 5}


def test_a_paragraph_is_not_torn_when_it_fits_a_chunk_of_its_own():
    text = "One two three four. Five six.\n\nSeven eight nine. Ten eleven twelve."
    assert [chunk.text for chunk in split(text, Budget(8, 10))] == text.split("\n\n")


def test_a_long_table_is_cut_between_rows_and_code_between_lines():
    rows = "\n".join(f"| row {n} | value {n} |" for n in range(20))
    for chunk in split(f"| a | b |\n|---|---|\n{rows}", Budget(30, 10)):
        assert all(line.startswith("|") and line.endswith("|") for line in chunk.text.splitlines())
    code = "\n".join(f"line_{n} = call({n})" for n in range(30))
    for chunk in split(f"```python\n{code}\n```", Budget(20, 10)):
        assert all(re.fullmatch(r"```\w*|line_\d+ = call\(\d+\)", line) for line in chunk.text.splitlines())


def test_a_long_list_is_cut_between_items():
    text = "\n".join(f"- item number {n}\n  goes on here" for n in range(12))
    for chunk in split(text, Budget(20, 10)):
        assert chunk.text.startswith("- item")
        assert chunk.text.endswith("goes on here")


def test_a_heading_inside_code_or_front_matter_is_none():
    found = outline("---\ntitle: x\n---\n\n# Real\n\n```\n# not\n```\n", markdown=True)
    assert [block.heading_path for block in found.blocks if block.level] == [("Real",)]
    assert found.title == "Real"
    assert found.blocks[0].kind is BlockKind.CODE


def test_a_heading_is_known_by_its_words_without_marks():
    assert outline("# The *quick* `fox` [jumps](http://x)\n", markdown=True).title == "The quick fox jumps"


def test_plain_text_has_no_headings():
    assert {chunk.heading_path for chunk in split("# not a heading\n\nwords", markdown=False)} == {()}


@pytest.mark.parametrize(
    ("model", "wanted", "budget"), [(256, 200, (190, 64)), (512, 200, (200, 310)), (16, 200, (10, 4))]
)
def test_a_budget_leaves_room_for_the_context_and_the_special_tokens(model, wanted, budget):
    made = Budget.within(model, wanted, 2)
    assert (made.chunk_tokens, made.context_tokens) == budget
