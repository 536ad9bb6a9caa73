"""What an order comes to over its datasets, and what of it only the tables can tell.

Invariant: an order that is settled names datasets, jobs and a time that were there in the transaction that settled it.
"""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.trainer.data.dataset_rows import Dataset
from services.trainer.data.dataset_rows import find as find_dataset
from services.trainer.data.encoding import mismatch
from services.trainer.data.rows import Format
from services.trainer.job import Order, State
from services.trainer.job_rows import find
from services.trainer.settings import Objective


def examples(dataset: Dataset, order: Order) -> int:
    """What the dataset's rows become, as far as its counts tell: a long text pieces, a pair two answers under KTO."""
    settings = order.settings
    if settings.objective is Objective.CONTINUED and dataset.max_row_tokens > settings.max_row_tokens > 1:
        # A piece repeats the last token of the one before it.
        return max(dataset.rows, -(-dataset.tokens // (settings.max_row_tokens - 1)))
    judged_pairs = settings.objective is Objective.KTO and dataset.format is Format.PREFERENCE
    return dataset.rows * (2 if judged_pairs else 1)


def steps(count: int, order: Order) -> int:
    """Steps that so many examples take; the training process corrects it when it leaves rows out."""
    settings = order.settings
    taken = min(count, settings.sample_rows) if settings.sample_rows else count
    if not order.validation_dataset:
        taken -= round(taken * settings.validation_ratio)
    planned = settings.epochs * -(-taken // settings.batch_rows)
    return min(planned, settings.max_steps) if settings.max_steps else planned


def step_tokens(dataset: Dataset, order: Order) -> float:
    """Tokens of a step, in the mean, as far as the dataset's counts tell."""
    settings, count = order.settings, examples(dataset, order)
    # Both sides of a pair go through the model, and each is cut by itself.
    sides = 2 if settings.objective is Objective.DPO else 1
    return min(settings.batch_rows, count) * min(dataset.tokens / max(1, count), sides * settings.max_row_tokens)


def settled_order(
    session: Session, tenant: str, order: Order, now: float, *, for_use: bool = True, within: str = ""
) -> tuple[Order, Dataset]:
    """The order with what only the tables know, and its dataset; it is queued at ``now`` (Unix seconds).

    `for_use`: the datasets stay while the job does; without it nothing is held, and a read will do.  `within` is where the
    order stands in its request.  Raises DATASET_NOT_FOUND, JOB_NOT_FOUND for one that is to be waited for, FIELD_INVALID
    for rows that the objective does not take, for a job that nothing can follow and for a deadline that has passed.
    """
    _require_future(order, now, f"{within}deadline")
    dataset = find_dataset(session, tenant, order.dataset, for_use=for_use)
    _require_fit(dataset, order, f"{within}dataset")
    settled = replace(
        order, dataset=dataset.key, dataset_digest=dataset.digest, step_tokens=step_tokens(dataset, order)
    )
    if order.validation_dataset:
        held_out = find_dataset(session, tenant, order.validation_dataset, for_use=for_use)
        _require_fit(held_out, order, f"{within}validation_dataset")
        settled = replace(settled, validation_dataset=held_out.key, validation_dataset_digest=held_out.digest)
    for name in order.depends_on:
        state = State(find(session, tenant, name).state)
        if state in (State.FAILED, State.CANCELLED):
            problem = f"the job {name} has {state.value}: nothing can follow it"
            raise Failure(Reason.FIELD_INVALID, field=f"{within}depends_on", problem=problem)
    return settled, dataset


def _require_future(order: Order, now: float, field: str) -> None:
    if order.deadline and order.deadline <= now:
        moment = f"{datetime.fromtimestamp(order.deadline, UTC):%Y-%m-%d %H:%M:%S} UTC"
        raise Failure(
            Reason.FIELD_INVALID, field=field, problem=f"{moment} has passed: give a later one, or leave it out"
        )


def _require_fit(dataset: Dataset, order: Order, field: str) -> None:
    """Rows of a template are made of records; all others must be of a format that the objective takes."""
    problem = mismatch(dataset.format, order.settings.objective)
    if problem and not (dataset.format is Format.RECORDS and order.recipe):
        raise Failure(Reason.FIELD_INVALID, field=field, problem=f"{dataset.key}: {problem}")
