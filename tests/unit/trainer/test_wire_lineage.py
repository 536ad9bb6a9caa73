"""What the registry is told of a version: of these weights, of this data."""

import math
from dataclasses import replace
from typing import Any

import pytest

from services.trainer.job import Job, Progress
from services.trainer.wire_lineage import lineage
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_jobs import queued

FACTS: dict[str, Any] = {
    "code": "1",
    "libraries": {"torch": "2"},
    "threads": 2,
    "rows": 9,
    "dataset_rows": 12,
    "validation": {"rows": 3, "digest": "sha256:held-out"},
    "weights_step": 4,
    "evaluations": [
        {"step": 4, "train_loss": 0.5, "loss": 0.25, "preference_margin": math.nan},
        {"step": 6, "train_loss": 0.4, "loss": 0.75},
    ],
}


@pytest.fixture
async def job(world: World) -> Job:
    """A job that did six steps."""
    return replace(await queued(world.jobs), progress=Progress(step=6, total_steps=6, trained_tokens=60, loss=0.4))


def test_what_was_measured_is_of_the_weights_that_were_kept_on_the_rows_that_were_held_out(job: Job) -> None:
    found = lineage(job, FACTS, {"sweep": "s"})
    assert dict(found.metrics) == {"steps": 4.0, "train_loss": 0.5}
    (evaluation,) = found.evaluations
    assert (evaluation.metric, evaluation.value) == ("loss", 0.25)
    assert (evaluation.dataset_digest, evaluation.dataset_rows) == ("sha256:held-out", 3)
    assert "step 4" in evaluation.note
    last = lineage(job, FACTS | {"weights_step": 6}, {})
    assert [evaluation.value for evaluation in last.evaluations] == [0.75]
    assert dict(last.metrics) == {"steps": 6.0, "train_loss": pytest.approx(0.4)}


def test_weights_that_no_evaluation_followed_have_none_and_no_loss_of_other_steps(job: Job) -> None:
    found = lineage(job, FACTS | {"weights_step": 5}, {})
    assert (dict(found.metrics), list(found.evaluations)) == ({"steps": 5.0}, [])


def test_rows_are_those_of_the_dataset_and_beside_them_stands_what_was_trained_on(job: Job) -> None:
    found = lineage(job, FACTS | {"processes": 3}, {"sweep": "s"})
    assert found.dataset_rows == 12
    config = found.config
    assert (config["trained_rows"], config["validation_rows"], config["validation_digest"]) == (9, 3, "sha256:held-out")
    assert (config["threads"], config["processes"], config["base"], config["sweep"]) == (2, 3, job.order.base, "s")


def test_a_dataset_that_was_named_to_evaluate_on_is_named_by_its_own_digest(job: Job) -> None:
    named = replace(job, order=replace(job.order, validation_dataset_digest="sha256:named"))
    found = lineage(named, FACTS | {"validation": {"rows": 7}}, {})
    (evaluation,) = found.evaluations
    assert (evaluation.dataset_digest, evaluation.dataset_rows) == ("sha256:named", 7)
    assert found.config["validation_digest"] == "sha256:named"


def test_a_result_of_an_earlier_release_is_registered_with_what_it_says(job: Job) -> None:
    earlier = {
        "libraries": {"torch": "2"},
        "threads": 2,
        "rows": 9,
        "evaluations": [{"step": 6, "loss": 0.75}],
    }
    found = lineage(job, earlier, {})
    assert (found.dataset_rows, found.config["trained_rows"], list(found.evaluations)) == (0, 9, [])
    assert dict(found.metrics) == {"steps": 6.0, "train_loss": pytest.approx(0.4)}
