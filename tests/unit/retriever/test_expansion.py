"""Searches that look for more than the question's own words: what is found, and what is said where nothing was written."""

import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Failure, Reason
from services.retriever.collection import Change
from services.retriever.documents.readers import SERVICE
from services.retriever.generation import NoGenerator
from services.retriever.search import combining, expansion
from services.retriever.search.arms import Lists
from services.retriever.search.expansion import Expander
from services.retriever.search.looking import Looking
from services.retriever.search.pages import Pages
from services.retriever.search.question import ExpansionKind, Fusion, Mode, Question
from services.retriever.search.reranking import Reranker
from services.retriever.search.search import Search
from services.retriever.search.settings import Hyde, SearchSettings, Stated, joined, planned
from tests.harness.wording import missing
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.hashing import HashedEmbeddings
from tests.unit.retriever.writing import Scribe

QUESTION = "May I stay away long when I am ill?"
SICKNESS = "Wages go on for six weeks with a certificate of the doctor's."
DOCUMENTS = {
    "sick.txt": SICKNESS,
    "stay.txt": "Guests may stay for as long as they like; the hotel is away from the road.",
    "boat.txt": "The night is long on the ferry.",
}


def question(query=QUESTION, mode=Mode.HYBRID, **fields):
    return Question(("rules",), (query,), 10, mode, Fusion.SCORE, 0.55, {}, (), SERVICE, **fields)


def searching(house, scribe, most_seconds=5.0):
    return Search(
        database=house.database,
        looking=Looking(house.database, house.index, asyncio.to_thread, 100),
        embeddings=house.embeddings,
        gates=house.ingestion.tools.gates,
        pages=Pages(b"k" * 32, lambda: 0.0, 60),
        reranker=Reranker(house.embeddings, 0.0, 1.0),
        expander=Expander(scribe, house.embeddings, most_seconds),
    )


@pytest.fixture
def embeddings():
    return HashedEmbeddings()


@pytest.fixture
async def filled(tmp_path, embeddings):
    async with opened(tmp_path, embeddings) as house:
        await house.create()
        for name, text in DOCUMENTS.items():
            await house.ingested(name, text)
        yield house


def documents(found):
    return [hit.passage.document for hit in found.hits]


async def test_what_is_near_a_written_passage_is_found_beside_what_the_question_finds(filled):
    scribe = Scribe(lambda asked: SICKNESS)
    search = searching(filled, scribe)
    plain = await search.search("ada", question())
    assert plain.expansions == ()
    found = await search.search("ada", dataclasses.replace(question(), explain=True), Stated(hyde=Hyde.ALWAYS))
    (outcome,) = found.expansions
    assert (outcome.kind, outcome.applied, outcome.texts) == (ExpansionKind.HYDE, True, (SICKNESS,))
    assert documents(found).index("sick.txt") < documents(plain).index("sick.txt"), (documents(plain), documents(found))
    assert set(documents(plain)) <= set(documents(found))
    # The cosine that is shown is the question's own, and the parts of both lists add up.
    own = {hit.passage.document: hit.ranked.dense for hit in plain.hits}
    for hit in found.hits:
        assert hit.ranked.dense == own[hit.passage.document]
        assert sum(it.part for it in hit.places if it.list == "query") == pytest.approx(hit.ranked.score)
    assert {it.query for hit in found.hits for it in hit.places} == {0, 1}
    assert "expand" in found.seconds


async def test_a_passage_is_written_only_where_the_question_finds_little_when_it_is_for_weak_ones(filled):
    scribe = Scribe(lambda asked: SICKNESS)
    search = searching(filled, scribe)
    found = await search.search("ada", question(DOCUMENTS["boat.txt"]), Stated(hyde=Hyde.WEAK))
    assert [(it.applied, "near" in it.reason) for it in found.expansions] == [(False, True)]
    assert scribe.asked == []
    found = await search.search("ada", question("Who pays the baker's taxes?"), Stated(hyde=Hyde.WEAK))
    assert found.expansions[0].applied
    assert len(scribe.asked) == 1


def test_a_first_pass_is_weak_when_nothing_is_near_or_all_is_as_near():
    def pass_(*scores):
        return [Lists(dense=dict(enumerate(scores)))]

    assert expansion.weak(pass_())
    assert expansion.weak(pass_(0.3, 0.1))
    assert not expansion.weak(pass_(0.7, 0.3))
    assert expansion.weak(pass_(*[0.7] * 10))
    assert not expansion.weak(pass_(0.8, *[0.6] * 10))


async def test_a_question_is_broken_up_into_lines_that_are_looked_for_by_words_and_vectors(filled):
    scribe = Scribe(
        lambda asked: (
            f"1. {QUESTION}\n2) Who has wages for six weeks with a certificate?\n- Who has wages for six weeks with a certificate?\n\nWhen?"
        )
    )
    found = await searching(filled, scribe).search("ada", question(), Stated(decompose=True))
    (outcome,) = found.expansions
    assert outcome.kind is ExpansionKind.DECOMPOSITION
    assert outcome.texts == ("Who has wages for six weeks with a certificate?",)
    plain = await searching(filled, scribe).search("ada", question())
    assert documents(found).index("sick.txt") < documents(plain).index("sick.txt")
    sparse = await searching(filled, scribe).search(
        "ada", question(mode=Mode.SPARSE), Stated(Mode.SPARSE, decompose=True)
    )
    assert "sick.txt" in documents(sparse)


def test_the_last_line_of_a_list_that_was_cut_off_does_not_count():
    assert expansion.lines("1. Who pays?\n2. Who is", but="", complete=False) == ["Who pays?"]
    assert expansion.lines("1. Who pays?\n2. Who is", but="who  PAYS?", complete=True) == ["Who is"]


async def test_without_a_text_in_time_the_plain_answer_comes_and_says_why(filled):
    scribe = Scribe()
    asked = Stated(hyde=Hyde.ALWAYS, decompose=True)
    plain = documents(await searching(filled, scribe).search("ada", question()))

    async def answer(search):
        found = await search.search("ada", question(), asked)
        assert documents(found) == plain
        assert [it.applied for it in found.expansions] == [False, False]
        return found.expansions[0].reason

    scribe.open.clear()
    assert not missing(await answer(searching(filled, scribe, 0.2)), "0.20 s")
    assert "time" in await answer(searching(filled, scribe, 0.0))
    scribe.open.set()
    scribe.go_away()
    assert not missing(await answer(searching(filled, scribe)), "generator")
    scribe.problem, scribe.say = None, lambda asked: " \n"
    assert "nothing of use" in await answer(searching(filled, scribe))


async def test_what_a_collection_has_stored_is_done_and_what_a_request_states_wins(filled):
    scribe = Scribe(lambda asked: SICKNESS)
    collections = type(filled.collections)(filled.database, lambda: 0.0, scribe)
    stored = await collections.update("ada", "rules", Change(settings=SearchSettings(hyde=Hyde.ALWAYS, rerank=True)))
    assert stored.search_settings == SearchSettings(hyde=Hyde.ALWAYS, rerank=True)
    search = searching(filled, scribe)
    open_ = Stated(rerank_depth=5)
    found = await search.search("ada", question(), open_)
    assert found.expansions[0].applied
    assert found.reranking.applied
    found = await search.search("ada", question(), dataclasses.replace(open_, hyde=Hyde.OFF, rerank=False))
    assert found.expansions == ()
    assert found.reranking is None


async def test_where_there_is_no_generator_what_asks_for_one_is_refused_and_what_is_stored_says_why(filled):
    search = searching(filled, NoGenerator())
    with pytest.raises(Failure) as caught:
        await search.search("ada", question(), Stated(hyde=Hyde.WEAK))
    assert caught.value.reason is Reason.GENERATOR_NOT_SET
    with pytest.raises(Failure) as caught:
        await filled.collections.update("ada", "rules", Change(settings=SearchSettings(decompose=True)))
    assert caught.value.reason is Reason.GENERATOR_NOT_SET
    # Stored while there was one.
    collections = type(filled.collections)(filled.database, lambda: 0.0, Scribe())
    await collections.update("ada", "rules", Change(settings=SearchSettings(decompose=True)))
    found = await search.search("ada", question(), Stated())
    assert "TRIVIUM_RETRIEVER_GENERATION" in found.expansions[0].reason
    assert found.hits


def test_collections_that_are_searched_together_agree_or_the_deployment_says():
    one = SearchSettings(Mode.DENSE, 0.3, hyde=Hyde.WEAK)
    other = SearchSettings(Mode.DENSE, 0.7, rerank=True, decompose=True)
    assert joined([one, other]) == SearchSettings(Mode.DENSE, None, True, Hyde.WEAK, True)
    plan = planned(question(), Stated(), [one, other])
    assert (plan.question.mode, plan.question.dense_weight) == (Mode.DENSE, 0.55)
    assert SearchSettings.unpacked(one.packed()) == one
    assert SearchSettings.unpacked('{"rerank": true}') == SearchSettings(rerank=True)


def test_a_reranker_that_is_named_reranks_unless_that_is_refused_and_one_that_is_stored_where_reranking_is_on():
    stored = SearchSettings(rerank=True, rerank_model="sorter@1")

    def shape(stated, *settings):
        found = planned(question(), dataclasses.replace(stated, rerank_depth=5), settings).question.shape
        return found.rerank_depth, found.rerank_model, found.rerank_model_needed

    assert SearchSettings.unpacked(stored.packed()) == stored
    assert shape(Stated(), stored) == (5, "sorter@1", False)
    assert shape(Stated(), stored, stored) == (5, "sorter@1", False)
    assert shape(Stated(), stored, SearchSettings()) == (5, "", False)
    assert shape(Stated(rerank=False), stored)[0] == 0
    assert shape(Stated(rerank_model="other@2"), stored) == (5, "other@2", True)
    assert shape(Stated(rerank_model="other@2"), SearchSettings()) == (5, "other@2", True)
    assert shape(Stated(rerank_model="other@2", rerank=False), stored)[0] == 0
    assert shape(Stated(), dataclasses.replace(stored, rerank=False))[0] == 0
    assert SearchSettings.unpacked("{}") == SearchSettings()


@given(st.lists(st.dictionaries(st.integers(1, 30), st.floats(0, 1), min_size=1), min_size=2, max_size=4))
def test_a_list_adds_at_most_its_weight_and_what_it_lacks_counts_as_its_last(lists):
    weights = [1.0, *[0.5] * (len(lists) - 1)]
    for scores, weight, share in zip(lists, weights, combining.shares(lists, weights, Fusion.SCORE), strict=True):
        assert set(share) == set(scores)
        assert max(share.values()) == pytest.approx(weight)
        if len(set(scores.values())) > 1:
            assert min(share.values()) == 0.0
