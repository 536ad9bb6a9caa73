import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.guide import GUIDE
from tests.stack import refused

MODES = [pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_SPARSE]


@pytest.fixture(scope="module")
def guided(owner):
    """A reader whose collection holds the handbook; no test changes it."""
    assert owner.add("guide.md", GUIDE).state == pb.INGESTION_STATE_READY
    return owner


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_finds_the_passage_that_answers(guided, mode):
    best, *_ = guided.search("What does a mooring cost per night?", mode=mode)
    assert "14 crowns" in best.text
    assert (best.document, best.title) == ("guide.md", "Harbour handbook")
    assert list(best.heading_path)[-1] == "Mooring"


def test_meaning_finds_what_words_do_not(guided):
    assert guided.search("fish for dinner", mode=pb.SEARCH_MODE_SPARSE) == []
    best, *_ = guided.search("fish for dinner", mode=pb.SEARCH_MODE_DENSE)
    assert "herring" in best.text


@pytest.mark.parametrize("mode", MODES)
def test_a_hit_is_exactly_the_characters_that_it_names(guided, mode):
    hits = guided.search("storm siren herring bread channel", mode=mode, top_k=100)
    assert hits
    for hit in hits:
        assert guided.text(hit.document, hit.version, hit.start, hit.end) == hit.text == GUIDE[hit.start : hit.end]


def test_hits_say_which_arm_found_them(guided):
    hits = guided.search("mustard", top_k=100)
    assert all(hit.HasField("dense_score") for hit in hits)
    assert [hit.HasField("sparse_score") for hit in hits] == [True] + [False] * (len(hits) - 1)
    assert hits[0].dense_score == pytest.approx(
        max(hit.dense_score for hit in guided.search("mustard", mode=pb.SEARCH_MODE_DENSE, top_k=100)), abs=1e-6
    )
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 1


def test_the_weight_of_vectors_goes_from_words_alone_to_vectors_alone(guided):
    query = "keeper barometer"
    for weight, mode in ((0.0, pb.SEARCH_MODE_SPARSE), (1.0, pb.SEARCH_MODE_DENSE)):
        alone = guided.search(query, mode=mode, top_k=1)
        assert guided.search(query, dense_weight=weight, top_k=1)[0].chunk == alone[0].chunk


def test_fusion_by_rank_adds_reciprocal_ranks(guided):
    best, *_ = guided.search("smoked herring with mustard", fusion=pb.FUSION_RANK)
    assert "herring" in best.text
    assert best.score == pytest.approx(2 / 61)


def test_several_queries_are_fused_by_rank(guided):
    together = guided.search("What does a mooring cost?", "When is the flood gate closed?", top_k=2)
    assert {hit.heading_path[-1] for hit in together} == {"Mooring", "Storms"}


def test_stages_are_timed(guided):
    answer = guided.answer("herring")
    assert {timing.stage for timing in answer.timings} == {"embed", "dense", "sparse", "feedback", "answerable", "fuse"}
    assert all(timing.seconds >= 0 for timing in answer.timings)


@pytest.fixture(scope="module")
def halves(library):
    """Thirty documents, every other one with other metadata; no test changes them."""
    reader = library.newcomer()
    for number in range(30):
        reader.put(f"d{number}.txt", f"Herring number {number} lies in the barrel.", metadata={"half": str(number % 2)})
    reader.settled()
    return reader


@pytest.mark.parametrize("mode", MODES)
def test_filters_leave_out_before_the_best_are_taken(halves, mode):
    reader = halves
    odd = reader.search("herring barrel", mode=mode, metadata_equals={"half": "1"}, top_k=100)
    assert {hit.document for hit in odd} == {f"d{number}.txt" for number in range(1, 30, 2)}
    two = reader.search("herring", mode=mode, documents=["d4.txt", "d7.txt", "none.txt"], top_k=100)
    assert {hit.document for hit in two} == {"d4.txt", "d7.txt"}
    assert reader.search("herring", mode=mode, documents=["d4.txt"], metadata_equals={"half": "1"}) == []
    assert len(reader.search("herring", mode=mode, top_k=3)) == 3


def test_several_collections_are_searched_as_one(guided):
    guided.create("other")
    guided.add("o.txt", "Smoked herring keeps for a month.", collection="other")
    hits = guided.search("smoked herring", collections=[guided.collection, "other"])
    assert {hit.collection for hit in hits[:2]} == {guided.collection, "other"}


def test_the_same_document_may_stand_in_two_collections(guided):
    guided.create("copy")
    guided.add("guide.md", GUIDE, collection="copy")
    hits = guided.search("mooring cost", collections=[guided.collection, "copy"], top_k=2)
    assert {hit.collection for hit in hits} == {guided.collection, "copy"}


@pytest.mark.parametrize("query", ["", "  \n "])
def test_an_empty_question_is_refused(guided, query):
    with refused("QUESTION_EMPTY"):
        guided.search(query)
    with refused("QUESTION_EMPTY"):
        guided.search("herring", query)


@pytest.mark.parametrize(
    "query",
    [
        'herring" OR "', "herring AND", "NEAR(herring mustard)", "text:herring", "herring*", "-herring", "^herring",
        "(herring", "{a b}: herring", "herring'; DROP TABLE entries; --", "her\u0000ring herring", "🐟 herring", "+", "?",
    ],
)  # fmt: skip
def test_what_a_user_types_is_words_and_never_a_query_language(guided, query):
    hits = guided.search(query, mode=pb.SEARCH_MODE_SPARSE)
    assert [("herring" in hit.text) for hit in hits[:1]] == ([True] if "herring" in query else [])


def test_words_are_found_whatever_their_case_and_accents(reader):
    reader.add("a.txt", "Der Käse aus Åland kostet FÜNF Kronen.")
    for query in ("käse", "KASE", "aland", "fünf"):
        assert len(reader.search(query, mode=pb.SEARCH_MODE_SPARSE)) == 1, query


def test_an_empty_collection_has_no_hits(reader):
    assert reader.search("herring") == []
    assert reader.search("herring", mode=pb.SEARCH_MODE_DENSE) == []
