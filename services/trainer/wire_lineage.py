"""Where a version comes from, as the registry takes it: from what the job's order says and what its training found.

Invariant: what is said to be measured of a version was measured of its weights: of the best ones, or of a checkpoint's,
where these are what was kept, and not of the job's last.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from google.protobuf import struct_pb2
from trivium.registry.v1 import model_pb2

from services.trainer.job import Job, Order

# What stands beside the values of an evaluation.
_STEP, _TRAIN_LOSS = "step", "train_loss"


def lineage(job: Job, facts: Mapping[str, Any], kept: Mapping[str, object]) -> model_pb2.Lineage:
    """The lineage of a job's version.

    ``facts`` lie beside the result, and those that an earlier release wrote do not have all; ``kept`` goes into the
    configuration.
    """
    order = job.order
    step = facts.get("weights_step", job.progress.step)
    # An earlier release did not say after which of the evaluations its weights were taken.
    evaluated = facts.get("evaluations", ()) if "weights_step" in facts else ()
    measured: Mapping[str, float] = next((found for found in evaluated if found[_STEP] == step), {})
    config = struct_pb2.Struct()
    config.update(json.loads(json.dumps({**asdict(order.settings), **_beside(order, facts), **kept})))
    return model_pb2.Lineage(
        job=job.job,
        # A full model goes on from the one that it began as.
        parent_version=order.start_version if order.settings.method.makes_adapter else order.base_version,
        base_digest=order.base_digest,
        base_uri=order.base_uri,
        dataset_digest=order.dataset_digest,
        dataset_rows=facts.get("dataset_rows", 0),
        config=config,
        libraries=facts["libraries"],
        # What was trained before this was kept does not say it.
        code_version=facts.get("code", ""),
        seed=order.settings.seed,
        metrics=_metrics(job, step, measured),
        trained_tokens=job.progress.trained_tokens,
        evaluations=_evaluations(job, facts, step, measured),
    )


def _beside(order: Order, facts: Mapping[str, Any]) -> dict[str, object]:
    """What belongs to the configuration and is no setting: what the bits depend on, and what data there was."""
    found: dict[str, object] = {
        "base": order.base,
        "threads": facts["threads"],
        "processes": facts.get("processes", 1),
        "trained_rows": facts["rows"],
    }
    if "validation" in facts:
        found |= {"validation_digest": _validation_digest(order, facts), "validation_rows": facts["validation"]["rows"]}
    return found


def _validation_digest(order: Order, facts: Mapping[str, Any]) -> str:
    """The digest of the dataset that was named for it, or of the rows that were held out."""
    return order.validation_dataset_digest or str(facts["validation"]["digest"])


def _metrics(job: Job, step: int, measured: Mapping[str, float]) -> dict[str, float]:
    """The steps that the weights have learned from, and the loss of the last of them where that is known."""
    losses = {job.progress.step: job.progress.loss}
    if _TRAIN_LOSS in measured:
        losses[step] = measured[_TRAIN_LOSS]
    return {"steps": float(step)} | ({_TRAIN_LOSS: losses[step]} if step in losses else {})


def _evaluations(
    job: Job, facts: Mapping[str, Any], step: int, measured: Mapping[str, float]
) -> Iterator[model_pb2.Evaluation]:
    for metric, value in measured.items():
        # Beside the metric that a job goes by there may be one that is no number, which would be refused.
        if metric not in (_STEP, _TRAIN_LOSS) and math.isfinite(value):
            yield model_pb2.Evaluation(
                metric=metric,
                value=value,
                dataset_digest=_validation_digest(job.order, facts),
                dataset_rows=facts["validation"]["rows"],
                note=f"measured by the job {job.job} after step {step}",
            )
