"""Reranking, collapse, diversity, sections, pages and explanations over the wire, with a real embedder."""

import grpc
import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.guide import GUIDE
from tests.stack import refused

HERRING = "Smoked herring is served with mustard and potatoes."


@pytest.fixture(scope="module")
def guided(owner):
    """A reader whose collection holds the handbook; no test changes it."""
    assert owner.add("guide.md", GUIDE).state == pb.INGESTION_STATE_READY
    return owner


@pytest.fixture
def barrels(own_collection):
    """Thirty short documents on one thing."""
    for number in range(30):
        own_collection.put(f"d{number:02}.txt", f"Herring number {number} lies in the barrel {number * 7}.")
    own_collection.settled()
    return own_collection


def test_reranked_passages_come_first_and_say_their_score(guided):
    plain = guided.answer("What does a mooring cost?", top_k=100)
    assert not plain.HasField("rerank")
    answer = guided.answer("What does a mooring cost?", top_k=100, rerank=True, rerank_depth=3)
    assert answer.rerank == pb.RerankOutcome(applied=True, passages=3)
    assert [hit.HasField("rerank_score") for hit in answer.hits] == [True] * 3 + [False] * (len(answer.hits) - 3)
    assert {hit.chunk for hit in answer.hits} == {hit.chunk for hit in plain.hits}
    assert "14 crowns" in answer.hits[0].text
    assert "rerank" in {timing.stage for timing in answer.timings}


def in_time(call):
    """The answer of a call with a short deadline; a machine that is busy elsewhere is asked again."""
    for _ in range(40):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    raise AssertionError("no answer in time")


def test_without_time_for_reranking_the_fused_order_comes_back_and_says_so(guided):
    # What is left after the reserve is less than any reranking takes.
    request = pb.SearchRequest(
        collections=[guided.collection], queries=["What does a mooring cost?"], mode=pb.SEARCH_MODE_SPARSE, rerank=True
    )
    answer = in_time(lambda: guided.api.Search(request, timeout=0.25))
    assert not answer.rerank.applied
    assert "time" in answer.rerank.reason
    assert [hit.HasField("rerank_score") for hit in answer.hits] == [False] * len(answer.hits)
    assert "14 crowns" in answer.hits[0].text


def test_passages_of_the_same_text_are_one_hit_that_names_the_others(reader):
    for name in ("a.txt", "b.txt", "c.txt"):
        reader.put(name, HERRING, title=name)
    reader.put("d.txt", HERRING.replace("potatoes", "bread"))
    reader.put("e.txt", "Herring keeps for a month.")
    reader.settled()
    apart = reader.search("smoked herring with mustard")
    assert len(apart) == 5
    hits = reader.search("smoked herring with mustard", collapse_duplicates=True)
    together = {frozenset({hit.document, *(it.document for it in hit.duplicates)}) for hit in hits}
    assert together == {frozenset({"a.txt", "b.txt", "c.txt"}), frozenset({"d.txt"}), frozenset({"e.txt"})}
    for it in (it for hit in hits for it in hit.duplicates):
        assert reader.text(it.document, it.version, it.start, it.end) == HERRING
    near, *rest = reader.search("smoked herring with mustard", collapse_duplicates=True, duplicate_similarity=0.6)
    assert len(near.duplicates) == 3
    assert [hit.document for hit in rest] == ["e.txt"]


def test_a_copy_does_not_push_others_off_the_list(reader):
    for number in range(12):
        reader.put(f"copy{number}.txt", HERRING)
    reader.put("other.txt", "Herring keeps for a month.")
    reader.settled()
    hits = reader.search("smoked herring with mustard", collapse_duplicates=True, top_k=2)
    assert [len(hit.duplicates) for hit in hits] == [11, 0]
    assert hits[1].document == "other.txt"


def test_diversity_brings_another_subject_before_the_same_again(reader):
    reader.put("a.txt", "The red gate of the harbour is closed at night.")
    reader.put("b.txt", "At night the harbour's red gate is closed.")
    reader.put("c.txt", "The gate fee is 14 crowns for every boat.")
    reader.settled()
    query = "When is the red gate of the harbour closed?"
    assert {hit.document for hit in reader.search(query, top_k=2)} == {"a.txt", "b.txt"}
    broad = reader.search(query, top_k=2, diversity_lambda=0.3)
    assert broad[0].document in ("a.txt", "b.txt")
    assert broad[1].document == "c.txt"
    same = [hit.chunk for hit in reader.search(query, top_k=3, diversity_lambda=1)]
    assert same == [hit.chunk for hit in reader.search(query, top_k=3)]


def long_section(paragraphs):
    words = ["barrel", "gate", "crown", "lantern", "ferry", "winter", "harbour", "paper", "engine", "river"]
    return "\n\n".join(
        f"Paragraph {number} of the log. " + " ".join(words[(number * k) % 10] for k in range(1, 90)) + "."
        for number in range(paragraphs)
    )


def test_a_widened_hit_is_exactly_the_characters_around_it_in_its_section(reader):
    text = f"# Log\n\n## North\n\n{long_section(6)}\n\nThe zeppelin lands at noon.\n\n## South\n\n{long_section(2)}\n"
    reader.add("log.md", text)
    narrow = reader.search("zeppelin", mode=pb.SEARCH_MODE_SPARSE)
    (wide,) = reader.search("zeppelin", mode=pb.SEARCH_MODE_SPARSE, expand_sections=True, section_characters=2500)
    assert (wide.chunk, len(narrow)) == (narrow[0].chunk, 1)
    assert wide.start <= narrow[0].start < narrow[0].end <= wide.end
    assert len(narrow[0].text) < len(wide.text) <= 2500
    assert wide.text == text[wide.start : wide.end] == reader.text("log.md", wide.version, wide.start, wide.end)
    assert "South" not in wide.text


def test_hits_of_one_section_are_one_when_half_of_it_is_hit(reader):
    text = f"# Log\n\n{long_section(4)}\n"
    stored = reader.add("log.md", text)
    assert stored.chunks >= 2
    (whole,) = reader.search("paragraph barrel", expand_sections=True, section_characters=20000)
    assert len(whole.merged_chunks) == stored.chunks - 1
    assert text[whole.start : whole.end] == whole.text == text.strip()


def pages(reader, size, **fields):
    """Page after page; between two of them the caller may do something."""
    token = ""
    while True:
        answer = reader.answer("herring barrel", page_size=size, page_token=token, **fields)
        yield [hit.document for hit in answer.hits], answer
        token = answer.next_page_token
        if not token:
            return


@pytest.mark.parametrize("mode", [pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_SPARSE])
def test_pages_together_are_the_whole_answer(barrels, mode):
    whole = barrels.search("herring barrel", mode=mode, top_k=200)
    paged = [hit for _, answer in pages(barrels, 7, mode=mode) for hit in answer.hits]
    assert paged == whole
    assert len(paged) == 30
    assert sum(len(names) for names, _ in pages(barrels, 7, mode=mode, top_k=15)) == 15


def test_pages_neither_repeat_nor_skip_while_documents_come_and_go(barrels):
    whole = [hit.document for hit in barrels.search("herring barrel", top_k=200)]
    seen, turn = [], pages(barrels, 10)
    first, _ = next(turn)
    # In front of all others, were the order made anew; and one of the second page goes.
    barrels.add("new.txt", "herring barrel herring barrel")
    gone = whole[12]
    barrels.delete(gone)
    for names, _ in turn:
        seen += names
    assert first + seen == [name for name in whole if name != gone]


def test_a_page_shows_nothing_that_was_hidden_since(barrels):
    whole = [hit.document for hit in barrels.search("herring barrel", top_k=200)]
    turn = pages(barrels, 10)
    next(turn)
    hidden = whole[15]
    number = int(hidden[1:3])
    barrels.put(hidden, f"Herring number {number} lies in the barrel {number * 7}.", readers=["somebody-else"])
    assert [name for names, _ in turn for name in names] == [name for name in whole[10:] if name != hidden]


def test_a_widened_hit_of_a_later_page_is_of_the_version_that_it_names(reader):
    for name in ("a", "b"):
        reader.put(f"{name}.md", f"# Log {name}\n\n{long_section(4)}\n\n## End\n\nThe zeppelin {name} lands.\n")
    reader.settled()
    asked = {"mode": pb.SEARCH_MODE_SPARSE, "expand_sections": True, "section_characters": 20000, "page_size": 1}
    first = reader.answer("zeppelin paragraph", **asked)
    # What stood at the end of the second document stands far behind it now.
    for name in ("a", "b"):
        reader.add(f"{name}.md", f"# Log {name}\n\n{long_section(4)}\n\n## End\n\nNew.\n\nThe zeppelin {name} lands.\n")
    token, later = first.next_page_token, []
    while token:
        page = reader.answer("zeppelin paragraph", page_token=token, **asked)
        later += page.hits
        token = page.next_page_token
    assert later
    for hit in later:
        assert hit.text
        assert hit.version == reader.get(hit.document).serving_version
        assert reader.text(hit.document, hit.version, hit.start, hit.end) == hit.text


def test_a_page_token_belongs_to_its_request_and_its_caller(library, barrels):
    token = barrels.answer("herring barrel", page_size=5).next_page_token
    other = library.newcomer()
    other.create(barrels.collection)
    other.collection = barrels.collection
    for reader, query, fields in (
        (barrels, "herring", {}),
        (barrels, "herring barrel", {"mode": pb.SEARCH_MODE_DENSE}),
        (other, "herring barrel", {}),
    ):
        with refused("PAGE_TOKEN_INVALID"):
            reader.answer(query, page_size=5, page_token=token, **fields)
    with refused("PAGE_TOKEN_INVALID"):
        barrels.answer("herring barrel", page_size=5, page_token=token[:-4] + "AAAA")
    assert len(barrels.answer("herring barrel", page_size=9, page_token=token).hits) == 9


def test_an_explanation_adds_up_and_comes_only_when_asked(guided):
    filtered = {"metadata_equals": {"a": "b"}}
    assert not guided.search("herring")[0].HasField("explanation")
    answer = guided.answer("smoked herring", explain=True, rerank=True, documents=["guide.md"])
    assert list(answer.filters) == ["document in ('guide.md')"]
    for hit in answer.hits:
        places = {place.list: place for place in hit.explanation.places}
        assert sum(place.part for place in places.values() if place.list != "rerank") == pytest.approx(hit.score)
        assert "feedback_dense" in places
        assert ("sparse" in places) == hit.HasField("sparse_score")
        assert places["rerank"].score == pytest.approx(hit.rerank_score)
    assert list(guided.answer("herring", explain=True, **filtered).filters) == ["a = 'b'"]
    (first, *_) = guided.search("smoked herring", explain=True, feedback=False)
    assert {place.list for place in first.explanation.places} == {"dense", "sparse", "document"}
    several = guided.search("smoked herring", "flood gate", explain=True)
    for hit in several:
        parts = [place.part for place in hit.explanation.places if place.list == "query"]
        assert sum(parts) == pytest.approx(hit.score)


def test_the_order_of_the_queries_and_saying_one_twice_move_nothing(guided):
    one, other = "What does a mooring cost?", "When is the flood gate closed?"

    def shown(*queries):
        return [(hit.chunk, hit.score) for hit in guided.search(*queries)]

    assert shown(one, other) == shown(other, one) == shown(one, other, one + " ")
    assert shown(one, one) == shown(one)
