"""Every index keeps the same promises: whatever way it came to its chunks, it answers as one built from them at once."""

import math
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry, Frequencies, Index
from services.retriever.index.places import Server
from services.retriever.index.weaviate import WeaviateIndex
from tests.conformance.indexes import DIMENSIONS, WORDS, Shelf, answers, entry, fill, packed, vector
from tests.weaviate import Weaviate

# Numbers of chunks have 63 bits: more than a double holds.
LARGE = 2**62 + 1


def embedded(folder: Path) -> Shelf:
    opened: list[EmbeddedIndex] = []

    def open_(catalog: str) -> Index:
        index = EmbeddedIndex(folder / f"{catalog}.db", catalog, 1 << 24)
        index.open()
        opened.append(index)
        return index

    def close() -> None:
        while opened:
            opened.pop().close()

    return Shelf(open_, close)


def on_weaviate(server: Server) -> Shelf:
    opened: list[WeaviateIndex] = []

    def open_(catalog: str) -> Index:
        opened.append(WeaviateIndex(server, catalog))
        return opened[-1]

    def close() -> None:
        while opened:
            opened.pop().close()

    return Shelf(open_, close)


@pytest.fixture(params=["embedded", "weaviate"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    if request.param == "weaviate":
        made = on_weaviate(request.getfixturevalue("weaviate").server)
    else:
        made = embedded(tmp_path)
    yield made
    made.close()


@pytest.fixture
def index(shelf: Shelf) -> Index:
    return shelf.open(uuid.uuid4().hex)


STEPS = st.lists(
    st.tuples(st.sets(st.integers(1, 40), max_size=8), st.sets(st.integers(1, 40), max_size=8)), min_size=1, max_size=6
)
COLLECTIONS = iter(range(1000, 100_000))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_history_of_changes_leaves_the_index_of_a_fresh_build(index: Index, steps: list[tuple[set[int], set[int]]]):
    grown, fresh = next(COLLECTIONS), next(COLLECTIONS)
    held: set[int] = set()
    for add, remove in steps:
        index.replace(grown, [entry(chunk) for chunk in add], sorted(remove - add))
        held = (held - remove) | add
        # Also what was searched in between must not show.
        answers(index, grown)
    index.replace(fresh, [entry(chunk) for chunk in sorted(held)], [])
    assert index.members(grown) == index.members(fresh) == held
    assert answers(index, grown) == answers(index, fresh)
    assert index.digest(grown) == index.digest(fresh)


def test_a_change_that_is_repeated_changes_nothing(index: Index):
    fill(index, range(1, 30))
    before = answers(index), index.digest(1)
    for _ in range(2):
        index.replace(1, [entry(chunk) for chunk in range(5, 20)], [77, 78])
        assert (answers(index), index.digest(1)) == before
    index.replace(1, [], [])
    assert (answers(index), index.digest(1)) == before


def test_a_chunk_that_is_added_again_has_its_new_words_and_vector(index: Index):
    fill(index, range(1, 10))
    old = index.digest(1)
    index.replace(1, [entry(3, text="an albatross", vector=packed(99))], [])
    assert list(index.keyword(1, ("albatross",), 5, None)) == [3]
    assert 3 not in {chunk for word in WORDS for chunk in index.keyword(1, (word,), 50, None)}
    assert next(iter(index.nearest(1, vector(99), 1, None))) == 3
    assert index.members(1) == set(range(1, 10))
    assert index.digest(1) != old


def test_the_digest_tells_a_word_and_a_vector_apart(index: Index):
    texts = [entry(1), entry(1, text="other words"), entry(1, vector=packed(5)), entry(2, text=entry(1).text)]
    for collection, held in enumerate(texts, start=1):
        index.replace(collection, [held], [])
    assert len({index.digest(collection) for collection in range(1, 6)}) == 5


def test_another_collection_moves_no_score(index: Index):
    fill(index, range(1, 20))
    before = answers(index)
    fill(index, range(1, 90, 3), collection=2)
    assert answers(index) == before
    index.drop(2)
    assert answers(index) == before
    assert index.collections() == {1}


def test_what_a_neighbour_writes_moves_no_score(shelf: Shelf):
    ours, theirs = shelf.open(uuid.uuid4().hex), shelf.open(uuid.uuid4().hex)
    fill(ours, range(1, 20))
    before = answers(ours), ours.digest(1)
    assert theirs.collections() == frozenset()
    fill(theirs, range(1, 60))
    assert (answers(ours), ours.digest(1)) == before
    theirs.drop(1)
    assert (answers(ours), ours.digest(1)) == before
    assert theirs.members(1) == frozenset()


def test_only_allowed_chunks_compete(index: Index):
    fill(index, range(1, 60))
    allowed = frozenset({3, 30, 41, 999})
    for found in answers(index, allowed=allowed):
        assert {chunk for chunk, _ in found} <= allowed
    assert set(index.nearest(1, vector(0), 5, allowed)) == {3, 30, 41}
    # The best of all are not allowed: what comes behind them is found nevertheless, with the same scores.
    everything = index.keyword(1, ("gate", "boat"), 100, None)
    rest = frozenset(list(everything)[10:])
    assert index.keyword(1, ("gate", "boat"), 5, rest) == dict(list(everything.items())[10:15])
    assert index.keyword(1, ("gate",), 5, frozenset()) == index.nearest(1, vector(0), 5, frozenset()) == {}


def test_ties_are_cut_by_chunk(index: Index):
    twins = random.Random(4).sample(range(1, 5000), 200)
    index.replace(1, [entry(chunk, text="one and the same", vector=packed(1)) for chunk in twins], [])
    index.replace(1, [], twins[:20])
    kept = sorted(twins[20:])
    assert list(index.nearest(1, vector(1), 7, None)) == kept[:7]
    assert list(index.keyword(1, ("same",), 7, None)) == kept[:7]


def test_cosines_of_given_chunks_are_those_of_a_search(index: Index):
    fill(index, range(1, 60))
    everything = index.nearest(1, vector(3), 100, None)
    assert index.similarities(1, vector(3), [5, 7, 999]) == {chunk: everything[chunk] for chunk in (5, 7)}
    assert index.similarities(1, vector(3), []) == {}
    exact = {chunk: float(vector(3) @ vector(chunk // 2)) for chunk in everything}
    assert everything == pytest.approx(exact, abs=2e-3)


def test_a_collection_without_chunks_answers_nothing(index: Index):
    assert answers(index) == [[]] * (len(WORDS) + 5)
    assert index.members(1) == frozenset()
    empty = index.digest(1)
    index.drop(7)
    fill(index, range(1, 5))
    index.replace(1, [], [1, 2, 3, 4])
    assert answers(index) == [[]] * (len(WORDS) + 5)
    assert index.collections() == frozenset()
    assert index.digest(1) == empty


def test_dropped_and_filled_again_it_is_as_new(index: Index):
    fill(index, range(1, 40))
    index.drop(1)
    assert index.members(1) == frozenset()
    fill(index, range(1, 20))
    fill(index, range(1, 20), collection=2)
    assert answers(index, 1) == answers(index, 2)


def test_opened_again_it_holds_what_it_held(shelf: Shelf):
    catalog = uuid.uuid4().hex
    index = shelf.open(catalog)
    fill(index, range(1, 40))
    before = answers(index), index.digest(1), index.members(1)
    shelf.close()
    again = shelf.open(catalog)
    assert (answers(again), again.digest(1), again.members(1)) == before
    assert again.collections() == {1}


def test_numbers_of_chunks_keep_all_their_bits(index: Index):
    chunks = [LARGE, LARGE + 1, LARGE + 2]
    index.replace(1, [entry(chunk, text="albatross") for chunk in chunks], [])
    index.replace(1, [], [LARGE + 1])
    assert index.members(1) == {LARGE, LARGE + 2}
    assert list(index.keyword(1, ("albatross",), 5, None)) == [LARGE, LARGE + 2]
    assert set(index.nearest(1, vector(3), 5, frozenset({LARGE + 2}))) == {LARGE + 2}


def test_words_are_found_in_every_form_and_nothing_typed_is_an_operator(index: Index):
    index.replace(1, [entry(1, text="The Crème brûlées were running"), entry(2, text="NOT this OR that")], [])
    for asked in ("creme", "brulee", "runs", "RUN"):
        assert list(index.keyword(1, (asked.lower(),), 5, None)) == [1]
    assert list(index.keyword(1, ("not",), 5, None)) == [2]
    assert index.keyword(1, (), 5, None) == {}
    assert index.keyword(1, ("absent",), 5, None) == {}


def test_the_holders_of_a_word_are_all_that_hold_it_and_nobody_else(index: Index):
    texts = {1: "The crème is running", 2: "He ran; she runs", 3: "NOT this", 4: "run", LARGE: "Runs, runs, runs"}
    index.replace(1, [entry(chunk, text=text) for chunk, text in texts.items()], [])
    index.replace(2, [entry(9, text="run")], [])
    assert index.holders(1, "run") == {1, 2, 4, LARGE}
    assert index.holders(1, "creme") == {1}
    assert index.holders(1, "not") == {3}
    assert index.holders(1, "absent") == index.holders(3, "run") == frozenset()
    index.replace(1, [], [4])
    assert index.holders(1, "run") == {1, 2, LARGE}


def test_more_hold_a_word_than_a_server_lists_at_once(index: Index):
    index.replace(1, [Entry(chunk, "herring", packed(1)) for chunk in range(10_050)], [])
    assert len(index.holders(1, "herring")) == 10_050


def test_the_scores_are_bm25_of_this_collection(index: Index):
    texts = {1: "herring herring mustard", 2: "herring boat", 3: "a lamp", 4: "a boat and a lamp and a siren"}
    index.replace(1, [entry(chunk, text=text) for chunk, text in texts.items()], [])
    # Four texts of 3, 2, 2 and 8 words; one holds the word; k1 is 1.2 and b 0.75.
    expected = math.log((4 - 1 + 0.5) / (1 + 0.5)) * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / 3.75))
    assert index.keyword(1, ("mustard",), 5, None) == pytest.approx({1: expected})
    assert list(index.keyword(1, ("herring", "mustard"), 5, None)) == [1, 2]
    # Half of them hold it: it weighs a millionth.
    assert all(0 < score < 1e-5 for score in index.keyword(1, ("boat",), 5, None).values())


def test_it_says_in_how_many_chunks_a_word_is_up_to_half_of_them(index: Index):
    assert index.frequencies(1, ("herring",)) == Frequencies(0, {"herring": 0})
    texts = {1: "herring herring mustard", 2: "herring boats", 3: "a lamp", 4: "a boat, a lamp, a siren", 5: "a boat"}
    index.replace(1, [entry(chunk, text=text) for chunk, text in texts.items()], [])
    found = index.frequencies(1, ("herring", "boat", "a", "absent"))
    assert found == Frequencies(5, {"herring": 2, "boat": 3, "a": 3, "absent": 0})
    index.replace(1, [], [1])
    assert index.frequencies(1, ("herring", "mustard")) == Frequencies(4, {"herring": 1, "mustard": 0})


def test_thousands_of_chunks_come_and_go_in_one_change(index: Index):
    drawn = random.Random(7)
    many = [
        Entry(chunk, " ".join(drawn.choices(WORDS, k=5)) + f" number{chunk % 500}", packed(chunk))
        for chunk in range(4000)
    ]
    index.replace(1, many, [])
    assert index.members(1) == set(range(4000))
    assert set(index.keyword(1, ("number123",), 20, None)) == set(range(123, 4000, 500))
    exact = index.similarities(1, vector(77), range(4000))
    best = sorted(exact, key=lambda chunk: (-exact[chunk], chunk))[:100]
    assert list(index.nearest(1, vector(77), 100, None)) == best
    # A filter of thousands, too.
    allowed = frozenset(range(0, 4000, 2))
    even = [chunk for chunk in sorted(exact, key=lambda chunk: (-exact[chunk], chunk)) if chunk % 2 == 0][:10]
    assert list(index.nearest(1, vector(77), 10, allowed)) == even
    # Every holder of a word, also of one that a search leaves out since too many hold it.
    assert index.holders(1, "number123") == frozenset(range(123, 4000, 500))
    assert index.holders(1, WORDS[0]) == {it.chunk for it in many if WORDS[0] in it.text.split()}
    assert set(index.keyword(1, ("number124",), 20, allowed)) == set(range(124, 4000, 500))
    index.replace(1, many[:10], range(10, 4000))
    assert index.members(1) == set(range(10))
    index.replace(2, many[:10], [])
    assert answers(index, 1) == answers(index, 2)
    assert index.digest(1) == index.digest(2)
    assert len(many[0].vector) == DIMENSIONS * 2


def test_both_indexes_answer_alike_to_the_bit(tmp_path: Path, weaviate: Weaviate):
    drawn = random.Random(11)
    vocabulary = [f"{word}{n}" for word in WORDS for n in range(40)] + ["the", "of", "running", "brûlée", "crossing"]
    weights = [1 / place for place in range(1, len(vocabulary) + 1)]
    held = [
        Entry(drawn.getrandbits(62), " ".join(drawn.choices(vocabulary, weights, k=drawn.randint(3, 60))), packed(n))
        for n in range(1500)
    ]
    shelves = [embedded(tmp_path), on_weaviate(weaviate.server)]
    indexes = [shelf.open(uuid.uuid4().hex) for shelf in shelves]
    for index in indexes:
        index.replace(1, held[:1300], [])
        index.replace(1, held[1200:], [it.chunk for it in held[:150]])
    allowed = frozenset(it.chunk for it in held[::3])
    for only in (None, allowed):
        for number in range(12):
            asked = tuple(dict.fromkeys(drawn.choices(vocabulary, k=6)))
            words = [list(index.keyword(1, asked, 50, only).items()) for index in indexes]
            assert words[0] == words[1]
            near = [list(index.nearest(1, vector(number * 7), 50, only).items()) for index in indexes]
            assert near[0] == near[1]
    assert indexes[0].digest(1) == indexes[1].digest(1)
    for shelf in shelves:
        shelf.close()
