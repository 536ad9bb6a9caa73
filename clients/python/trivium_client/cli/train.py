"""`trivium train`: jobs."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.printing import Json, as_json, bars, drawn, show, show_one
from trivium_client.nouns import Job, JobEvent, LoraSettings, TrainingSettings

app = typer.Typer(no_args_is_help=True, help="Training jobs.", epilog=EPILOG)

JobId = Annotated[str, typer.Argument(help="Job id, as `train list` shows it.")]


@app.command(epilog=EPILOG)
def start(
    dataset: Annotated[str, typer.Argument(help="Dataset id.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model that takes the new version.")],
    alias: Annotated[str, typer.Option("--alias", help="Alias that moves to it; - for none.")] = "prod",
    method: Annotated[str, typer.Option("--method", help="lora, rslora, dora, qlora or full.")] = "lora",
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
        method=method,
        lora=LoraSettings(rank=rank),
        epochs=epochs,
        learning_rate=learning_rate,
        batch_rows=batch_rows,
        seed=seed,
    )
    with Trivium() as client:
        job = client.jobs.create(model=model, dataset=dataset, alias="" if alias == "-" else alias, settings=settings)
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


@app.command(epilog=EPILOG)
def watch(job: JobId, json_wanted: Json = False) -> None:
    """Follow a job to its end, first what was, then what comes.

    Example: trivium train watch 0192f0c1
    """
    with Trivium() as client:
        _follow(client, job, json_wanted)


@app.command(epilog=EPILOG)
def cancel(job: JobId, json_wanted: Json = False) -> None:
    """End a job at its next step.

    Example: trivium train cancel 0192f0c1
    """
    with Trivium() as client:
        show_one(client.jobs.cancel(job), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def pause(job: JobId, json_wanted: Json = False) -> None:
    """Stop a job at its next step, with a checkpoint.

    Example: trivium train pause 0192f0c1
    """
    with Trivium() as client:
        show_one(client.jobs.pause(job), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def resume(job: JobId, json_wanted: Json = False) -> None:
    """Queue a paused job again.

    Example: trivium train resume 0192f0c1
    """
    with Trivium() as client:
        show_one(client.jobs.resume(job), json_wanted=json_wanted)


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
                progress.console.print(event.message)

        ended = client.jobs.wait(job, progress=heard)
    if not json_wanted:
        _say_end(ended)
    if ended.state != "succeeded":
        raise typer.Exit(Exit.FAILURE)


def _say_end(job: Job) -> None:
    if job.state == "succeeded":
        typer.echo(f"{job.model} has version {job.version}; {job.trained_tokens} tokens, loss {job.loss:.3f}")
    else:
        typer.echo(f"{job.state}: {job.error or 'ended on request'}", err=True)
