import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.search import fusion

SCORES = st.dictionaries(st.integers(0, 30), st.floats(-1, 1, width=32), max_size=20)
MATCHES = st.dictionaries(st.integers(0, 30), st.floats(0, 50, width=32), max_size=20)


def test_scores_are_weighed_between_the_least_that_counts_and_the_greatest_seen():
    fused = fusion.by_score({1: 0.5, 2: -1.0}, {2: 8.0, 3: 2.0}, dense_weight=0.6)
    assert fused == pytest.approx({1: 0.6, 2: 0.4, 3: 0.1})


def test_a_cosine_below_0_counts_as_0_and_not_as_a_distance_from_minus_1():
    assert fusion.by_score({1: 1.0, 2: 0.5, 3: -0.5}, {}, dense_weight=1.0) == pytest.approx({1: 1.0, 2: 0.5, 3: 0.0})


def test_ranks_are_added_as_reciprocals_with_sixty():
    assert fusion.by_rank([{7: 0.9, 8: 0.5}, {8: 2.0}]) == pytest.approx({7: 1 / 61, 8: 1 / 62 + 1 / 61})


def test_what_ties_has_the_same_rank_and_takes_its_places():
    assert fusion.by_rank([{1: 0.9, 2: 0.5, 3: 0.5, 4: 0.1}]) == {1: 1 / 61, 2: 1 / 62, 3: 1 / 62, 4: 1 / 64}


def test_the_first_few_are_taken_with_all_that_tie_with_the_last_of_them_or_with_none():
    ranked = fusion.ordered({1: 0.9, 2: 0.5, 3: 0.5, 4: 0.1})
    assert [[hit.chunk for hit in tied] for tied in fusion.leading(ranked, 2, 3)] == [[1], [2, 3]]
    assert [[hit.chunk for hit in tied] for tied in fusion.leading(ranked, 2, 2)] == [[1]]
    assert [[hit.chunk for hit in tied] for tied in fusion.leading(ranked, 9, 9)] == [[1], [2, 3], [4]]


def test_an_empty_list_counts_for_nothing():
    assert fusion.by_score({}, {}, 0.5) == {}
    assert fusion.by_score({1: -1.0}, {}, 0.5) == {1: 0.0}


@given(dense=SCORES, sparse=MATCHES, weight=st.floats(0, 1))
def test_a_fused_score_lies_between_0_and_1_and_nothing_is_lost(dense, sparse, weight):
    fused = fusion.by_score(dense, sparse, weight)
    assert set(fused) == set(dense) | set(sparse)
    assert all(0 <= score <= 1 + 1e-9 for score in fused.values())


@given(scores=SCORES, seed=st.randoms())
def test_the_order_does_not_depend_on_the_order_of_arrival(scores, seed):
    items = list(scores.items())
    seed.shuffle(items)
    assert fusion.ordered(dict(items)) == fusion.ordered(scores)
