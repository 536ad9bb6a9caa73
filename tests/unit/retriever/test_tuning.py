"""The fusion is never below its better part on the set that it was fitted on; the default is not on a built set."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.config import RetrieverSettings
from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry
from services.retriever.search import arms, tuning
from services.retriever.search.question import Mode
from services.retriever.search.stopwatch import Stopwatch
from services.retriever.search.tuning import Example

CHUNKS = st.integers(1, 12)
EXAMPLES = st.lists(
    st.builds(
        Example,
        st.dictionaries(CHUNKS, st.floats(-1, 1, width=32), max_size=12),
        st.dictionaries(CHUNKS, st.floats(0.125, 30, width=32), max_size=12),
        st.frozensets(CHUNKS, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=5,
)


@given(examples=EXAMPLES, default=st.floats(0, 1))
def test_what_is_fitted_is_never_below_its_better_part_nor_below_the_default(examples, default):
    fit = tuning.fitted(examples, default)
    assert fit.sound
    assert fit.found >= tuning.measured(examples, default).found - 1e-9


def test_of_weights_that_are_equally_good_the_one_nearest_to_the_default_is_taken():
    agreed = Example({1: 0.9, 2: 0.1}, {1: 9.0, 2: 1.0}, frozenset({1}))
    assert tuning.fitted([agreed], 0.55).weight == 0.55
    with pytest.raises(ValueError, match="measure"):
        tuning.fitted([], 0.55)


def test_a_list_that_is_mostly_wrong_gets_little_weight_and_no_weight_at_all_beats_a_part_that_is_always_right():
    misled = [Example({1: 0.9, 2: 0.5}, {2: 9.0, 1: 4.0}, frozenset({2}))]
    assert tuning.fitted(misled, 0.9).weight < 0.9
    # Of negative cosines none counts in a fusion, and their order is lost there.
    apart = [Example({5: -0.1, 4: -0.9}, {}, frozenset({5}))]
    assert (tuning.fitted(apart, 0.5).mode, tuning.fitted(apart, 0.5).found) == (Mode.DENSE, 1.0)


# What is asked shares words with the wrong passage as often as meaning with the right one.
PASSAGES = [
    "Boats under twelve metres moor at the eastern quay. A mooring costs 14 crowns a night, water included.",
    "When the barometer falls below 980 hectopascals the flood gate is closed and the siren sounds.",
    "Bread is baked on Mondays; smoked herring is served with mustard and potatoes.",
    "The ferry to Kolmbrook leaves from pier four at noon and returns before dark.",
    "A keeper who falls ill tells the office before seven and sends a doctor's note within three days.",
    "Error E-17 of the pump means that the inlet is blocked: close valve B and clean the filter.",
    "Error E-71 of the pump means that its motor is too hot: let it cool for an hour.",
    "Every keeper has thirty days of leave a year, of which ten may be taken into the next one.",
    "Lost property is kept for ninety days in the harbour office and then given to the poor.",
    "Dogs are on a leash on all piers; on the beach they run free from October to April.",
]
QUESTIONS = [
    ("How much do I pay to tie up my small boat overnight?", 0),
    ("mooring 14 crowns", 0),
    ("What happens in bad weather when the air pressure drops?", 1),
    ("What is there to eat with fish?", 2),
    ("When does the boat to Kolmbrook go?", 3),
    ("I am sick and cannot come to work, what do I do?", 4),
    ("E-17", 5),
    ("E-71", 6),
    ("pump too hot", 6),
    ("How long is my holiday?", 7),
    ("I have forgotten my umbrella at the harbour", 8),
    ("May my puppy run without a lead?", 9),
]


# Codes are what vectors confuse.
CODES = ["KR-4471", "QT-8310", "XZ-2754", "VR-9083", "KT-1196", "QZ-6627", "XR-3508", "VT-7742", "KZ-5019", "QR-2236"]
PARTS = ["seal", "bearing", "rotor", "gasket", "filter"]
BOXES = [
    f"Part {code} is a {PARTS[place % 5]} of the bilge pump and comes in a box of {7 * place % 37 + 2}."
    for place, code in enumerate(CODES * 2)
    for code in [code if place < len(CODES) else code[::-1]]
]
BOXED = [
    (f"How many are in a box of {passage.split()[1]}?" if place % 2 else passage.split()[1], len(PASSAGES) + place)
    for place, passage in enumerate(BOXES)
]


def test_the_default_weight_is_not_below_its_better_part_on_a_built_set(tmp_path, embeddings):
    passages, questions = PASSAGES + BOXES, QUESTIONS + BOXED
    index = EmbeddedIndex(tmp_path / "index.db", "catalog", 1024**2)
    index.open()
    packed = asyncio.run(embeddings.documents(passages)).packed
    index.replace(1, [Entry(at, text, packed[at]) for at, text in enumerate(passages)], [])
    asked = asyncio.run(embeddings.queries([question for question, _ in questions])).packed
    vectors = [np.frombuffer(it, "<f2").astype(np.float32) for it in asked]
    sought = arms.Sought({1: None}, 100, keywords=True)
    lists = arms.look(index, [question for question, _ in questions], vectors, sought, Stopwatch())
    index.close()
    examples = [Example(it.near, it.sparse, frozenset({gold})) for it, (_, gold) in zip(lists, questions, strict=True)]
    fit = tuning.measured(examples, RetrieverSettings().dense_weight)
    # Each part misses something here, so this does not hold of any order.
    assert max(fit.dense, fit.sparse) < fit.found, fit
