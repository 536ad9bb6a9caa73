"""`trivium data`: datasets to train on."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.dataset_view import report_lines, row_lines
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.printing import Json, as_json, bars, counted, drawn, say, show, show_one
from trivium_client.nouns import DatasetProblem, TrainingSettings

app = typer.Typer(
    no_args_is_help=True,
    help="Datasets that jobs train on.\n\nExample: trivium data add pairs.jsonl --name desk-pairs",
    epilog=EPILOG,
)

# More lines of problems than a person mends at a time are listed on request.
_MOST_PROBLEMS = 20

Name = Annotated[str, typer.Argument(help="NAME (the newest version), NAME@VERSION or digest.")]
Base = Annotated[str, typer.Option("--base", help="Base that is trained on; default the deployment's.")]
Objective = Annotated[
    str, typer.Option("--objective", help="supervised, continued, dpo or kto; default what the rows are for.")
]
Supervision = Annotated[
    str, typer.Option("--supervision", help="Tokens that are learned: assistant, last_answer or all.")
]
RecipeMark = Annotated[
    str,
    typer.Option("--recipe", help="RECIPE or RECIPE:CHOICE by which records become rows; see: trivium train recipes"),
]
MaxRowTokens = Annotated[int | None, typer.Option("--max-row-tokens", min=1, help="Longer rows are cut.")]


def _settings(
    objective: str, supervision: str, max_row_tokens: int | None, **more: int | float | None
) -> TrainingSettings:
    return TrainingSettings(
        objective=objective,
        supervision=supervision,
        max_row_tokens=max_row_tokens,
        **more,  # type: ignore[arg-type]  # each of them under its own name
    )


@app.command(epilog=EPILOG)
def add(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A JSON Lines, CSV or Parquet file.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Name; default from the file's name.")] = "",
    json_wanted: Json = False,
) -> None:
    """Check and store a dataset; other rows under a name are its next version.

    Rows are {"messages": […]}, {"prompt", "completion"}, {"text"}, {"prompt", "chosen", "rejected"},
    {"prompt", "completion", "label"} or records for a recipe; in CSV and Parquet these are columns.

    Example: trivium data add pairs.jsonl --name desk-pairs
    """
    with Trivium() as client, bars() as progress:
        task = progress.add_task("uploading", total=None)
        dataset = client.data.upload(
            path, name=name, progress=lambda sent, whole: progress.update(task, completed=sent, total=whole)
        )
    show_one(dataset, json_wanted=json_wanted)


@app.command("list", epilog=EPILOG)
def list_datasets(json_wanted: Json = False) -> None:
    """List datasets and their versions, newest first.

    Example: trivium data list
    """
    with Trivium() as client:
        datasets = drawn(client.data.list())
    columns = ("dataset", "version", "rows", "tokens", "supervised_tokens", "format", "digest", "create_time")
    empty = "There is no dataset. Add one with: trivium data add FILE"
    show(datasets, columns, json_wanted=json_wanted, empty=empty)


@app.command(epilog=EPILOG)
def check(
    dataset: Name,
    validation: Annotated[str, typer.Option("--validation", help="Dataset that will be evaluated on.")] = "",
    validation_ratio: Annotated[
        float | None, typer.Option("--validation-ratio", min=0, max=0.5, help="Share of rows to hold out.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the rows.")] = None,
    batch_rows: Annotated[int | None, typer.Option("--batch-rows", min=1, help="Rows of one step.")] = None,
    base: Base = "",
    objective: Objective = "",
    supervision: Supervision = "",
    max_row_tokens: MaxRowTokens = None,
    recipe: RecipeMark = "",
    json_wanted: Json = False,
) -> None:
    """Say what a job would make of a dataset: lengths, cuts, repetition, imbalance, tokens and steps.

    Example: trivium data check desk-pairs --max-row-tokens 512 --validation desk-questions
    """
    settings = _settings(
        objective,
        supervision,
        max_row_tokens,
        epochs=epochs,
        batch_rows=batch_rows,
        validation_ratio=validation_ratio,
    )
    with Trivium() as client:
        found = client.data.validate(
            dataset, base=base, settings=settings, validation_dataset=validation, recipe=recipe
        )
    if json_wanted:
        typer.echo(as_json(found))
    else:
        for line in report_lines(found.report):
            typer.echo(line)
        for warning in found.report.warnings:
            say(typer.style("! ", fg="yellow") + warning)
        _say_problems(list(found.problems), found.problem_count, dataset)
    if any(problem.fatal for problem in found.problems):
        raise typer.Exit(Exit.REFUSED)


def _say_problems(problems: list[DatasetProblem], count: int, dataset: str) -> None:
    shown = sorted(problems, key=lambda problem: not problem.fatal)[:_MOST_PROBLEMS]
    if not shown:
        return
    typer.echo("")
    show(shown, ("line", "field", "message"), json_wanted=False, empty="")
    if count > len(shown):
        typer.echo(f"{counted(count, 'line')} in all: trivium data problems {dataset}")


@app.command(epilog=EPILOG)
def problems(
    dataset: Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or the digest of a file that was refused.")],
    json_wanted: Json = False,
) -> None:
    """List what the newest check said of a dataset's lines, for a day also of a file that was refused.

    Example: trivium data problems desk-pairs
    """
    with Trivium() as client:
        found = drawn(client.data.problems(dataset))
    show(found, ("line", "fatal", "field", "message"), json_wanted=json_wanted, empty="Nothing is wrong with it.")


@app.command(epilog=EPILOG)
def preview(
    dataset: Name,
    rows: Annotated[int, typer.Option("--rows", min=1, max=100, help="Rows to show.")] = 3,
    offset: Annotated[int, typer.Option("--offset", min=0, help="First row, from 0.")] = 0,
    base: Base = "",
    objective: Objective = "",
    supervision: Supervision = "",
    max_row_tokens: MaxRowTokens = None,
    recipe: RecipeMark = "",
    json_wanted: Json = False,
) -> None:
    """Show rows as they are trained on: what is learned stands out, what is only read is dim.

    Example: trivium data preview desk-pairs --rows 2
    """
    settings = _settings(objective, supervision, max_row_tokens)
    with Trivium() as client:
        found = client.data.preview(dataset, offset=offset, rows=rows, base=base, settings=settings, recipe=recipe)
    if json_wanted:
        typer.echo(as_json(found))
        return
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for row in found:
        for line in row_lines(row, colours=colours):
            typer.echo(line)


@app.command(epilog=EPILOG)
def delete(dataset: Name) -> None:
    """Delete a version of a dataset, of a name alone the newest, unless an unfinished job uses it.

    Example: trivium data delete desk-pairs@1
    """
    with Trivium() as client:
        client.data.delete(dataset)
    typer.echo(f"Deleted {dataset}.")
