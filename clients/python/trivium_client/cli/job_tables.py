"""Jobs as people read them: a line of a table, fields with what they mean, one line at the end."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import typer

from trivium_client.cli.printing import counted
from trivium_client.cli.training_view import measured, size, waiting
from trivium_client.nouns import Job

# Numbers that say nothing while they are nought.
_SILENT_AT_NOUGHT = {
    "processes",
    "queue_position",
    "tokens_per_second",
    "gradient_norm",
    "learning_rate",
    "memory_bytes",
    "best_step",
}


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in a table: `queue` is its place while it waits and `why` what for, `step` and `progress` are how far it is."""

    job: str
    state: str
    queue: str
    model: str
    dataset: str
    step: str
    progress: str
    loss: float | None
    version: str
    create_time: datetime | None
    why: str


def line_of(job: Job) -> JobLine:
    """A job in a table."""
    return JobLine(
        job=job.job,
        state=job.state,
        queue=str(job.queue_position or ""),
        model=job.model,
        dataset=job.dataset,
        step=f"{job.step}/{job.total_steps}",
        progress=f"{100 * job.step // job.total_steps} %" if job.total_steps else "",
        loss=job.loss if job.step else None,
        version=job.version,
        create_time=job.create_time,
        why=job.waiting_reason,
    )


@dataclass(frozen=True, slots=True)
class Said:
    """What is told of one job: its fields that say something, then sentences."""

    fields: dict[str, Any]
    sentences: list[str]


def said_of(job: Job) -> Said:
    """All that is known of a job, and in words why it waits and how it was evaluated."""
    record = {each.name: getattr(job, each.name) for each in fields(job)}
    told = {name: value for name, value in record.items() if value or name not in _SILENT_AT_NOUGHT}
    sentences = []
    if why := waiting(job, datetime.now(UTC)):
        sentences.append(why)
    if job.evaluation:
        best = f"; the best so far was at step {job.best_step}" if job.best_step else ""
        sentences.append(f"The last evaluation: {measured(dict(job.evaluation))}{best}.")
    if job.memory_bytes:
        sentences.append(
            f"{size(job.memory_bytes)} of memory are set aside for it; watch tells what its process holds."
        )
    sentences += [f"warning: {warning}" for warning in job.warnings]
    return Said(told, sentences)


def say_end(job: Job) -> None:
    """How a job ended, in one line."""
    if job.state == "succeeded":
        learned = counted(job.trained_tokens, "token")
        typer.echo(f"{job.model} has version {job.version}; {learned}, loss {job.loss:.3f}")
    else:
        typer.echo(f"{job.state}: {job.error or 'ended on request'}", err=True)
