"""What a document's passages say together, and what the first look's best passages add to the question."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from services.retriever.documents.readers import SERVICE
from services.retriever.search import feedback, neighbours, ranking
from services.retriever.search.arms import Again, Lists
from services.retriever.search.feedback import Spoken
from services.retriever.search.looking import Looking, QuestionVectors, Sought
from services.retriever.search.question import Fusion, Mode, Question
from services.retriever.search.settings import Hyde, Plan
from services.retriever.search.stopwatch import Stopwatch
from services.retriever.store import DocumentRow
from services.retriever.text.tokens import Tokens

SCORES = st.dictionaries(st.integers(1, 30), st.floats(0, 20, width=32), max_size=12)


def question(*, feedback=True, mode=Mode.HYBRID, query="q"):
    return Question(("rules",), (query,), 10, mode, Fusion.SCORE, 0.6, {}, (), SERVICE, feedback=feedback)


@given(scores=SCORES)
def test_a_document_of_one_passage_is_moved_by_nothing(scores):
    whole = neighbours.together(scores, {chunk: chunk for chunk in scores})
    greatest = max(scores.values(), default=0.0)
    assert whole == pytest.approx({chunk: score / greatest for chunk, score in scores.items() if score})


def test_a_passage_counts_for_more_where_others_of_its_document_were_found():
    whole = neighbours.together({1: 3.0, 2: 4.0, 3: 4.0}, {1: 7, 2: 7, 3: 8, 4: 7, 5: 9})
    assert whole == pytest.approx({1: 1.0, 2: 1.0, 4: 1.0, 3: 0.8})
    lists = Lists(sparse={1: 3.0, 2: 4.0, 3: 4.0}, documents={1: 7, 2: 7, 3: 8})
    assert [hit.chunk for hit in ranking.order(question(), [lists])] == [2, 3, 1]


def test_many_weak_passages_do_not_outweigh_one_that_fits():
    weak = dict.fromkeys(range(1, 9), 1.0)
    whole = neighbours.together({**weak, 20: 8.0}, {**dict.fromkeys(weak, 7), 20: 8})
    assert whole[20] == 1.0
    assert whole[1] < 0.5


def test_the_words_are_those_that_take_most_of_the_passages_one_form_of_each_and_none_of_the_question():
    text = "the harbours harbour HARBOUR ferry ferries tariff of the and"
    best = [Spoken(1.0, text, np.zeros(2, np.float32)), Spoken(0.4, "mooring mooring tariff", np.zeros(2, np.float32))]
    assert feedback.telling_words("Which ferries?", best, Tokens()) == ("harbours", "tariff", "mooring")


def test_no_more_words_than_fifteen():
    best = [Spoken(1.0, " ".join(f"word{at}" for at in range(40)), np.zeros(2, np.float32))]
    assert len(feedback.telling_words("q", best, Tokens())) == 15


def test_words_that_many_chunks_hold_are_left_out_where_all_would_take_long():
    holders = {"ferry": 6_000, "tariff": 3_000, "mooring": 900, "the": 100_000}
    assert feedback.affordable(("the", "ferry", "tariff", "mooring"), holders) == ("ferry", "tariff", "mooring")
    assert feedback.affordable(("ferry", "tariff", "mooring"), holders | {"mooring": 1_001}) == ("tariff", "mooring")
    assert feedback.affordable((), {}) == ()


def test_the_vector_moves_towards_the_passages_and_keeps_its_length():
    vector, other = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    moved = feedback.widened_vector(vector, [Spoken(0.7, "", other)])
    assert moved == pytest.approx([math.sqrt(0.5), math.sqrt(0.5)])
    assert feedback.widened_vector(vector, [Spoken(0.0, "", other)]) is vector


def test_a_text_speaks_once_however_often_it_stands():
    vector = np.zeros(2, np.float32)
    said = [Spoken(0.4, "copied", vector), Spoken(0.7, "own", vector), Spoken(0.5, "copied", vector)]
    assert [(it.score, it.text) for it in feedback.speaking(said)] == [(0.7, "own"), (0.5, "copied")]


@given(near=SCORES, sparse=SCORES, more=SCORES, kept=st.lists(st.integers(1, 30), max_size=3, unique=True))
def test_the_best_of_the_first_look_stay_first_in_their_order_and_the_parts_say_why(near, sparse, more, kept):
    seen = tuple(chunk for chunk in kept if chunk in near)
    groups = tuple(tied for tied in (seen[:1], seen[1:]) if tied)
    chunks = {*near, *sparse, *more}
    lists = Lists(near=near, sparse=sparse, documents={it: it % 5 for it in chunks}, again=Again(near, more, groups))
    order = ranking.order(question(), [lists])
    place = 0
    for group in groups:
        assert {hit.chunk for hit in order[place : place + len(group)]} == set(group)
        place += len(group)
    places = ranking.places(question(), [lists], [hit.chunk for hit in order])
    for hit in order:
        assert hit.score == pytest.approx(math.fsum(at.part for at in places[hit.chunk]))


async def looked(house, asked, tenant="ada"):
    """What both looks of a question find, by document."""
    number = await house.collections.number(tenant, "rules")
    answer = await house.embeddings.queries(asked.queries)
    vectors = QuestionVectors(answer.digest, [np.frombuffer(it, "<f2").astype(np.float32) for it in answer.packed])
    looking = Looking(house.database, house.index, asyncio.to_thread, 100)
    [lists] = await looking.lists(
        tenant, [number], Sought(Plan(asked, Hyde.OFF, decompose=False), vectors), Stopwatch()
    )
    numbers = select(DocumentRow.number, DocumentRow.document)
    names = dict(await house.database.read(lambda session: session.execute(numbers).all()))
    return lists, {chunk: names[number] for chunk, number in lists.documents.items()}


TEXTS = {
    "valve.txt": "The glypt valve of the bilge pump is closed by the quorl lever before the filter is cleaned.",
    "lever.txt": "A quorl lever must be greased each spring, or it jams.",
    "leave.txt": "Every keeper has thirty days of leave a year.",
}


@pytest.fixture
def catalog_url():
    return ""


@pytest.fixture
async def filled(house):
    for document, content in TEXTS.items():
        await house.ingested(document, content)
    return house


async def test_a_word_of_the_best_passages_finds_what_the_question_has_no_word_of(filled):
    asked = question(query="glypt valve")
    lists, names = await looked(filled, asked)
    assert {names[chunk] for chunk in lists.sparse} == {"valve.txt"}
    assert "lever.txt" in {names[chunk] for chunk in lists.again.sparse}
    order = ranking.order(asked, [lists])
    assert names[order[0].chunk] == "valve.txt"
    first, second = lists.again.kept
    assert [hit.chunk for hit in order[:2]] == [*first, *second]


async def test_the_same_documents_have_the_same_scores_under_every_name_of_their_collection(house):
    """Copies tie, and the numbers of chunks, which order them, follow from the collection's name."""
    copies = {f"{number}.txt": TEXTS["valve.txt"] for number in range(3)} | {"again.txt": TEXTS["lever.txt"]}
    asked = question(query="glypt valve")
    found = []
    for tenant in ("bert", "cleo", "dora", "ellen"):
        await house.create(tenant=tenant)
        for document, content in (TEXTS | copies).items():
            await house.ingested(document, content, tenant=tenant)
        lists, names = await looked(house, asked, tenant)
        found.append(sorted((names[hit.chunk], hit.score) for hit in ranking.order(asked, [lists])))
    assert found[1:] == found[:-1]


@pytest.mark.parametrize("asked", [question(feedback=False), question(mode=Mode.SPARSE), question(mode=Mode.DENSE)])
async def test_there_is_no_second_look_where_none_is_wanted(filled, asked):
    lists, _ = await looked(filled, asked)
    assert lists.again is None
