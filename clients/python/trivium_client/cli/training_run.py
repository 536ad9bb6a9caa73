"""`trivium train FILE`: from rows in a file to a model that answers, in one command.

Invariant: nothing is spent before what was recognised, what the very order that will be sent makes of the rows, and the
estimate were shown; and the last line is one that can be typed to talk to what came of it.
"""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from trivium_client import NotFoundError, NotYetAvailableError, Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.following import follow, goes_on
from trivium_client.cli.job_tables import say_end
from trivium_client.cli.naming import standing
from trivium_client.cli.printing import Json, as_json, bars, counted, say, table
from trivium_client.cli.rules import check_name
from trivium_client.cli.training_options import Options, fields_of, filled_fields, with_options
from trivium_client.cli.training_view import clock, size
from trivium_client.nouns import Alias, Dataset, DatasetProblem, Job, JobEstimate, JobFields, SweepEstimate

# Names of models that are the platform's own.
_RESERVED = {"base", "auto"}
_MODEL_LETTERS = 63
_MOST_LINES = 20
_LINES_OF_A_KIND = 3
_NUMBERS = re.compile(r"\d+")
# A question that is longer nobody wants in a line to copy.
_QUESTION_LETTERS = 120
_ROWS_LOOKED_AT = 50
_ROUGH = " on an idle machine (a rough figure: no such job has trained here yet)"
# Whatever else the machine did meanwhile.
_MEASURED = ", as such jobs have trained here"
Found = TypeVar("Found")


@with_options
def run(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Rows: JSON Lines, CSV or Parquet.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model that takes the version; default from the file's name.")
    ] = "",
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow it until it is served.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Upload, say what it would cost, start nothing.")] = False,
    json_wanted: Json = False,
    *,
    options: Options,
) -> None:
    """Train a model on the rows of a file and serve it; the word `run` may be left out.

    Uploads, says what was recognised and what it costs, trains with the curve of the loss, waits until the version
    is served, and ends with the line to chat with it.

    Example: trivium train run pairs.jsonl
    """
    named = model or model_of(file)
    # What is said wrongly is refused before anything is sent.
    check_name("model", named)
    fields_of(options)
    with Trivium() as client:
        dataset = uploaded(client, file, json_wanted)
        order, notes = filled_fields(options, client, dataset.dataset)
        say_notes(notes, json_wanted)
        if (validation := Path(options.validation)).is_file():
            order["validation_dataset"] = uploaded(client, validation, json_wanted).dataset
        told = check(client, dataset.dataset, order, json_wanted)
        estimate = estimated(client.jobs.estimate, dry_run, model=named, dataset=dataset.dataset, **order)
        if dry_run:
            end_estimated(estimate, json_wanted, told)
            return
        say_estimate(estimate, json_wanted, told=told)
        job = client.jobs.create(model=named, dataset=dataset.dataset, **order)
        _say_record("job", job, json_wanted)
        say_warnings(job.warnings, told=estimate.warnings if estimate else ())
        if not watch_it:
            if not json_wanted:
                typer.echo(f"{job.job} is {job.state}; follow it with: trivium train watch {job.job}")
            return
        say_begun(job)
        _end_served(client, _trained(client, job, json_wanted), file, json_wanted)


def model_of(file: Path) -> str:
    """A model's name made of a file's.  Raises BadParameter where none comes of it."""
    name = re.sub(r"[^a-z0-9.-]+", "-", file.stem.lower())[:_MODEL_LETTERS].strip("-.")
    if not name or name in _RESERVED:
        raise typer.BadParameter(f"{file.name} makes no model's name; say one: --model NAME", param_hint="--model")
    return name


def uploaded(client: Trivium, file: Path, json_wanted: bool) -> Dataset:
    """Store a file and say what it was taken for."""
    with bars() as progress:
        task = progress.add_task(f"uploading {file.name}", total=None)
        dataset = client.data.upload(
            file, progress=lambda sent, whole: progress.update(task, completed=sent, total=whole)
        )
    if json_wanted:
        _say_record("dataset", dataset, json_wanted)
        return dataset
    rows, tokens = counted(dataset.rows, "row"), counted(dataset.tokens, "token")
    kind = dataset.format.replace("_", " and ")
    typer.echo(f"{file.name} is the dataset {dataset.dataset}: {rows} of {kind}, {tokens}.")
    learned = f"{counted(dataset.supervised_tokens, 'token')} of these are learned"
    if dataset.format == "records":
        learned = "What of these is learned is for a recipe to say (--recipe)"
    typer.echo(f"{learned}; the longest row has {dataset.max_row_tokens}.")
    return dataset


def check(client: Trivium, dataset: str, order: JobFields, json_wanted: bool, *, err: bool = False) -> Collection[str]:
    """Say what an order would make of its rows and of those that it is evaluated on: what is cut, left out or in both.

    Returns what was warned of the whole.  Ends with a refusal where they cannot be trained on.  `err`: on standard error,
    beside what programs read.
    """
    fatal, warned = _checked(client, dataset, order, json_wanted, err=err)
    validation = order.get("validation_dataset", "")
    if validation:
        # Compared with nothing: what both have in common is said above.
        alone = order.copy()
        alone["validation_dataset"] = ""
        fatal = _checked(client, validation, alone, json_wanted, evaluated_on=True, err=err)[0] or fatal
    if fatal:
        raise typer.Exit(Exit.REFUSED)
    return warned


def _checked(
    client: Trivium,
    dataset: str,
    order: JobFields,
    json_wanted: bool,
    *,
    evaluated_on: bool = False,
    err: bool = False,
) -> tuple[bool, Collection[str]]:
    """Whether the rows of a dataset stand in an order's way, and what is warned of them as a whole.

    Of rows to evaluate on only what concerns a line is said.
    """
    found = client.data.validate(
        dataset,
        base=order.get("base", ""),
        settings=order.get("settings"),
        validation_dataset=order.get("validation_dataset", ""),
        recipe=order.get("recipe", ""),
    )
    fatal = [problem for problem in found.problems if problem.fatal]
    if json_wanted:
        _say_record("check", found, json_wanted)
        return bool(fatal), found.report.warnings
    for warning in () if evaluated_on else found.report.warnings:
        say(warning, err=err)
    behind = f" in {dataset}, to evaluate on" if evaluated_on else ""
    _say_lines(f"{counted(len(fatal), 'problem')}{behind}:", fatal, err=err)
    others = [problem for problem in found.problems if not problem.fatal]
    shown = _some_of_each_kind(others)
    _say_lines(f"{counted(found.problem_count - len(fatal), 'warning')}{behind}:", shown, err=err)
    if found.problem_count > min(len(fatal), _MOST_LINES) + len(shown):
        typer.echo(f"  all {found.problem_count}: trivium data problems {dataset}", err=err)
    return bool(fatal), found.report.warnings


def _some_of_each_kind(problems: Iterable[DatasetProblem]) -> list[DatasetProblem]:
    """The first of those that say the same but for their numbers: more would hide what is said beside them."""
    found: list[DatasetProblem] = []
    seen: Counter[str] = Counter()
    for problem in problems:
        kind = _NUMBERS.sub("", f"{problem.field}: {problem.message}")
        seen[kind] += 1
        if seen[kind] <= _LINES_OF_A_KIND:
            found.append(problem)
    return found


def _say_lines(heading: str, problems: Sequence[DatasetProblem], *, err: bool) -> None:
    """What is to be said of lines of a dataset, as a table of the first."""
    if not problems:
        return
    typer.echo(heading, err=err)
    for line in table(problems[:_MOST_LINES], ("line", "field", "message"), None):
        typer.echo(f"  {line}", err=err)


def estimated(estimate: Callable[..., Found], wanted: bool, **order: Any) -> Found | None:
    """What an order would cost; None where the trainer makes no such estimates, unless one is wanted."""
    try:
        return estimate(**order)
    except NotYetAvailableError:
        if wanted:
            raise
        return None


def say_estimate(
    estimate: JobEstimate | SweepEstimate | None, json_wanted: bool, *, err: bool = False, told: Collection[str] = ()
) -> None:
    """Print it, and end with a refusal where it says that the order does not fit.

    `err` as in `check`; people do not read again what they were `told` before.
    """
    if estimate is None:
        return
    if json_wanted:
        _say_record("estimate", estimate, json_wanted)
    else:
        new = tuple(warning for warning in estimate.warnings if warning not in told)
        lines = (
            estimate_lines(replace(estimate, warnings=new))
            if isinstance(estimate, JobEstimate)
            else sweep_lines(replace(estimate, warnings=new))
        )
        for line in lines:
            typer.echo(line, err=err)
    if not estimate.fits:
        raise typer.Exit(Exit.REFUSED)


def end_estimated(estimate: JobEstimate | SweepEstimate | None, json_wanted: bool, told: Collection[str] = ()) -> None:
    """Print an estimate, which is all that was asked for; `told` as in `say_estimate`."""
    say_estimate(estimate, json_wanted, told=told)
    if not json_wanted:
        typer.echo("Nothing was started.")


def estimate_lines(estimate: JobEstimate) -> list[str]:
    """What a job would cost, with the arithmetic of its memory."""
    speed = (
        f" at {estimate.tokens_per_second:,.0f} tokens a second{_MEASURED}" if estimate.tokens_per_second else _ROUGH
    )
    lines = [_takes(counted(estimate.steps, "step"), estimate, speed)]
    parts = " + ".join(f"{name} {size(length)}" for name, length in estimate.memory_parts_bytes.items())
    if estimate.memory_bytes:
        lines.append(f"Memory: {size(estimate.memory_bytes)}{f' = {parts}' if parts else ''}.")
    if estimate.version_bytes:
        trained = f"{estimate.trainable_parameters:,} parameters are trained"
        lines.append(f"{trained}; the version's weights have {size(estimate.version_bytes)}.")
    return [*lines, *_ends_of(estimate)]


def sweep_lines(estimate: SweepEstimate) -> list[str]:
    """What a sweep would cost."""
    what = f"{counted(estimate.members, 'member')} with {counted(estimate.steps, 'step')}"
    lines = [_takes(what, estimate, _MEASURED if estimate.measured else _ROUGH)]
    if estimate.memory_bytes:
        largest = size(estimate.largest_member_bytes)
        lines.append(
            f"Memory: {size(estimate.memory_bytes)} for all at once, {largest} for one; in between they take turns."
        )
    if estimate.version_bytes:
        lines.append(f"The version's weights have up to {size(estimate.version_bytes)}.")
    return [*lines, *_ends_of(estimate)]


def _takes(what: str, estimate: JobEstimate | SweepEstimate, speed: str) -> str:
    took = f", about {clock(timedelta(seconds=estimate.seconds))}{speed}" if estimate.seconds else ""
    return f"{what} over {counted(estimate.tokens, 'token')}{took}."


def _ends_of(estimate: JobEstimate | SweepEstimate) -> list[str]:
    """What both kinds of estimate end with."""
    lines = [f"warning: {warning}" for warning in estimate.warnings]
    if not estimate.fits:
        lines.append("It does not fit this deployment and would be refused; the last warning says why, and what to do.")
    return lines


def say_notes(notes: Sequence[str], json_wanted: bool) -> None:
    """What a recipe decided and why."""
    for note in notes if not json_wanted else ():
        typer.echo(note)


def say_warnings(warnings: Iterable[str], told: Collection[str] = ()) -> None:
    """What the trainer warns of in what was ordered, once each; not again what was `told` before."""
    for warning in dict.fromkeys(warnings):
        if warning not in told:
            say(f"warning: {warning}", err=True)


def say_begun(job: Job) -> None:
    """Name the job, for whoever interrupts the command, with the commands that go on with it and that end it."""
    commands = f"trivium train watch {job.job} goes on with this, trivium train cancel {job.job} ends it"
    typer.echo(f"job {job.job}; interrupting this does not end it: {commands}", err=True)


def _trained(client: Trivium, job: Job, json_wanted: bool) -> Job:
    """Follow a job to its end; exits with 1 unless it succeeded."""
    write = (lambda event: _say_record("event", event, True)) if json_wanted else None
    with goes_on("job", f"trivium train watch {job.job}"):
        ended = follow(client, job.job, write)
    if json_wanted:
        _say_record("job", ended, json_wanted)
    else:
        say_end(ended)
    if ended.state != "succeeded":
        raise typer.Exit(Exit.FAILURE)
    return ended


def _end_served(client: Trivium, job: Job, file: Path, json_wanted: bool) -> None:
    """Wait until the alias serves the version, and end with the line to talk to it."""
    alias = _settled(client, job)
    if alias is not None:
        _say_record("alias", alias, json_wanted)
        if alias.serving_version != job.version:
            version, name = f"{job.model}@{job.version}", f"{job.model}@{job.alias}"
            say(f"{standing(alias)} What came of the job is kept as {version}.", err=True)
            say(f"Once it can be served: trivium models alias {name} {job.version}", err=True)
            raise typer.Exit(Exit.REFUSED)
    if not json_wanted:
        name = job.model if job.alias == "prod" else f"{job.model}@{job.alias or job.version[:19]}"
        say(f"{name} is served. Talk to it:" if alias else "No alias was to move. Talk to the version:")
        typer.echo(f"trivium chat {_question(file)}-m {name}")


def _settled(client: Trivium, job: Job) -> Alias | None:
    """The job's alias once what it points at serves or failed; None where no alias was to move."""
    if not job.alias:
        return None
    typer.echo(f"loading {job.version[:19]} for {job.model}@{job.alias}", err=True)
    try:
        with goes_on("loading", "trivium models list"):
            return client.models.wait_alias(job.model, job.alias)
    except NotFoundError as error:
        raise NotFoundError(f"{error.message} A gate may have refused it: trivium models moves {job.model}") from None


def _question(file: Path) -> str:
    """A question of the rows, quoted for a shell and with a blank behind it; empty where there is none to copy."""
    if file.suffix.lower() not in {".jsonl", ".ndjson", ".json"}:
        return ""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for question in _questions(islice(lines, _ROWS_LOOKED_AT)):
            if question and len(question) <= _QUESTION_LETTERS and question.isprintable():
                return f"{shlex.quote(question)} "
    return ""


def _questions(lines: Iterator[str]) -> Iterator[str]:
    """What a person says alone in each row: without a system message or turns before it, as `chat` will say it."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        said = row.get("messages", row.get("prompt", "")) if isinstance(row, dict) else ""
        if isinstance(said, list):
            turns = [turn for turn in said if isinstance(turn, dict) and turn.get("role") != "assistant"]
            said = turns[0].get("content", "") if len(turns) == 1 and turns[0].get("role") == "user" else ""
        if isinstance(said, str):
            yield said


def _say_record(kind: str, record: Any, json_wanted: bool) -> None:
    """Print a record under the name of its kind, for programs."""
    if json_wanted:
        typer.echo(as_json({kind: record}))
