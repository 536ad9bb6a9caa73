"""`trivium train`: jobs."""

import re
from enum import StrEnum
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.printing import Json, as_json, bars, counted, drawn, show, show_one
from trivium_client.nouns import Job, JobEvent, LoraSettings, TrainingSettings

app = typer.Typer(no_args_is_help=True, help="Training jobs.", epilog=EPILOG)

JobId = Annotated[
    str,
    typer.Argument(help="Job id, as `train list` shows it, or 4 or more characters that it alone begins or ends with."),
]
_WHOLE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Fewer would name the only job of a new tenant by a slip of the finger.
_LEAST_CHARACTERS = 4


class Method(StrEnum):
    """The ways of training, as `--method` takes them."""

    LORA = "lora"
    RSLORA = "rslora"
    DORA = "dora"
    QLORA = "qlora"
    FULL = "full"


@app.command(epilog=EPILOG)
def start(
    dataset: Annotated[str, typer.Argument(help="Dataset id.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model that takes the new version.")],
    alias: Annotated[str, typer.Option("--alias", help="Alias that moves to it; - for none.")] = "prod",
    base: Annotated[str, typer.Option("--base", help="Base to train on: base:NAME or base:NAME@VERSION.")] = "",
    method: Annotated[
        Method, typer.Option("--method", help="How the base is adapted; dora, qlora and full are not offered yet.")
    ] = Method.LORA,
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="LoRA's rank.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the dataset.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Peak learning rate.")] = None,
    batch_rows: Annotated[int | None, typer.Option("--batch-rows", min=1, help="Rows of one step.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run.")] = None,
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow it to its end.")] = True,
    json_wanted: Json = False,
) -> None:
    """Train a version of a model on a dataset, and let an alias move to it.

    Example: trivium train start desk-pairs --model desk --epochs 3
    """
    settings = TrainingSettings(
        method=method.value,
        lora=LoraSettings(rank=rank),
        epochs=epochs,
        learning_rate=learning_rate,
        batch_rows=batch_rows,
        seed=seed,
    )
    with Trivium() as client:
        job = client.jobs.create(
            model=model, dataset=dataset, base=base, alias="" if alias == "-" else alias, settings=settings
        )
        if not watch_it:
            show_one(job, json_wanted=json_wanted)
            return
        typer.echo(f"job {job.job}; interrupting this does not end it (trivium train cancel {job.job})", err=True)
        _follow(client, job.job, json_wanted)


@app.command("list", epilog=EPILOG)
def list_jobs(json_wanted: Json = False) -> None:
    """List jobs, newest first.

    Example: trivium train list
    """
    with Trivium() as client:
        jobs = drawn(client.jobs.list())
    columns = ("job", "state", "model", "dataset", "step", "total_steps", "loss", "version", "create_time")
    empty = "There is no job. Start one with: trivium train start DATASET --model NAME"
    show(jobs, columns, json_wanted=json_wanted, empty=empty)


@app.command("show", epilog=EPILOG)
def show_job(job: JobId, json_wanted: Json = False) -> None:
    """Show all that is known of a job.

    Example: trivium train show 8e2a17
    """
    with Trivium() as client:
        show_one(client.jobs.get(_whole(client, job)), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def watch(job: JobId, json_wanted: Json = False) -> None:
    """Follow a job to its end, first what was, then what comes.

    Example: trivium train watch 8e2a17
    """
    with Trivium() as client:
        _follow(client, _whole(client, job), json_wanted)


@app.command(epilog=EPILOG)
def cancel(job: JobId, json_wanted: Json = False) -> None:
    """End a job at its next step.

    Example: trivium train cancel 8e2a17
    """
    with Trivium() as client:
        _say_now(client.jobs.cancel(_whole(client, job)), json_wanted)


@app.command(epilog=EPILOG)
def pause(job: JobId, json_wanted: Json = False) -> None:
    """Stop a job at its next step, with a checkpoint.

    Example: trivium train pause 8e2a17
    """
    with Trivium() as client:
        _say_now(client.jobs.pause(_whole(client, job)), json_wanted)


@app.command(epilog=EPILOG)
def resume(job: JobId, json_wanted: Json = False) -> None:
    """Queue a paused job again.

    Example: trivium train resume 8e2a17
    """
    with Trivium() as client:
        _say_now(client.jobs.resume(_whole(client, job)), json_wanted)


def _whole(client: Trivium, given: str) -> str:
    """The id that is meant; what no job begins or ends with stays as it is, for the server to refuse by its own name.

    Raises BadParameter with the candidates where there are several.
    """
    if len(given) < _LEAST_CHARACTERS or _WHOLE.fullmatch(given):
        return given
    meant = client.jobs.like(given)
    if len(meant) > 1:
        candidates = "\n".join(f"  {job.job}  {job.model}" for job in meant)
        raise typer.BadParameter(f"{given} may be any of these; say more of it:\n{candidates}", param_hint="job")
    return meant[0].job if meant else given


def _follow(client: Trivium, job: str, json_wanted: bool) -> None:
    """Show events until the job ends; exit code 1 unless it succeeded."""
    with bars() as progress:
        task = progress.add_task("training", total=None)

        def heard(event: JobEvent) -> None:
            if json_wanted:
                typer.echo(as_json(event))
            elif event.kind == "step":
                progress.update(
                    task,
                    completed=event.step,
                    total=event.total_steps,
                    description=f"training, loss {event.loss:.3f}",
                )
            elif event.message:
                # Never folded: the message may name a version, for somebody to copy.
                progress.console.print(event.message, markup=False, highlight=False, soft_wrap=True)

        ended = client.jobs.wait(job, progress=heard)
    if not json_wanted:
        _say_end(ended)
    if ended.state != "succeeded":
        raise typer.Exit(Exit.FAILURE)


def _say_end(job: Job) -> None:
    if job.state == "succeeded":
        learned = counted(job.trained_tokens, "token")
        typer.echo(f"{job.model} has version {job.version}; {learned}, loss {job.loss:.3f}")
    else:
        typer.echo(f"{job.state}: {job.error or 'ended on request'}", err=True)


def _say_now(job: Job, json_wanted: bool) -> None:
    """What holds after a verb, in one line."""
    if json_wanted:
        typer.echo(as_json(job))
    else:
        typer.echo(f"{job.job} is {job.state}, at step {job.step} of {job.total_steps}.")
