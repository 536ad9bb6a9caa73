"""The embedded index's own: its file, its memory, its threads.  What every index promises: tests/conformance."""

import threading

import pytest

from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry
from tests.conformance.indexes import entry, packed, vector


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
    index.replace(1, [Entry(chunk, text, packed(chunk)) for chunk, text in rare.items()], [])
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
    with pytest.raises(RuntimeError, match="closed"):
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


def test_a_small_change_does_not_read_the_collection_again(opened):
    index, _ = opened()
    index.replace(1, [entry(chunk) for chunk in range(1, 9000)], [])
    index.nearest(1, vector(3), 5, None)
    read = []
    load = index._matrices._load

    def counted(collection):
        read.append(collection)
        return load(collection)

    index._matrices._load = counted
    index.replace(1, [entry(chunk) for chunk in range(9000, 9010)], range(5, 9))
    grown = index.nearest(1, vector(4503), 20, None)
    assert set(grown) >= {9006, 9007}
    assert not set(index.nearest(1, vector(3), 9000, None)) & set(range(5, 9))
    assert read == []
    index._matrices.forget(1)
    assert index.nearest(1, vector(4503), 20, None) == grown
    assert read == [1]
