"""Fine-tuning over both transports."""

from collections.abc import Mapping
from typing import Any

from tests.conformance.runner import (
    Arguments,
    Case,
    Operation,
    Rejection,
    as_json,
    by_transport,
    many,
    one,
    record,
    word,
)

METADATA = {"of": "transports"}
SUFFIX = "Both Transports"
_JOBS = "/fine_tuning/jobs"


def _http_job(arguments: Arguments) -> dict[str, Any]:
    fields = dict(arguments)
    method = fields.pop("method", "supervised")
    chosen = {"type": method, method: {"hyperparameters": fields.pop("hyperparameters", {})}}
    trivium = {name: fields.pop(name) for name in ("settings", "alias", "base", "request_id") if name in fields}
    return {"json": {**fields, "method": chosen, "trivium": trivium}}


def _http_page(arguments: Arguments) -> dict[str, Any]:
    query = {"limit": arguments["page_size"]} if "page_size" in arguments else {}
    query |= {"after": arguments["after"]} if "after" in arguments else {}
    return {"params": query | {f"metadata[{name}]": value for name, value in arguments.get("metadata", {}).items()}}


_same = record("job=id", "status", "model", "fine_tuned_model?", "training_file", "seed", "metadata", "result_files")
_NAMES = ("id", "status", "model", "fine_tuned_model", "training_file", "seed", "metadata", "result_files")
_job = by_transport(
    lambda it: {
        **dict(zip(_NAMES, _same(it), strict=True)),
        "hyperparameters": as_json(it.hyperparameters),
        "method": word(it, "method"),
        "suffix": it.suffix or None,
        "error": it.error.reason.lower() or None,
    },
    lambda it: {
        **dict(zip(_NAMES, _same(it), strict=True)),
        "hyperparameters": it["hyperparameters"],
        "method": it["method"]["type"],
        "suffix": it["user_provided_suffix"],
        "error": it["error"] and it["error"]["code"],
    },
)


def _page(name: str, *columns: str) -> Any:
    entries = many(name, record(*columns))
    return lambda answer: {name: entries(answer), "has_more": record("has_more")(answer)}


def _operation(rpc: str, route: str, outcome: Any = None, **more: Any) -> Operation:
    return Operation(f"FineTuningService.{rpc}", route, outcome or one("job", _job), **more)


OPERATIONS: Mapping[str, Operation] = {
    "create": _operation("CreateFineTuningJob", f"POST {_JOBS}", http=_http_job),
    "get": _operation("GetFineTuningJob", f"GET {_JOBS}/{{job}}"),
    "list": _operation("ListFineTuningJobs", f"GET {_JOBS}", _page("jobs", "job=id"), http=_http_page),
    "cancel": _operation("CancelFineTuningJob", f"POST {_JOBS}/{{job}}/cancel"),
    "pause": _operation("PauseFineTuningJob", f"POST {_JOBS}/{{job}}/pause"),
    "resume": _operation("ResumeFineTuningJob", f"POST {_JOBS}/{{job}}/resume"),
    "list_events": _operation(
        "ListFineTuningEvents",
        f"GET {_JOBS}/{{job}}/events",
        _page("events", "event=id", "message", "metrics=data"),
        http=_http_page,
    ),
    "list_checkpoints": _operation(
        "ListFineTuningCheckpoints",
        f"GET {_JOBS}/{{job}}/checkpoints",
        _page("checkpoints", "checkpoint=id", "step=step_number", "fine_tuned_model_checkpoint"),
        http=_http_page,
    ),
}


def cases(job: str, file: str, results: str) -> list[Case]:
    """Return the cases, over a job that was cancelled, the file that it learned from, and a file of another purpose."""
    absent, gone = {"job": "absent"}, Rejection("job_not_found")
    invalid, field = Rejection("request_invalid"), Rejection("field_invalid")

    def create(name: str, expected: Rejection, **fields: Any) -> Case:
        return Case(name, "create", {"model": "base", "training_file": file, **fields}, expected)

    def as_ordered(told: Any) -> bool:
        return bool(
            (told["status"], told["training_file"], told["metadata"], told["suffix"])
            == ("cancelled", file, METADATA, SUFFIX)
            and told["hyperparameters"]["n_epochs"] == 1000
            and told["hyperparameters"]["learning_rate_multiplier"] == 0.5
        )

    return [
        Case("a job has the settings that were asked for and those that are used", "get", {"job": job}, as_ordered),
        Case(
            "jobs are listed by what is written on them",
            "list",
            {"metadata": METADATA},
            {"jobs": [job], "has_more": False},
        ),
        Case(
            "a page of events ends before the first",
            "list_events",
            {"job": job, "page_size": 1},
            lambda it: len(it["events"]) == 1 and it["has_more"],
        ),
        Case(
            "no event follows the last one",
            "list_events",
            {"job": job, "after": f"ftevent-{job}-1"},
            {"events": [], "has_more": False},
        ),
        Case("an event of another job is refused", "list_events", {"job": job, "after": "ftevent-x-1"}, field),
        Case(
            "a job that never trained has no checkpoint",
            "list_checkpoints",
            {"job": job},
            lambda it: it["checkpoints"] == [],
        ),
        Case("an unknown job is not found", "get", absent, gone),
        Case("an unknown job has no events", "list_events", absent, gone),
        Case("an unknown job has no checkpoints", "list_checkpoints", absent, gone),
        Case("an unknown job is not cancelled", "cancel", absent, gone),
        Case("a job that has ended is not paused", "pause", {"job": job}, Rejection("job_finished")),
        Case("a job that is not paused is not resumed", "resume", {"job": job}, Rejection("job_not_paused")),
        Case("a list goes on behind no unknown job", "list", {"after": "absent"}, gone),
        Case("a page of too many jobs is refused", "list", {"page_size": 501}, invalid),
        create("an unknown file is not found", Rejection("file_not_found"), training_file="file-absent"),
        create("a file of another purpose is refused", field, training_file=results),
        create("an unknown model is not found", Rejection("model_not_found"), model="no-such-model"),
        create("the name auto is refused", field, model="auto"),
        create("a suffix without a letter is refused", field, suffix="!!"),
        create("rows that the method does not take are refused", field, method="dpo"),
        create("beta is for pairs", field, hyperparameters={"beta": 0.5}),
        create("no epochs are refused", invalid, hyperparameters={"n_epochs": 0}),
        create("a setting at two places is refused", field, hyperparameters={"n_epochs": 2}, settings={"epochs": 2}),
        create("a setting that contradicts another is refused", field, settings={"generation_rows": 3}),
        create("an invalid alias is refused", invalid, alias="No Alias"),
        create("a base is refused beside an adapter of another base", field, base="base:house"),
        create("more metadata than there may be is refused", invalid, metadata={f"n{n}": "x" for n in range(17)}),
    ]
