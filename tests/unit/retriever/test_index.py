"""The embedded index: whatever way it came to its chunks, it answers as one built from them at once."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever.index import Entry
from services.retriever.index_embedded import EmbeddedIndex

WORDS = ("herring", "mustard", "gate", "lamp", "siren", "bread", "quay", "boat")
DIMENSIONS = 16


def vector(seed):
    drawn = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def entry(chunk):
    """A chunk whose text and vector follow from its number; some texts are twins."""
    picked = np.random.default_rng(chunk // 2).choice(WORDS, size=4)
    return Entry(chunk, " ".join(picked), vector(chunk // 2).astype("<f2").tobytes())


@pytest.fixture
def opened(tmp_path):
    made: list[EmbeddedIndex] = []

    def make(catalog="c"):
        index = EmbeddedIndex(tmp_path / "index.db", catalog, 1 << 20)
        kept = index.open()
        made.append(index)
        return index, kept

    yield make
    for index in made:
        index.close()


def answers(index, collection=1, allowed=None):
    """What it says to a few questions, in order, to the bit."""
    found = [list(index.keyword(collection, (word, "gate"), 5, allowed).items()) for word in WORDS]
    return found + [list(index.nearest(collection, vector(seed), 5, allowed).items()) for seed in range(5)]


STEPS = st.lists(
    st.tuples(st.sets(st.integers(1, 40), max_size=8), st.sets(st.integers(1, 40), max_size=8)), min_size=1, max_size=8
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_a_history_of_changes_leaves_the_index_of_a_fresh_build(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("index")
    grown, fresh = (EmbeddedIndex(folder / name, "c", 1 << 20) for name in ("grown.db", "fresh.db"))
    grown.open()
    fresh.open()
    held: set[int] = set()
    for add, remove in steps:
        grown.replace(1, [entry(chunk) for chunk in add], sorted(remove - add))
        held = (held - remove) | add
        # Also what was searched in between must not show.
        answers(grown)
    fresh.replace(1, [entry(chunk) for chunk in sorted(held)], [])
    assert grown.members(1) == fresh.members(1) == held
    assert answers(grown) == answers(fresh)
    grown.close()
    fresh.close()


def test_another_collection_moves_no_score(opened):
    index, _ = opened()
    index.replace(1, [entry(chunk) for chunk in range(1, 20)], [])
    before = answers(index)
    index.replace(2, [entry(chunk) for chunk in range(1, 90, 3)], [])
    assert answers(index) == before
    index.drop(2)
    assert answers(index) == before
    assert index.collections() == {1}


def test_only_allowed_chunks_compete(opened):
    index, _ = opened()
    index.replace(1, [entry(chunk) for chunk in range(1, 60)], [])
    allowed = frozenset({3, 30, 41, 999})
    for found in answers(index, allowed=allowed):
        assert {chunk for chunk, _ in found} <= allowed
    assert {chunk for chunk, _ in index.nearest(1, vector(0), 5, allowed).items()} == {3, 30, 41}


def test_cosines_of_given_chunks_are_those_of_a_search(opened):
    index, _ = opened()
    index.replace(1, [entry(chunk) for chunk in range(1, 60)], [])
    everything = index.nearest(1, vector(3), 100, None)
    assert index.similarities(1, vector(3), [5, 7, 999]) == {chunk: everything[chunk] for chunk in (5, 7)}


def test_a_collection_without_chunks_answers_nothing(opened):
    index, _ = opened()
    assert answers(index) == [[]] * (len(WORDS) + 5)
    index.drop(7)


def test_an_index_of_another_catalog_or_a_damaged_one_begins_anew(opened, tmp_path):
    first, kept = opened("one")
    assert not kept
    first.replace(1, [entry(1)], [])
    first.close()
    again, kept = opened("one")
    assert kept
    assert again.members(1) == {1}
    again.close()
    other, kept = opened("two")
    assert not kept
    assert other.members(1) == frozenset()
    other.close()
    (tmp_path / "index.db").write_bytes(b"no database")
    _, kept = opened("two")
    assert not kept


def test_vectors_that_do_not_fit_the_cache_are_read_again(tmp_path):
    index = EmbeddedIndex(tmp_path / "small.db", "c", cache_bytes=0)
    index.open()
    for collection in (1, 2, 1, 2):
        index.replace(collection, [entry(chunk) for chunk in range(collection, 9)], [])
        assert index.nearest(collection, vector(2), 3, None)
    index.close()


def test_words_that_most_chunks_hold_move_no_order(opened):
    index, _ = opened()
    rare = {chunk: f"the gate of number {chunk % 97} is the gate" for chunk in range(1, 1200)}
    index.replace(1, [Entry(chunk, text, vector(chunk).astype("<f2").tobytes()) for chunk, text in rare.items()], [])
    alone = index.keyword(1, ("13",), 20, None)
    assert set(alone) == {chunk for chunk in rare if chunk % 97 == 13}
    assert index.keyword(1, ("the", "13", "gate"), 20, None) == alone
    assert len(index.keyword(1, ("the", "gate"), 20, None)) == 20


def test_a_connection_is_not_closed_under_whoever_uses_it(opened):
    index, _ = opened()
    began, go_on = threading.Event(), threading.Event()

    def slow():
        # Its texts come while the transaction runs.
        def late():
            began.set()
            go_on.wait(30)
            return "herring"

        index.replace(1, [LateEntry(late)], [])

    writer = threading.Thread(target=slow)
    writer.start()
    assert began.wait(30)
    closer = threading.Thread(target=index.close)
    closer.start()
    closer.join(0.3)
    assert closer.is_alive()
    go_on.set()
    for thread in (writer, closer):
        thread.join(30)
        assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="the index is closed"):
        index.collections()
    again, kept = opened()
    assert kept
    assert again.members(1) == {7}


class LateEntry:
    """An entry whose text is made when it is read."""

    chunk = 7
    vector = entry(7).vector

    def __init__(self, text):
        self._text = text

    @property
    def text(self):
        return self._text()
