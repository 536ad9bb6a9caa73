"""Tuning over the wire and at the command line: questions of both kinds in, settings and a threshold out."""

import json

import pytest
from trivium_client import InvalidRequestError, NotFoundError

from tests.contract.retriever.desk import Desk
from tests.library import Library

SUBJECTS = ("herring", "ferries", "lanterns", "barrels", "crowns", "engines", "papers", "rivers", "gates", "winters")
ANSWERED = [(f"How are {subject} kept?", [f"{subject}.txt"]) for subject in SUBJECTS]
# As many again of which nothing is said, though their words are not strange to the documents.
UNANSWERED = [f"Who paid for the new {thing} of the opera in 1987?" for thing in (
    "roof", "organ", "curtain", "stage", "cellar", "foyer", "bell", "lift", "façade", "chandelier",
)]  # fmt: skip


@pytest.fixture(scope="session", params=["sqlite"])
def library(library: Library) -> Library:
    """One: what is tried out and told is the same whatever the catalog is in."""
    return library


@pytest.fixture(scope="module")
def desk(library):
    made = Desk(library)
    made.client.collections.create(made.collection)
    for subject in SUBJECTS:
        text = f"How {subject} are kept: all {subject} are kept dry, and counted every week."
        made.client.docs.add_text(text, collection=made.collection, document=f"{subject}.txt")
    made.settle()
    yield made
    made.client.close()


def test_a_threshold_is_fitted_on_questions_of_both_kinds_and_stored_when_asked_for(desk):
    heard = []
    before = desk.client.collections.get(desk.collection).answerable_threshold

    def tuned(**options):
        return desk.client.docs.tune(desk.collection, ANSWERED, unanswerable=UNANSWERED, **options)

    report = tuned(progress=lambda trial, done, total: heard.append((trial, done, total)))
    found = report.calibration
    assert found.auc == 1.0
    assert (found.answered, found.refused) == (1.0, 1.0)
    # Both halves are told apart by the default as well: nothing is better beyond the interval.
    assert (found.threshold, found.taken, found.gain) == (before, False, 0.0)
    assert ("answerability", 20, 20) in heard
    assert report.trials[0].trial == "default"
    assert desk.client.collections.get(desk.collection).answerable_threshold == before


def test_a_threshold_that_was_wrong_for_the_collection_is_set_right(desk):
    desk.client.collections.update(desk.collection, answerable_threshold=0.999)
    report = desk.client.docs.tune(desk.collection, ANSWERED, unanswerable=UNANSWERED, apply=True)
    assert report.applied
    kept = desk.client.collections.get(desk.collection)
    assert kept.answerable_threshold == report.calibration.threshold == 0.5


def test_without_questions_of_the_other_kind_the_threshold_stays(desk):
    desk.client.collections.update(desk.collection, answerable_threshold=0.25)
    assert desk.client.docs.tune(desk.collection, ANSWERED, apply=True).calibration is None
    assert desk.client.collections.get(desk.collection).answerable_threshold == 0.25


def test_too_few_questions_and_documents_that_are_not_there_are_refused(desk):
    with pytest.raises(InvalidRequestError, match=r"\b10\b"):
        desk.client.docs.tune(desk.collection, ANSWERED, unanswerable=UNANSWERED[:9])
    with pytest.raises(InvalidRequestError, match=r"\b10\b"):
        desk.client.docs.tune(desk.collection, ANSWERED[:9])
    with pytest.raises(NotFoundError, match=r"gone\.txt"):
        desk.client.docs.tune(desk.collection, [*ANSWERED, ("Where?", ["gone.txt"])])


def test_the_command_reads_questions_of_both_kinds_from_one_file(desk, tmp_path):
    file = tmp_path / "questions.jsonl"
    lines = [{"question": question, "documents": documents} for question, documents in ANSWERED]
    lines += [{"question": question, "documents": []} for question in UNANSWERED]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = desk.docs("tune", desk.collection, str(file))
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("100%") == 2
    file.write_text('{"question": "Where?"}\n')
    refused = desk.docs("tune", desk.collection, str(file))
    assert refused.returncode != 0
    assert "line 1" in refused.stderr
