"""Whether a collection can answer: the score rises with every piece of evidence, and a threshold tells kinds apart."""

from dataclasses import astuple, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry
from services.retriever.search import evidence
from services.retriever.search.answerable import NOTHING, Features, fit, judged, score
from services.retriever.search.arms import Lists
from services.retriever.text.keywords import words
from services.retriever.text.tokens import Tokens

PARTS = st.floats(0, 1)
FEATURES = st.builds(Features, *[PARTS] * len(fields(Features)))
TEXTS = {
    1: "Boats under twelve metres moor at the eastern quay. A mooring costs 14 crowns a night.",
    2: "The keeper sounds the siren three times when the barometer falls.",
    3: "Smoked herring is served with mustard and potatoes.",
    4: "Bread is baked on Mondays in the harbour's kitchen by Agnes Holm.",
}


@pytest.fixture
def index(tmp_path):
    opened = EmbeddedIndex(tmp_path / "index.db", "catalog", 2**20)
    opened.open()
    opened.replace(1, [Entry(chunk, text, b"\0\0") for chunk, text in TEXTS.items()], [])
    yield opened
    opened.close()


def looked(index, query, near):
    """The features of a query whose nearest passages have these cosines."""
    lists = Lists(dense=near, near=near, sparse=dict(index.keyword(1, words(query), 10, None)))
    chunks = evidence.looked_at([lists])
    (found,) = evidence.of_each(
        index, Tokens(), [1], [query], [lists], {chunk: TEXTS.get(chunk, "") for chunk in chunks}
    )
    return found


@given(features=FEATURES, at=st.integers(0, len(fields(Features)) - 1), more=PARTS)
def test_more_evidence_never_lowers_the_score(features, at, more):
    name = fields(Features)[at].name
    raised = replace(features, **{name: max(more, astuple(features)[at])})
    assert 0 <= score(features) <= score(raised) <= 1


@given(known=st.lists(st.tuples(FEATURES, st.booleans()), min_size=2, max_size=12))
def test_a_fitted_threshold_is_never_worse_than_the_default_on_its_own_questions(known):
    features, answerable = zip(*known, strict=True)
    if len(set(answerable)) < 2:
        with pytest.raises(ValueError, match="both"):
            fit([score(it) for it in features], answerable)
        return

    def right(threshold):
        shares = [[(score(it) >= threshold) is yes for it, yes in known if yes is kind] for kind in (True, False)]
        return sum(sum(share) / len(share) for share in shares)

    assert right(fit([score(it) for it in features], answerable)) >= right(0.5) - 1e-9


def test_a_fitted_threshold_lies_between_the_kinds_that_it_tells_apart():
    weak, strong = replace(NOTHING, cosine=0.2), Features(*[0.9] * len(fields(Features)))
    assert score(weak) < fit([score(weak), score(strong)], [False, True]) < score(strong)


def test_of_several_queries_the_one_that_finds_most_counts():
    strong = Features(*[0.9] * len(fields(Features)))
    found = judged([NOTHING, strong], 0.5)
    assert (found.score, found.answerable) == (score(strong), True)
    assert not judged([], 0.5).answerable
    assert judged([NOTHING], 0.0).answerable


def test_a_question_that_a_passage_answers_scores_above_one_that_none_does(index):
    near = {1: 0.7, 2: 0.2, 3: 0.1, 4: 0.1}
    answered = looked(index, "What does a mooring cost for a night?", near)
    missed = looked(index, "What does a parking permit cost in Bergen?", {1: 0.3, 4: 0.2})
    assert score(answered) > 0.5 > score(missed)


def test_numbers_and_names_count_where_they_are_found_literally(index):
    near = {1: 0.5, 4: 0.4}
    assert looked(index, "is a mooring 14 crowns", near).literal == 1.0
    assert looked(index, "is a mooring 15 crowns", near).literal == 0.0
    assert looked(index, "does Agnes Holm bake", near).literal == 1.0
    assert looked(index, "does Agnes Berg bake", near).literal == 0.5
    # The capital that begins a question names nothing.
    assert looked(index, "Parking near the quay", near).literal == 1.0


def test_words_that_stand_together_tell_more_than_words_apart(index):
    near = {2: 0.5}
    assert looked(index, "siren three times", near).paired == 1.0
    assert looked(index, "times three siren", near).paired == 0.0


def test_rare_words_weigh_more_in_what_the_nearest_passage_covers(index):
    index.replace(1, [Entry(chunk, "a keeper writes", b"\0\0") for chunk in range(5, 15)], [])
    rare = looked(index, "siren zebra", {2: 0.5}).covered
    common = looked(index, "keeper zebra", {2: 0.5}).covered
    assert 0 < common < rare < 1


def test_nothing_found_is_no_evidence(index):
    assert looked(index, "zebra", {}) == NOTHING
    assert evidence.of_each(index, Tokens(), [9], ["zebra"], [Lists()], {}) == [NOTHING]
