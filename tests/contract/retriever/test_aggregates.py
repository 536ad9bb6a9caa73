"""How many, which, by what: exact over the whole collection, and each with the characters that say so."""

import random

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.guide import GUIDE
from tests.contract.retriever.test_filters import number, texts, where
from tests.stack import refused

WORDS = ("herring", "mustard", "gate", "lamp", "siren", "bread", "quay", "boat")


def ask(reader, keywords="", **fields):
    return reader.api.Aggregate(pb.AggregateRequest(collection=reader.collection, keywords=keywords, **fields))


def names(answer):
    return [it.document for it in answer.matches]


@pytest.fixture(scope="module")
def shelf(library):
    """Sixty documents of a few words each, with metadata, and the words of each by name."""
    reader, held, drawn = library.newcomer(), {}, random.Random(6)
    for at in range(60):
        held[f"d{at:02}.txt"] = picked = drawn.sample(WORDS, 3)
        metadata = {"shelf": "ab"[at % 2]} if at % 3 else {}
        typed = {"year": number(2020 + at % 4), "labels": texts(*picked[:2])}
        reader.put(f"d{at:02}.txt", f"Of {picked[0]}s and a {picked[1]}. The {picked[2]}.", metadata=metadata,
                   typed_metadata=typed)  # fmt: skip
    reader.settled()
    return reader, held


def test_counts_and_lists_are_those_of_every_document(shelf):
    reader, held = shelf
    for word in WORDS:
        exact = sorted(name for name, words in held.items() if word in words)
        answer = ask(reader, f"{word}s")
        assert (answer.documents, answer.passages, answer.searched) == (len(exact), len(exact), 60)
        assert names(answer) == exact
        assert list(answer.words) == [f"{word}s"]
    both = sorted(name for name, words in held.items() if {"herring", "gate"} <= set(words))
    either = sorted(name for name, words in held.items() if {"herring", "gate"} & set(words))
    assert names(ask(reader, "the gate and the herring")) == both
    assert names(ask(reader, "herring gate", match=pb.KEYWORD_MATCH_ANY)) == either
    assert ask(reader).documents == 60
    none = ask(reader, "albatross")
    assert none == pb.AggregateResponse(searched=60, words=["albatross"], version=none.version)


def test_each_document_names_the_first_characters_that_match(reader):
    reader.add("guide.md", GUIDE)
    reader.add("other.txt", "A boat.\n\nTwo boats, and a mooring.", title="Almanac")
    answer = ask(reader, "boats", match=pb.KEYWORD_MATCH_ANY)
    assert [it.first.text for it in answer.matches] == ["Boats", "boat"]
    assert (
        [it.first.title for it in answer.matches]
        == [it.title for it in answer.matches]
        == ["Harbour handbook", "Almanac"]
    )
    for it in answer.matches:
        first = it.first
        assert reader.text(first.document, first.version, first.start, first.end) == first.text
        assert it.passage_start <= first.start < first.end <= it.passage_end
    # Only the title says it: the passage is named whole.
    (titled,) = ask(reader, "almanac").matches
    assert (titled.first.start, titled.first.end) == (titled.passage_start, titled.passage_end)
    assert "Two boats" in titled.first.text


def test_words_count_together_in_a_passage_or_in_a_document(reader):
    reader.add("guide.md", GUIDE)
    assert ask(reader, "barometer herring").documents == 0
    somewhere = ask(reader, "barometer herring", match=pb.KEYWORD_MATCH_DOCUMENT)
    assert (somewhere.documents, somewhere.passages) == (1, 2)
    assert ask(reader, "barometer albatross", match=pb.KEYWORD_MATCH_DOCUMENT).documents == 0


def test_groups_are_by_metadata_of_any_type_and_tell_what_lacks_it(shelf):
    reader, held = shelf
    by_shelf = ask(reader, group_by="shelf")
    assert {(it.value.text, it.documents) for it in by_shelf.groups} == {("a", 20), ("b", 20), ("", 20)}
    assert [it.HasField("value") for it in by_shelf.groups] == [True, True, False]
    by_year = ask(reader, "herring", group_by="year")
    exact = {2020.0 + year: sum("herring" in held[f"d{at:02}.txt"] for at in range(year, 60, 4)) for year in range(4)}
    assert {it.value.number: it.documents for it in by_year.groups} == {
        year: many for year, many in exact.items() if many
    }
    by_label = ask(reader, group_by="labels")
    labelled = {word: sum(word in words[:2] for words in held.values()) for word in WORDS}
    assert {it.value.text: it.documents for it in by_label.groups} == labelled
    assert by_label.groups_total == len(WORDS)


def test_filters_and_documents_narrow_what_is_counted(shelf):
    reader, held = shelf
    early = where("year", "LESS", number(2021))
    exact = [name for at, name in enumerate(sorted(held)) if at % 4 == 0]
    answer = ask(reader, filter=early)
    assert (names(answer), answer.searched) == (exact, 15)
    assert names(ask(reader, filter=early, documents=["d00.txt", "d01.txt"])) == ["d00.txt"]
    with refused("FILTER_TYPE_MISMATCH"):
        ask(reader, filter=where("year", "EQUAL", pb.MetadataValue(text="2021")))


def test_pages_come_to_every_document_once(shelf):
    reader, held = shelf
    seen, token = [], ""
    while True:
        page = ask(reader, page_size=7, page_token=token, group_by="shelf")
        assert page.documents == 60
        assert bool(page.groups) is not bool(token)
        seen += names(page)
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(held)
    with refused("PAGE_TOKEN_INVALID"):
        ask(reader, "herring", page_size=7, page_token=ask(reader, page_size=7).next_page_token)


def test_what_is_gone_or_edited_counts_no_longer(reader):
    reader.add("a.txt", "Herring.")
    reader.add("b.txt", "Herring and bread.")
    assert ask(reader, "herring").documents == 2
    reader.add("a.txt", "Mustard.")
    reader.delete("b.txt")
    answer = ask(reader, "herring")
    assert (answer.documents, answer.searched) == (0, 1)


def test_keywords_without_a_word_and_a_missing_collection_are_named(reader):
    with refused("QUESTION_EMPTY"):
        ask(reader, "?!")
    with refused("COLLECTION_NOT_FOUND"):
        reader.api.Aggregate(pb.AggregateRequest(collection="nowhere"))


def test_scripts_without_blanks_are_cited_by_the_word(reader):
    reader.add("tokyo.txt", "東京都は日本の首都である。")
    (found,) = ask(reader, "日本").matches
    assert found.first.text == "日本"
