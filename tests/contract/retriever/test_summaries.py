"""Summaries of a whole collection, over the wire: grounded, exact in what they cite, computed once."""

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.guide import GUIDE
from tests.contract.retriever.test_filters import number, where
from tests.stack import refused

SUBJECTS = ("herring", "mustard", "lighthouse", "barometer", "siren", "bakery", "ferry", "granary")


@pytest.fixture
def reader(own_collection):
    """Somebody with a collection of this test alone: most tests fill it with the same essays."""
    return own_collection


def ask(reader, **fields):
    return reader.api.Summarize(pb.SummarizeRequest(collection=reader.collection, **fields))


def essay(subject, at):
    return (
        f"# The {subject}\n\nThe {subject} of harbour {at} was built in {1900 + at} by the guild of keepers. "
        f"It is inspected every {at + 2} days, and the {subject} closes in winter.\n\n"
        f"## Costs\n\nA visit to the {subject} costs {at + 10} crowns, and children pay half of that.\n"
    )


def fill(reader, documents=12):
    for at in range(documents):
        reader.put(f"d{at:02}.md", essay(SUBJECTS[at % len(SUBJECTS)], at), typed_metadata={"at": number(at)})
    reader.settled()


def cited(reader, answer):
    """The documents that are cited; every citation resolves to its characters."""
    documents = set()
    for statement in answer.statements:
        assert statement.citations
        for it in statement.citations:
            assert reader.text(it.document, it.version, it.start, it.end) == it.text
            documents.add(it.document)
        if not statement.generated:
            assert statement.text == statement.citations[0].text
    return documents


def test_a_summary_says_where_every_sentence_stands(reader):
    reader.add("guide.md", GUIDE)
    answer = ask(reader)
    assert cited(reader, answer) == {"guide.md"}
    assert answer.text == "\n".join(" ".join(it.text.split()) for it in answer.statements)
    assert (answer.coverage, answer.chunks_read, answer.chunks) == (1.0, reader.statistics().chunks, answer.chunks_read)
    assert answer.embedding_digest.startswith("sha256:")
    assert answer.generator_digest == ""
    assert len({it.text for it in answer.statements}) == len(answer.statements) > 3


def test_what_is_cited_is_called_what_its_document_is_called(reader):
    reader.put("given.md", essay("siren", 3), title="Keepers of the siren")
    reader.put("own.md", essay("ferry", 4))
    reader.settled()
    titles = {it.document: it.title for statement in ask(reader).statements for it in statement.citations}
    assert titles == {"given.md": "Keepers of the siren", "own.md": "The ferry"}


def test_what_was_computed_is_not_computed_again_and_an_edit_costs_its_own_nodes(reader):
    fill(reader, 24)
    first = ask(reader)
    assert (first.nodes_reused, first.nodes_computed > 5) == (0, True)
    second = ask(reader)
    assert (second.nodes_computed, second.nodes_reused) == (0, first.nodes_computed)
    assert second.statements == first.statements
    reader.add("d03.md", essay("windmill", 3))
    third = ask(reader)
    assert 0 < third.nodes_computed < first.nodes_computed / 2
    cited(reader, third)


def test_a_tree_that_grew_says_what_a_fresh_one_says(library, reader):
    fill(reader, 16)
    ask(reader)
    reader.add("d05.md", essay("windmill", 5))
    reader.delete("d02.md")
    reader.add("z.md", essay("tavern", 40))
    ask(reader)
    reader.add("d05.md", essay(SUBJECTS[5], 5))
    reader.delete("z.md")
    grown = ask(reader)
    fresh = library.newcomer()
    fill(fresh, 16)
    fresh.delete("d02.md")
    answer = ask(fresh)
    assert [it.text for it in grown.statements] == [it.text for it in answer.statements]
    spans = [[[(c.document, c.version, c.start, c.end) for c in it.citations] for it in each.statements]
             for each in (grown, answer)]  # fmt: skip
    assert spans[0] == spans[1]


def test_a_focus_is_answered_from_every_passage(reader):
    fill(reader)
    answer = ask(reader, focus="What does a visit to the lighthouse cost?")
    assert "visit to the lighthouse costs" in answer.statements[0].text
    assert answer.statements[0].citations[0].document in ("d02.md", "d10.md")
    assert (answer.coverage, answer.nodes_reused) == (1.0, 0)
    cited(reader, answer)
    # Nothing of a question is kept.
    assert ask(reader, focus="What does a visit to the lighthouse cost?").nodes_computed == answer.nodes_computed


def test_filters_and_documents_say_what_is_summarised(reader):
    fill(reader)
    early = ask(reader, filter=where("at", "LESS", number(3)))
    assert cited(reader, early) <= {"d00.md", "d01.md", "d02.md"}
    assert early.coverage == 1.0
    assert 0 < early.chunks < reader.statistics().chunks
    assert cited(reader, ask(reader, documents=["d04.md"])) == {"d04.md"}
    with refused("FILTER_TYPE_MISMATCH"):
        ask(reader, filter=where("at", "EQUAL", pb.MetadataValue(text="3")))


def test_a_bound_of_tokens_is_kept_and_more_gives_more(reader):
    fill(reader)
    short, long = ask(reader, max_tokens=60), ask(reader, max_tokens=600)
    assert 1 <= len(short.statements) < len(long.statements)
    # A token of these words has at least two characters on average.
    assert len(short.text) < 60 * 8
    assert cited(reader, short) < cited(reader, long)
    # With room enough, every sentence of every document is said.
    everything = ask(reader, max_tokens=16_384)
    assert cited(reader, everything) == {f"d{at:02}.md" for at in range(12)}
    assert all(f"costs {at + 10} crowns" in everything.text for at in range(12))


def test_an_empty_collection_and_a_missing_one(reader):
    answer = ask(reader)
    assert (list(answer.statements), answer.coverage, answer.chunks) == ([], 1.0, 0)
    assert not ask(reader, focus="anything").statements
    with refused("COLLECTION_NOT_FOUND"):
        reader.api.Summarize(pb.SummarizeRequest(collection="nowhere"))


def test_without_its_document_nothing_is_said_of_it(reader):
    fill(reader)
    secret = "The smugglers hide their barrels below the granary, and the smugglers pay the keeper."
    reader.add("secret.md", secret)
    assert "smugglers" in ask(reader, max_tokens=2000).text
    reader.delete("secret.md")
    assert "smugglers" not in ask(reader, max_tokens=2000).text


@pytest.mark.parametrize("focus", ["", "How does the siren sound?"])
def test_the_generator_is_asked_for_only_where_it_is_wanted(reader, focus):
    reader.add("guide.md", GUIDE)
    assert ask(reader, focus=focus, mode=pb.SUMMARY_MODE_EXTRACTIVE).statements
    with refused("PEER_UNAVAILABLE"):
        ask(reader, focus=focus, mode=pb.SUMMARY_MODE_ABSTRACTIVE)
