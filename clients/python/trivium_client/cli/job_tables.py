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
    # A sentence says it, in a unit that suits it.
    del told["memory_bytes"]
    if not job.step:
        # There was no loss yet.
        del told["loss"]
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


def say_next(model: str, alias: str, version: str) -> None:
    """How to talk to a version that came of training, beside what programs read."""
    named = f"{model}@{version[:19]}"
    if alias:
        served = model if alias == "prod" else f"{model}@{alias}"
        typer.echo(f"Once {model}@{alias} serves it, talk to it: trivium chat -m {served}", err=True)
        return
    typer.echo(f"No alias was to move. Talk to the version: trivium chat -m {named}", err=True)
    typer.echo(f"An alias moves to it with: trivium models alias {model} {version[:19]}", err=True)


def say_end(job: Job) -> None:
    """How a job ended, in one line."""
    if job.state == "succeeded":
        learned = counted(job.trained_tokens, "token")
        typer.echo(f"{job.model} has version {job.version}; {learned}, loss {job.loss:.3f}")
    else:
        typer.echo(f"{job.state}: {job.error or 'ended on request'}", err=True)
