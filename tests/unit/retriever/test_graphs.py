"""Collections too large to be searched exactly: HNSW proposes, exact scores decide, and no stale graph is used."""

import threading

import numpy as np
import pytest

from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry

DIMENSIONS = 64
ROWS = 6000


def clustered(rows, seed=0):
    """Vectors around a hundred centres, as texts on a hundred subjects have them."""
    drawn = np.random.default_rng(seed)
    centres = drawn.normal(size=(100, DIMENSIONS))
    found = centres[drawn.integers(0, 100, rows)] + 0.6 * drawn.normal(size=(rows, DIMENSIONS))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(ROWS)
QUERIES = clustered(40, seed=1)


def entries(*chunks):
    return [Entry(chunk, f"number {chunk}", VECTORS[chunk].astype("<f2").tobytes()) for chunk in chunks]


def open_index(folder, exact_chunks=1000):
    index = EmbeddedIndex(folder / "index.db", "c", 1 << 26, exact_chunks)
    index.open()
    return index


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    index = open_index(tmp_path_factory.mktemp("graphs"))
    index.replace(1, entries(*range(ROWS)), [])
    index.nearest(1, QUERIES[0], 10, None)
    index.settle(1)
    yield index
    index.close()


def exact(index, query, allowed=None):
    return index._matrices.of(1).only(range(ROWS) if allowed is None else allowed).nearest(query, 10)


@pytest.fixture
def graph_alone(monkeypatch):
    """Searches that would read the collection's vectors whole fail."""
    monkeypatch.setattr("services.retriever.index.vectors.Matrices.of", lambda *_: pytest.fail("searched exactly"))


def test_a_large_collection_is_searched_by_its_graph_with_exact_scores(filled):
    wanted = [exact(filled, query) for query in QUERIES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.retriever.index.vectors.Matrices.of", lambda *_: pytest.fail("searched exactly"))
        found = [filled.nearest(1, query, 10, None) for query in QUERIES]
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(wanted, found, strict=True)])
    assert recall >= 0.99
    for one, other in zip(wanted, found, strict=True):
        assert all(other[chunk] == score for chunk, score in one.items() if chunk in other)


def test_a_filter_that_leaves_little_is_exact_and_one_that_leaves_much_goes_by_the_graph(filled, graph_alone):
    less_than_half, many = frozenset(range(2500)), frozenset(range(500, ROWS))
    with pytest.raises(pytest.fail.Exception, match="searched exactly"):
        filled.nearest(1, QUERIES[0], 10, less_than_half)
    found = filled.nearest(1, QUERIES[0], 10, many)
    assert len(found) == 10
    assert set(found) <= many
    narrow = frozenset(range(0, ROWS, 60))
    assert set(filled.nearest(1, QUERIES[0], 10, narrow)) <= narrow


def test_a_graph_follows_changes(tmp_path):
    index = open_index(tmp_path)
    index.replace(1, entries(*range(2000)), [])
    index.nearest(1, VECTORS[0], 1, None)
    index.settle(1)
    index.replace(1, entries(*range(2000, 2500)), range(500))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.retriever.index.vectors.Matrices.of", lambda *_: pytest.fail("searched exactly"))
        assert list(index.nearest(1, VECTORS[2222], 1, None)) == [2222]
        assert 17 not in index.nearest(1, VECTORS[17], 10, None)
    index.close()


def test_changes_while_a_graph_is_built_are_in_it(tmp_path, monkeypatch):
    index = open_index(tmp_path)
    index.replace(1, entries(*range(2000)), [])
    read = index._graphs.read

    def slow(collection):
        opened = read(collection)

        class Late:
            def __enter__(self):
                moment = opened.__enter__()
                change = threading.Thread(target=index.replace, args=(1, entries(2001), [3]))
                change.start()
                change.join(30)
                return moment

            def __exit__(self, *given):
                return opened.__exit__(*given)

        return Late()

    index._graphs.read = slow
    index.nearest(1, VECTORS[0], 1, None)
    index.settle(1)
    monkeypatch.setattr("services.retriever.index.vectors.Matrices.of", lambda *_: pytest.fail("searched exactly"))
    assert list(index.nearest(1, VECTORS[2001], 1, None)) == [2001]
    assert 3 not in index.nearest(1, VECTORS[3], 10, None)
    index.close()


def test_a_graph_of_another_generation_is_thrown_away(tmp_path):
    index = open_index(tmp_path)
    index.replace(1, entries(*range(1500)), [])
    index.nearest(1, VECTORS[0], 1, None)
    index.settle(1)
    index.close()
    (file,) = (tmp_path / "index.db-graphs").iterdir()

    kept = open_index(tmp_path)
    kept.nearest(1, VECTORS[0], 1, None)
    kept.settle(1)
    assert kept._graphs._graphs[1].generation == 1
    # As a kill leaves it: the file is of the generation before.
    kept.replace(1, entries(1500), [])
    kept._graphs._graphs.clear()
    kept.close()
    assert file.exists()

    behind = open_index(tmp_path)
    behind.nearest(1, VECTORS[0], 1, None)
    behind.settle(1)
    assert not file.exists()
    assert list(behind.nearest(1, VECTORS[1500], 1, None)) == [1500]
    assert [path.name for path in (tmp_path / "index.db-graphs").iterdir()] == ["1-2.hnsw"]
    behind.close()


def test_a_damaged_file_is_built_anew(tmp_path):
    index = open_index(tmp_path)
    index.replace(1, entries(*range(1500)), [])
    index.nearest(1, VECTORS[0], 1, None)
    index.settle(1)
    index.close()
    (file,) = (tmp_path / "index.db-graphs").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again = open_index(tmp_path)
    again.nearest(1, VECTORS[0], 1, None)
    again.settle(1)
    assert list(again.nearest(1, VECTORS[44], 1, None)) == [44]
    again.close()


def test_while_a_graph_is_built_the_collection_is_searched_exactly(tmp_path):
    index = open_index(tmp_path)
    index.replace(1, entries(*range(3000)), [])
    assert index.nearest(1, QUERIES[0], 10, None) == exact(index, QUERIES[0])
    index.close()
