"""Tuning takes what questions bear out and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Failure, Reason
from services.retriever.collection import Change
from services.retriever.documents.readers import SERVICE
from services.retriever.search import intervals
from services.retriever.search.question import Mode
from services.retriever.search.settings import Hyde, SearchSettings
from services.retriever.search.trials import Pair, Tuner, Verdict
from tests.harness.wording import missing
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.hashing import HashedEmbeddings
from tests.unit.retriever.test_expansion import searching
from tests.unit.retriever.writing import Scribe

SUBJECTS = ("herring", "ferries", "lanterns", "barrels", "crowns", "engines", "papers", "rivers", "gates", "winters",
            "mustard", "quays", "sirens", "pumps")  # fmt: skip
TEXTS = {f"{subject}.txt": f"All about {subject} and how they are kept." for subject in SUBJECTS}


@pytest.fixture
def embeddings():
    return HashedEmbeddings()


@pytest.fixture
async def filled(tmp_path, embeddings):
    async with opened(tmp_path, embeddings) as house:
        await house.create()
        for name, text in TEXTS.items():
            await house.put(name, text)
        for name in TEXTS:
            await house.settled(name)
        yield house


def tuner(house, scribe):
    collections = type(house.collections)(house.database, lambda: 0.0, scribe)
    return Tuner(searching(house, scribe), collections, house.documents, 0.55)


async def verdict(house, scribe, pairs, *, apply=False):
    steps = [step async for step in tuner(house, scribe).tune("ada", "rules", pairs, SERVICE, apply=apply)]
    assert isinstance(steps[-1], Verdict)
    assert all(step.done <= step.total == len(pairs) for step in steps[:-1])
    return steps[-1]


def by_name(found):
    return {trial.name: trial for trial in found.trials}


# No word of theirs is in a document, and the vectors are of chance.
RIDDLES = [Pair(f"Riddle {number}?", frozenset([name])) for number, name in enumerate(TEXTS)]


def solved(asked):
    number = int(asked.partition("Riddle ")[2].partition("?")[0])
    return TEXTS[f"{SUBJECTS[number]}.txt"] if "sentences" in asked else "no line"


async def test_questions_that_only_a_written_passage_answers_have_it_stored(filled):
    scribe = Scribe(solved)
    found = await verdict(filled, scribe, RIDDLES, apply=True)
    always = by_name(found)["written passage always"]
    weak = by_name(found)["written passage where weak"]
    assert weak.taken or always.taken
    assert max(weak.low, always.low) > 0
    assert max(always.ndcg, weak.ndcg) > by_name(found)["default"].ndcg + 0.2
    assert found.settings.hyde is not Hyde.OFF
    assert found.applied
    assert (await filled.collections.get("ada", "rules")).search_settings == found.settings
    assert "of 14 questions" in always.note
    # Written once each, however many ways use it.
    passages = [asked for asked in scribe.asked if "sentences" in asked]
    assert len(passages) == len(set(passages)) == len(RIDDLES)


async def test_where_keywords_answer_and_vectors_mislead_the_weight_follows_and_nothing_else_is_taken(filled):
    pairs = [Pair(f"What of {subject}?", frozenset([f"{subject}.txt"])) for subject in SUBJECTS]
    found = await verdict(filled, Scribe(lambda asked: "no line"), pairs)
    assert by_name(found)["keywords alone"].ndcg == 1.0
    assert by_name(found)["vectors alone"].ndcg < 0.9
    assert not by_name(found)["vectors alone"].taken
    assert found.settings.hyde is Hyde.OFF
    assert not found.settings.rerank
    # Nothing is stored unless that is asked for.
    assert not found.applied
    assert (await filled.collections.get("ada", "rules")).search_settings == SearchSettings()


async def test_where_nothing_is_better_the_simplest_is_stored_in_place_of_what_was(filled):
    pairs = [Pair(text, frozenset([name])) for name, text in TEXTS.items()]
    await filled.collections.update("ada", "rules", Change(settings=SearchSettings(mode=Mode.DENSE, rerank=True)))
    found = await verdict(filled, Scribe(lambda asked: "no line"), pairs, apply=True)
    assert by_name(found)["default"].ndcg == 1.0
    assert [trial.name for trial in found.trials if trial.taken] == ["default"]
    assert (await filled.collections.get("ada", "rules")).search_settings == SearchSettings()


async def test_without_a_generator_the_other_ways_are_measured_and_the_report_says_so(filled):
    scribe = Scribe()
    scribe.go_away()
    found = await verdict(filled, scribe, RIDDLES)
    notes = {trial.name: trial.note for trial in found.trials if trial.note}
    assert notes.pop("question vectors")
    (weight,) = [name for name in notes if name.startswith("weight ")]
    assert not missing(notes.pop(weight), "not fitted")
    assert set(notes) == {"written passage where weak", "written passage always", "question broken up"}
    assert all(not missing(note, "not measured", "generator") for note in notes.values())


async def test_an_answer_that_is_not_there_is_named_before_anything_is_tried(filled):
    with pytest.raises(Failure) as caught:
        await verdict(filled, Scribe(), [Pair("What?", frozenset(["lost.txt"]))])
    assert caught.value.reason is Reason.DOCUMENT_NOT_FOUND
    assert "lost.txt" in caught.value.sentence


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
def test_of_equal_scores_there_is_no_gain_and_the_same_scores_have_the_same_interval(pairs):
    scores, others = [one for one, _ in pairs], [other for _, other in pairs]
    gain, low, high = intervals.paired(scores, others)
    assert low <= high
    assert min(one - other for one, other in pairs) - 1e-9 <= low
    assert intervals.paired(scores, scores) == (0.0, 0.0, 0.0)
    assert intervals.paired(scores, others) == (gain, low, high)
