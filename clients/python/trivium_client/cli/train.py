"""`trivium train`: jobs.

Invariant: a first word that is a command is that command; any other that is a path, or ends like a file to train on,
means `run`.  So a file that is called like a command is named ./list.
"""

import os
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trivium_client import NotFoundError, Trivium
from trivium_client.cli import sweeping, training_run
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.following import follow, goes_on, write_json
from trivium_client.cli.ids import job_id
from trivium_client.cli.job_tables import line_of, said_of, say_end, say_next
from trivium_client.cli.printing import Json, as_json, drawn, show, show_one
from trivium_client.cli.rules import check_name, takes
from trivium_client.cli.settings_table import SettingLine, about, default_of
from trivium_client.cli.settings_text import is_list, setting_names
from trivium_client.cli.training_options import Options, filled_fields, option_of, with_options
from trivium_client.nouns import Job, Recipe

_ENDINGS = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"}


class _FileFirst(TyperGroup):
    """A group that takes a file where a command stands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # The group has no option but the one for help, so another one can only be of `run`.
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if word not in self.commands:
            if _like_a_file(word):
                args = ["run", *args]
            elif not get_close_matches(word, self.commands):
                ctx.fail(f"{word} is no command and no file. A stored dataset: trivium train start {word} --model NAME")
        return super().resolve_command(ctx, args)


def _like_a_file(word: str) -> bool:
    return Path(word).exists() or Path(word).suffix.lower() in _ENDINGS or os.sep in word


app = typer.Typer(
    cls=_FileFirst,
    no_args_is_help=True,
    help="Training: from a file to a served model, or job by job.\n\nExample: trivium train pairs.jsonl --epochs 2",
    subcommand_metavar="FILE | COMMAND [ARGS]...",
    epilog=EPILOG,
)
app.command("run", epilog=EPILOG)(training_run.run)

JobId = Annotated[
    str,
    typer.Argument(help="Job id, as `train list` shows it, or 4 or more characters that it alone begins or ends with."),
]


@app.command(epilog=EPILOG)
@with_options
def start(
    dataset: Annotated[str, typer.Argument(help="Dataset id.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model that takes the new version.")],
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow it to its end.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and start nothing.")] = False,
    json_wanted: Json = False,
    *,
    options: Options,
) -> None:
    """Train a version of a model on a stored dataset, and let an alias move to it.

    Example: trivium train start desk-pairs --model desk --epochs 3
    """
    check_name("model", model)
    with Trivium() as client:
        order, notes = filled_fields(options, client, dataset)
        training_run.say_notes(notes, json_wanted)
        # Beside what programs read.
        told = training_run.check(client, dataset, order, json_wanted=False, err=True)
        estimate = training_run.estimated(client.jobs.estimate, dry_run, model=model, dataset=dataset, **order)
        if dry_run:
            training_run.end_estimated(estimate, json_wanted, told)
            return
        training_run.say_estimate(estimate, json_wanted=False, err=True, told=told)
        job = client.jobs.create(model=model, dataset=dataset, **order)
        if not watch_it:
            show_one(job, json_wanted=json_wanted)
            return
        training_run.say_warnings(job.warnings, told=estimate.warnings if estimate else ())
        training_run.say_begun(job)
        _follow(client, job.job, json_wanted)


@app.command("list", epilog=EPILOG)
def list_jobs(json_wanted: Json = False) -> None:
    """List jobs, newest first, and why those wait that do.

    Example: trivium train list
    """
    with Trivium() as client:
        jobs = drawn(client.jobs.list())
    if json_wanted:
        typer.echo(as_json(jobs))
        return
    columns = ("job", "state", "queue", "model", "dataset", "step", "progress", "loss", "version", "create_time")
    empty = "There is no job. Start one with: trivium train FILE, or trivium train start DATASET --model NAME"
    show([line_of(job) for job in jobs], columns, json_wanted=False, empty=empty, below="why")


@app.command("show", epilog=EPILOG)
def show_job(job: JobId, json_wanted: Json = False) -> None:
    """Show all that is known of a job, why it waits, and how its last evaluation was.

    Example: trivium train show 8e2a17
    """
    with Trivium() as client:
        found = client.jobs.get(job_id(client, job))
    if json_wanted:
        typer.echo(as_json(found))
        return
    said = said_of(found)
    show_one(said.fields, json_wanted=False)
    for sentence in said.sentences:
        typer.echo(sentence)


@app.command(epilog=EPILOG)
def watch(job: JobId, json_wanted: Json = False) -> None:
    """Follow a job to its end, first what was, then what comes; on a terminal with the curve of its loss.

    Example: trivium train watch 8e2a17
    """
    with Trivium() as client:
        _follow(client, job_id(client, job), json_wanted)


@app.command(epilog=EPILOG)
def cancel(job: JobId, json_wanted: Json = False) -> None:
    """End a job at its next step.

    Example: trivium train cancel 8e2a17
    """
    with Trivium() as client:
        _say_now(client.jobs.cancel(job_id(client, job)), json_wanted)


@app.command(epilog=EPILOG)
def pause(job: JobId, json_wanted: Json = False) -> None:
    """Stop a job at its next step, with a checkpoint.

    Example: trivium train pause 8e2a17
    """
    with Trivium() as client:
        _say_now(client.jobs.pause(job_id(client, job)), json_wanted)


@app.command(epilog=EPILOG)
def resume(job: JobId, json_wanted: Json = False) -> None:
    """Queue a paused job again.

    Example: trivium train resume 8e2a17
    """
    with Trivium() as client:
        _say_now(client.jobs.resume(job_id(client, job)), json_wanted)


@app.command(epilog=EPILOG)
def checkpoints(job: JobId, json_wanted: Json = False) -> None:
    """List the checkpoints of a job that are kept, newest first; `train publish` makes a version of one.

    Example: trivium train checkpoints 8e2a17
    """
    with Trivium() as client:
        found = client.jobs.checkpoints(job_id(client, job))
    show(found, ("step", "digest", "size_bytes", "create_time"), json_wanted=json_wanted, empty="It has none.")


@app.command(epilog=EPILOG)
def publish(
    job: JobId,
    step: Annotated[int, typer.Option("--step", min=0, help="Step of the checkpoint; the newest one without.")] = 0,
    name: Annotated[str, typer.Option("--name", "-m", help="Model that takes the version; the job's without.")] = "",
    alias: Annotated[str, typer.Option("--alias", help="Alias that moves to the version.")] = "",
    json_wanted: Json = False,
) -> None:
    """Make a version of a checkpoint: while the job trains or is paused, or for a day after it failed or was cancelled.

    Example: trivium train publish 8e2a17 --step 40 --name desk-trial
    """
    if name:
        check_name("model", name)
    with Trivium() as client:
        whole = job_id(client, job)
        made = client.jobs.publish(whole, step=step, model=name, alias=alias)
        if json_wanted:
            typer.echo(as_json(made))
            return
        model = name or client.jobs.get(whole).model
    typer.echo(f"{model} has version {made.version}, the weights after step {made.step}")
    say_next(model, alias, made.version)


app.command("sweep", epilog=EPILOG)(sweeping.sweep)
app.command("sweeps", epilog=EPILOG)(sweeping.sweeps)


@app.command(epilog=EPILOG)
def settings(json_wanted: Json = False) -> None:
    """List every setting of a run: the option or the name that says it, what holds without it, and what it takes.

    A recipe, and the version that training goes on from, say some of them otherwise.

    Example: trivium train settings
    """
    lines = [
        # An option takes several values in a way of its own, the name takes what is told.
        SettingLine(
            name,
            f"--set {name}=VALUE" if is_list(name) else option_of(f"settings.{name}"),
            default_of(name),
            takes(name),
            about(name),
        )
        for name in setting_names()
    ]
    show(lines, ("option", "default"), json_wanted=json_wanted, empty="There is none.", below="described")


@app.command(epilog=EPILOG)
def recipes(
    recipe: Annotated[str, typer.Argument(help="Recipe to show in full, with what each choice means.")] = "",
    json_wanted: Json = False,
) -> None:
    """List recipes: settings by name for a purpose, for `--recipe`, each with its choices.

    Example: trivium train recipes classify
    """
    with Trivium() as client:
        found = client.recipes.list()
    if recipe:
        named = next((each for each in found if each.recipe == recipe), None)
        if named is None:
            raise NotFoundError(f"No recipe is named {recipe}; there are {', '.join(each.recipe for each in found)}.")
        show_one(named, json_wanted=json_wanted)
        return
    columns = ("recipe", "title", "default_choice", "choices", "dataset", "description")
    if json_wanted:
        typer.echo(as_json(found))
        return
    show([_RecipeLine.of(each) for each in found], columns, json_wanted=False, empty="There is no recipe.")


@dataclass(frozen=True, slots=True)
class _RecipeLine:
    """A recipe in a table; what its choices mean is told of one alone."""

    recipe: str
    title: str
    default_choice: str
    choices: tuple[str, ...]
    dataset: str
    description: str

    @classmethod
    def of(cls, recipe: Recipe) -> "_RecipeLine":
        return cls(
            **{each.name: getattr(recipe, each.name) for each in fields(cls)} | {"choices": tuple(recipe.choices)}
        )


def _follow(client: Trivium, job: str, json_wanted: bool) -> None:
    """Show events until the job ends; exit code 1 unless it succeeded."""
    with goes_on("job", f"trivium train watch {job}"):
        ended = follow(client, job, write_json if json_wanted else None)
    if not json_wanted:
        say_end(ended)
        if ended.version:
            say_next(ended.model, ended.alias, ended.version)
    if ended.state != "succeeded":
        raise typer.Exit(Exit.FAILURE)


def _say_now(job: Job, json_wanted: bool) -> None:
    """What holds after a verb, in one line."""
    if json_wanted:
        typer.echo(as_json(job))
    else:
        typer.echo(f"{job.job} is {job.state}, at step {job.step} of {job.total_steps}.")
