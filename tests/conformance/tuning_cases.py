"""What both skins must answer alike of fine-tuning: each case is one request, and what is certain of its answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.conformance.gateway_skins import Refused
from tests.conformance.tuning_skins import Told


@dataclass(frozen=True, slots=True)
class Case:
    """A request by a name that reads, and a check of the answer that either skin gave."""

    says: str
    verb: str
    fields: Mapping[str, Any]
    holds: Callable[[Told | Refused], bool]


def _answers(check: Callable[[Told], bool]) -> Callable[[Told | Refused], bool]:
    return lambda outcome: isinstance(outcome, dict) and check(outcome)


def _refuses(reason: str) -> Callable[[Told | Refused], bool]:
    return lambda outcome: outcome == Refused(reason)


def cases(job: str, file: str, results: str) -> list[Case]:
    """The cases, over a job that was cancelled, the file that it learned from, and a file of another purpose."""
    order = {"model": "base", "training_file": file}

    def create(says: str, reason: str, **fields: Any) -> Case:
        return Case(says, "create", {**order, **fields}, _refuses(reason))

    return [
        Case(
            "a job is told with what was asked for and what is trained with",
            "get",
            {"job": job},
            _answers(
                lambda told: (
                    told["status"] == "cancelled"
                    and told["training_file"] == file
                    and told["metadata"] == {"of": "skins"}
                    and told["suffix"] == "Both Skins"
                    and told["hyperparameters"]["n_epochs"] == 1000
                    and told["hyperparameters"]["learning_rate_multiplier"] == 0.5
                )
            ),
        ),
        Case(
            "jobs are listed by what is written on them",
            "list",
            {"metadata": {"of": "skins"}},
            _answers(lambda told: told == {"ids": [job], "has_more": False}),
        ),
        Case(
            "a page of events ends before the first",
            "events",
            {"job": job, "page_size": 1},
            _answers(lambda told: len(told["events"]) == 1 and told["has_more"]),
        ),
        Case(
            "behind the first event there is none",
            "events",
            {"job": job, "after": f"ftevent-{job}-1"},
            _answers(lambda told: told == {"events": [], "has_more": False}),
        ),
        Case(
            "an event of another job is refused",
            "events",
            {"job": job, "after": "ftevent-x-1"},
            _refuses("field_invalid"),
        ),
        Case(
            "a job that never trained has no checkpoint",
            "checkpoints",
            {"job": job},
            _answers(lambda told: told["checkpoints"] == []),
        ),
        Case("an unknown job is not found", "get", {"job": "absent"}, _refuses("job_not_found")),
        Case("an unknown job has no events", "events", {"job": "absent"}, _refuses("job_not_found")),
        Case("an unknown job has no checkpoints", "checkpoints", {"job": "absent"}, _refuses("job_not_found")),
        Case("an unknown job is not cancelled", "cancel", {"job": "absent"}, _refuses("job_not_found")),
        Case("a job that has ended is not paused", "pause", {"job": job}, _refuses("job_finished")),
        Case("a job that is not paused is not resumed", "resume", {"job": job}, _refuses("job_not_paused")),
        Case("a list goes on behind no unknown job", "list", {"after": "absent"}, _refuses("job_not_found")),
        Case("a page of too many jobs is refused", "list", {"page_size": 501}, _refuses("request_invalid")),
        create("an unknown file is not found", "file_not_found", training_file="file-absent"),
        create("a file of another purpose is refused", "field_invalid", training_file=results),
        create("an unknown model is not found", "model_not_found", model="no-such-model"),
        create("the name auto is refused", "field_invalid", model="auto"),
        create("a suffix without a letter is refused", "field_invalid", suffix="!!"),
        create("rows that the method does not take are refused", "field_invalid", method="FINE_TUNING_METHOD_DPO"),
        create("beta is for pairs", "field_invalid", hyperparameters={"beta": 0.5}),
        create("no epochs are refused", "request_invalid", hyperparameters={"n_epochs": 0}),
        create(
            "a setting at two places is refused",
            "field_invalid",
            hyperparameters={"n_epochs": 2},
            settings={"epochs": 2},
        ),
        create("a setting that contradicts another is refused", "field_invalid", settings={"generation_rows": 3}),
        create("an alias that is none is refused", "request_invalid", alias="No Alias"),
        create("a base beside what is none of its adapters is refused", "field_invalid", base="base:house"),
        create(
            "more metadata than there may be is refused", "request_invalid", metadata={f"n{n}": "x" for n in range(17)}
        ),
    ]
