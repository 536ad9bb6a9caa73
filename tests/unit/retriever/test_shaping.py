"""What is done with an order once it is fused: each stage on its own."""

import asyncio
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Failure, Reason
from services.retriever.documents.readers import SERVICE
from services.retriever.peers import RemoteEmbeddings
from services.retriever.search import diversity, duplicates, ranking, sections, shaping
from services.retriever.search.arms import Lists
from services.retriever.search.pages import Pages
from services.retriever.search.question import Fusion, Mode, Question, Ranked, Reranking
from services.retriever.search.reranking import Reranker, Scores
from services.retriever.search.sections import Placed
from tests.harness.clock import ManualClock
from tests.harness.wording import missing

CHUNKS = st.integers(1, 40)


def question(mode=Mode.HYBRID, fusion=Fusion.SCORE):
    return Question(("c",), ("q",), 10, mode, fusion, 0.55, {}, (), SERVICE)


@st.composite
def raw_lists(draw):
    dense = draw(st.dictionaries(CHUNKS, st.floats(-1, 1, width=32), max_size=12))
    sparse = draw(st.dictionaries(CHUNKS, st.floats(0, 30, width=32), max_size=12))
    others = {chunk: draw(st.floats(-1, 1, width=32)) for chunk in sparse if chunk not in dense}
    return Lists(dense, {**dense, **others}, sparse)


def taken(asked, lists):
    """The lists that a search of this mode has."""
    if asked.mode is Mode.DENSE:
        return Lists(lists.dense, dict(lists.dense), {})
    return Lists({}, {}, lists.sparse) if asked.mode is Mode.SPARSE else lists


QUESTIONS = st.builds(question, st.sampled_from(Mode), st.sampled_from(Fusion))


@given(asked=QUESTIONS, lists=st.lists(raw_lists(), min_size=2, max_size=4), chance=st.randoms())
def test_the_order_of_the_queries_moves_nothing(asked, lists, chance):
    lists = [taken(asked, it) for it in lists]
    shuffled = list(lists)
    chance.shuffle(shuffled)
    assert ranking.order(asked, shuffled) == ranking.order(asked, lists)


@given(asked=QUESTIONS, lists=st.lists(raw_lists(), min_size=1, max_size=3))
def test_the_parts_of_an_explanation_add_up_to_the_score(asked, lists):
    lists = [taken(asked, it) for it in lists]
    order = ranking.order(asked, lists)
    places = ranking.places(asked, lists, [it.chunk for it in order])
    for it in order:
        mine = places[it.chunk]
        if len(lists) > 1:
            assert it.score == pytest.approx(math.fsum(at.part for at in mine if at.list == "query"))
        for query in {at.query for at in mine}:
            arms = math.fsum(at.part for at in mine if at.query == query and at.list != "query")
            whole = [at.score for at in mine if at.query == query and at.list == "query"] or [it.score]
            assert arms == pytest.approx(whole[0])
        for at in mine:
            arm = getattr(lists[at.query], at.list, None)
            assert arm is None or (at.rank > 0) == (it.chunk in arm)


def test_ranks_of_an_explanation_are_places_in_each_list():
    lists = Lists({1: 0.9, 2: 0.5}, {1: 0.9, 2: 0.5, 3: 0.25}, {3: 8.0, 1: 4.0})
    places = ranking.places(question(), [lists], [1, 2, 3])
    shown = {chunk: {at.list: (at.rank, at.score) for at in its} for chunk, its in places.items()}
    assert shown == {
        1: {"dense": (1, 0.9), "sparse": (2, 4.0)},
        2: {"dense": (2, 0.5)},
        # Near enough to count, too far for the list.
        3: {"dense": (0, 0.25), "sparse": (1, 8.0)},
    }


TEXTS = {
    1: "the gate is red and the harbour is closed tonight",
    2: "the  gate is red and the harbour\nis closed tonight",
    3: "the gate is red and the harbour is closed today",
    4: "smoked herring keeps for a month in the barrel",
}


def test_the_same_text_is_one_whatever_its_blanks_and_near_ones_only_when_asked():
    assert duplicates.grouped([3, 1, 2, 4], TEXTS, 1.0) == [[3], [1, 2], [4]]
    assert duplicates.grouped([3, 1, 2, 4], TEXTS, 0.6) == [[3, 1, 2], [4]]
    assert duplicates.grouped([4, 2, 1, 3], TEXTS, 0.95) == [[4], [2, 1], [3]]


def test_texts_without_spaces_between_words_are_compared_by_character():
    texts = {
        1: "港口今晚关闭因为风暴来临请注意安全",
        2: "港口今晚关闭因为风暴来临请注意安危",
        3: "鲱鱼在桶里可以保存一个月之久",
    }
    assert duplicates.grouped([1, 2, 3], texts, 0.7) == [[1, 2], [3]]


@given(
    texts=st.dictionaries(CHUNKS, st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join), max_size=20),
    similarity=st.sampled_from([0.5, 0.7, 1.0]),
)
def test_grouping_loses_nothing_keeps_the_order_and_puts_only_like_with_like(texts, similarity):
    groups = duplicates.grouped(list(texts), texts, similarity)
    assert sorted(chunk for group in groups for chunk in group) == sorted(texts)
    place = {chunk: at for at, chunk in enumerate(texts)}
    assert [place[group[0]] for group in groups] == sorted(place[group[0]] for group in groups)

    def shingles(chunk):
        words = texts[chunk].split()
        return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))}

    for best, *others in groups:
        for other in others:
            same = texts[best] == texts[other]
            alike = len(shingles(best) & shingles(other)) / len(shingles(best) | shingles(other))
            assert same or (similarity < 1 and alike >= similarity)


def unit(*numbers):
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


VECTORS = {1: unit(1, 0), 2: unit(1, 0.01), 3: unit(0, 1), 4: unit(0.7, 0.7)}
RELEVANCE = {1: 1.0, 2: 0.95, 3: 0.5, 4: 0.4}


def test_diversity_takes_what_is_unlike_before_what_says_the_same_again():
    assert diversity.diversified([1, 2, 3, 4], RELEVANCE, VECTORS, 0.5, 4) == [1, 3, 2, 4]
    assert diversity.diversified([1, 2, 3, 4], RELEVANCE, VECTORS, 0.5, 2) == [1, 3]


def test_unlike_is_unlike_all_that_was_chosen_and_not_the_last_one_alone():
    relevance = {1: 1.0, 2: 0.95, 4: 0.9, 3: 0.5}
    assert diversity.diversified([1, 2, 4, 3], relevance, VECTORS, 0.5, 4) == [1, 3, 4, 2]


def test_at_lambda_1_the_order_is_that_of_relevance_and_the_best_is_always_first():
    assert diversity.diversified([1, 2, 3, 4], RELEVANCE, VECTORS, 1.0, 4) == [1, 2, 3, 4]
    assert diversity.diversified([1, 2, 3, 4], RELEVANCE, VECTORS, 0.0, 2)[0] == 1
    assert diversity.diversified([], {}, {}, 0.5, 3) == []
    assert set(diversity.diversified([1, 9, 3], {1: 1.0, 9: 0.9, 3: 0.1}, VECTORS, 0.3, 3)) == {1, 9, 3}


def test_relevance_falls_along_the_order_with_the_reranked_above():
    order = [
        Ranked(1, 0.3, None, None, 9.0),
        Ranked(2, 0.9, None, None, 2.0),
        Ranked(3, 0.8, None, None),
        Ranked(4, 0.2, None, None),
    ]
    scores = Scores(Reranking(True, "", 2), 0.9, {})
    values = [shaping.relevances(order, scores)[it.chunk] for it in order]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] <= values[0] <= 1


def section(*chunks, length=10, gap=2, start=0):
    return tuple(
        Placed(chunk, start + at * (length + gap), start + at * (length + gap) + length)
        for at, chunk in enumerate(chunks)
    )


def placed(*runs):
    return {it.chunk: run for run in runs for it in run}


def shown(windows):
    return [(it.chunk, it.merged, it.start, it.end) for it in windows]


def test_hits_of_a_section_are_one_when_at_least_half_of_it_is_hit():
    four = placed(section(1, 2, 3, 4))
    assert shown(sections.widened([3, 1], four, 10, 100)) == [(3, (1,), 0, 46)]
    assert shown(sections.widened([3], four, 10, 34)) == [(3, (), 12, 46)]


def test_below_half_each_hit_is_widened_and_no_character_is_shown_twice():
    five = placed(section(1, 2, 3, 4, 5))
    assert shown(sections.widened([5, 1], five, 10, 22)) == [(5, (), 36, 58), (1, (), 0, 22)]
    assert shown(sections.widened([5, 1], five, 10, 1000)) == [(5, (), 12, 58), (1, (), 0, 10)]


def test_a_hit_larger_than_the_budget_stays_as_it_is_and_a_merge_that_does_not_fit_is_none():
    two = placed(section(1, 2))
    assert shown(sections.widened([2, 1], two, 10, 5)) == [(2, (), 12, 22), (1, (), 0, 10)]


def test_a_merged_hit_makes_room_for_the_next_one():
    runs = placed(section(1, 2), section(7, start=100), section(8, start=200))
    assert [it.chunk for it in sections.widened([1, 2, 7, 8], runs, 2, 100)] == [1, 7]
    assert [it.chunk for it in sections.widened([1, 2, 7, 8], runs, 9, 100)] == [1, 7, 8]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    picks=st.lists(st.integers(0, 29), max_size=12, unique=True),
    most=st.integers(1, 12),
    characters=st.integers(1, 80),
)
def test_windows_never_overlap_hold_their_hits_and_keep_the_budget(lengths, picks, most, characters):
    runs, first = [], 0
    for number, length in enumerate(lengths):
        runs.append(section(*range(first, first + length), start=1000 * number))
        first += length
    held = placed(*runs)
    order = [pick for pick in picks if pick in held]
    windows = sections.widened(order, held, most, characters)
    assert len(windows) <= most
    spans = sorted((it.start, it.end) for it in windows)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    for it in windows:
        assert it.end - it.start <= max(characters, 10)
        for chunk in (it.chunk, *it.merged):
            at = next(placed for placed in held[it.chunk] if placed.chunk == chunk)
            assert it.start <= at.start < at.end <= it.end
    covered = {chunk for it in windows for chunk in (it.chunk, *it.merged)}
    if len(windows) < most:
        assert covered == set(order)


RANKED = st.builds(
    Ranked,
    st.integers(0, 2**63 - 1),
    st.floats(0, 1),
    st.none() | st.floats(-1, 1),
    st.none() | st.floats(0, 50),
    st.none() | st.floats(-5, 5),
    st.none() | st.tuples(st.text(), st.integers(0, 9), st.integers(10, 99)),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
)


@given(rest=st.lists(RANKED, min_size=1, max_size=20))
def test_a_token_gives_back_the_places_to_who_made_it(rest):
    pages = Pages(b"k" * 32, lambda: 0.0, 10.0)
    assert pages.rest(pages.token(rest, "ada asks"), "ada asks") == rest


def test_a_token_of_another_request_another_catalog_or_nobody_is_refused():
    clock = ManualClock()
    pages = Pages(b"k" * 32, clock, 10.0)
    token = pages.token([Ranked(1, 0.5, None, 2.0)], "ada asks")
    middle = len(token) // 2
    forged = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    for wrong, asked in (
        (token, "eve asks"),
        (forged, "ada asks"),
        ("", "ada asks"),
        ("é", "ada asks"),
        ("AAAA", "ada asks"),
    ):
        with pytest.raises(Failure) as caught:
            pages.rest(wrong, asked)
        assert caught.value.reason is Reason.PAGE_TOKEN_INVALID
    with pytest.raises(Failure):
        Pages(b"j" * 32, lambda: 0.0, 10.0).rest(token, "ada asks")


def test_a_token_expires_and_a_later_page_does_not_renew_it():
    clock = ManualClock()
    pages = Pages(b"k" * 32, clock, 10.0)
    first = pages.token([Ranked(1, 0.5, None, 2.0), Ranked(2, 0.4, None, 1.0)], "asked")
    clock.now = 9.0
    second = pages.renewed(pages.rest(first, "asked")[1:], "asked", first)
    assert [it.chunk for it in pages.rest(second, "asked")] == [2]
    clock.now = 10.0
    for token in (first, second):
        with pytest.raises(Failure) as caught:
            pages.rest(token, "asked")
        assert caught.value.reason is Reason.SEARCH_PAGES_EXPIRED
        assert "10 seconds" in caught.value.sentence


class Judge(RemoteEmbeddings):
    """Scores by length, unless it has something else to do."""

    def __init__(self, problem=None):
        self.problem = problem

    async def rerank(self, query, texts, model=""):
        if self.problem is not None:
            await self.problem()
        return [float(len(text)) for text in texts]


ORDER = [Ranked(1, 0.9, 0.5, None), Ranked(2, 0.8, None, 3.0), Ranked(3, 0.7, None, 2.0), Ranked(4, 0.1, None, 1.0)]
SAID = {1: "short", 2: "somewhat longer", 3: "the longest of them all", 4: "none"}


async def test_reranked_places_come_first_by_both_scores_and_the_rest_follows_in_its_order():
    scores = await Reranker(Judge(), 1.0, 5.0).scores("q", [SAID[chunk] for chunk in (1, 2, 3)])
    assert scores.outcome == Reranking(True, "", 3)
    assert [(it.chunk, it.rerank) for it in scores.applied(ORDER, SAID)] == [(3, 23.0), (2, 15.0), (1, 5.0), (4, None)]
    fused = await Reranker(Judge(), 0.0, 5.0).scores("q", [SAID[chunk] for chunk in (1, 2, 3)])
    assert [it.chunk for it in fused.applied(ORDER, SAID)] == [1, 2, 3, 4]


async def test_a_reranker_that_is_late_or_away_leaves_the_fused_order_and_says_so():
    async def late():
        await asyncio.Event().wait()

    async def away():
        raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")

    for problem, says in ((late, "more than the 0.05 s"), (away, "embedder")):
        scores = await Reranker(Judge(problem), 1.0, 0.05).scores("q", list(SAID.values()))
        assert not scores.outcome.applied
        assert says in scores.outcome.reason
        assert scores.applied(ORDER, SAID) == ORDER

    async def broken():
        raise Failure(Reason.TEXT_EMPTY, index=0)

    with pytest.raises(Failure):
        await Reranker(Judge(broken), 1.0, 1.0).scores("q", ["x"])


async def test_a_stored_reranker_that_is_not_there_leaves_the_fused_order_and_one_that_is_asked_for_fails_the_search():
    async def unknown():
        raise Failure(Reason.EMBEDDING_MODEL_NOT_FOUND, name="sorter@1", fate=": it is deleted", known="tiny")

    spared = await Reranker(Judge(unknown), 1.0, 1.0).scores("q", ["x"], "sorter@1")
    assert not spared.outcome.applied
    assert not missing(spared.outcome.reason, "sorter@1", "deleted")
    with pytest.raises(Failure) as caught:
        await Reranker(Judge(unknown), 1.0, 1.0).scores("q", ["x"], "sorter@1", needed=True)
    assert caught.value.reason is Reason.EMBEDDING_MODEL_NOT_FOUND
