"""`trivium train sweep`: a search over settings, with the table of its members as they train.

Invariant: what is searched over is read before anything is sent, and an interrupted command ends no sweep.
"""

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from trivium_client import Trivium
from trivium_client.cli import training_run
from trivium_client.cli.exits import Exit
from trivium_client.cli.following import goes_on
from trivium_client.cli.ids import sweep_id
from trivium_client.cli.job_tables import say_next
from trivium_client.cli.printing import Json, as_json, counted, drawn, show, table
from trivium_client.cli.rules import check_name
from trivium_client.cli.settings_text import is_list, known_name
from trivium_client.cli.training_options import Options, fields_of, filled_fields, with_options
from trivium_client.cli.training_view import measured
from trivium_client.nouns import JobFields, Sweep, SweepAxis, SweepMember, SweepRange, TrainingSettings

_COLUMNS = ("place", "job", "state", "step", "values", "evaluation")
_LISTED = ("sweep", "state", "members", "best", "version", "create_time")
# Lines that a table of members leaves for what stands around it.
_OTHER_ROWS = 4


@with_options
def sweep(
    data: Annotated[str, typer.Argument(help="Dataset id, or a file of rows, which is uploaded.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model that takes the best version; default from the file's name.")
    ] = "",
    tried: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            help="Setting and what to try: learning_rate=1e-4,3e-4, or to draw from learning_rate=1e-5..1e-3:log. Repeat it.",
        ),
    ] = None,
    axes_file: Annotated[
        Path | None,
        typer.Option("--axes", exists=True, dir_okay=False, help='The same as JSON: {"lora.rank": [8, 16]}.'),
    ] = None,
    random: Annotated[int, typer.Option("--random", min=0, help="Draw so many members; 0 takes the whole grid.")] = 0,
    rungs: Annotated[
        str, typer.Option("--rungs", help="Shares of the steps at which the worse members end: 0.25,0.5.")
    ] = "",
    kept_ratio: Annotated[
        float | None, typer.Option("--keep", min=0, max=1, help="Share of members that goes on after a rung.")
    ] = None,
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow it to its end.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and start nothing.")] = False,
    json_wanted: Json = False,
    *,
    options: Options,
) -> None:
    """Search over settings: members train together, the worse ones end early, the best becomes the version.

    They are compared on rows that they do not train on: --validation-ratio holds some out, --validation names others.

    Example: trivium train sweep pairs.jsonl --try learning_rate=1e-4,3e-4 --rungs 0.25,0.5 --validation-ratio 0.1
    """
    axes = [*axes_of(tried or ()), *(axes_in(axes_file) if axes_file else ())]
    if not axes:
        raise typer.BadParameter("say what to search over: --try learning_rate=1e-4,3e-4", param_hint="--try")
    shares = _shares(rungs)
    # What is said wrongly is refused before anything is sent.
    said = fields_of(options)
    if not options.recipe:
        _check_evaluated(said)
    file = Path(data) if Path(data).is_file() else None
    named = model or (training_run.model_of(file) if file else "")
    if not named:
        raise typer.BadParameter("say which model takes the version: --model NAME", param_hint="--model")
    check_name("model", named)
    with Trivium() as client:
        dataset = training_run.uploaded(client, file, json_wanted).dataset if file else data
        order, notes = filled_fields(options, client, dataset)
        _check_evaluated(order)
        training_run.say_notes(notes, json_wanted)
        # What is said of a file is for programs too; all else stands beside what they read.
        told = training_run.check(client, dataset, order, json_wanted and file is not None, err=file is None)
        search: dict[str, Any] = {"axes": axes, "random_members": random, "rungs": shares, "kept_ratio": kept_ratio}
        wanted: dict[str, Any] = {"model": named, "dataset": dataset, **search, **order}
        estimate = training_run.estimated(client.sweeps.estimate, dry_run, **wanted)
        if dry_run:
            training_run.end_estimated(estimate, json_wanted, told)
            return
        training_run.say_estimate(estimate, json_wanted=False, err=True, told=told)
        begun = client.sweeps.create(**wanted)
        _say_begun(begun, json_wanted, told=estimate.warnings if estimate else ())
        if watch_it:
            _follow(client, begun.sweep, json_wanted)


def sweeps(
    sweep: Annotated[
        str,
        typer.Argument(
            help="Sweep id, or 4 or more characters that it alone begins or ends with; without one all are listed."
        ),
    ] = "",
    watch_it: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the sweep to its end.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the sweep and its members at their next step.")] = False,
    json_wanted: Json = False,
) -> None:
    """List searches over settings, or show, follow or end one.

    Example: trivium train sweeps 01a2 --watch
    """
    if not sweep and (cancel or watch_it):
        raise typer.BadParameter("say which sweep", param_hint="sweep")
    with Trivium() as client:
        if not sweep:
            _list(drawn(client.sweeps.list()), json_wanted)
            return
        sweep = sweep_id(client, sweep)
        if cancel:
            client.sweeps.cancel(sweep)
        if watch_it:
            _follow(client, sweep, json_wanted)
            return
        found = client.sweeps.get(sweep)
    if json_wanted:
        typer.echo(as_json(found))
        return
    show(lines_of(found), _COLUMNS, json_wanted=False, empty="It has no members.")
    typer.echo(standing(found))


def _check_evaluated(order: JobFields) -> None:
    """Raise BadParameter for an order that evaluates its members on nothing."""
    if not order.get("validation_dataset") and not order.get("settings", TrainingSettings()).validation_ratio:
        raise typer.BadParameter(
            "members are compared on rows that they do not train on: say --validation-ratio 0.1, or --validation DATASET",
            param_hint="--validation-ratio",
        )


def axes_of(tried: Iterable[str]) -> list[SweepAxis]:
    """What `--try` says, a setting's values together.  Raises BadParameter, and ValueError for a setting that is none."""
    found: dict[str, SweepAxis] = {}
    for said in tried:
        name, equals, text = (part.strip() for part in said.partition("="))
        if not equals or not text:
            raise typer.BadParameter(f"{said} is not NAME=VALUE,VALUE", param_hint="--try")
        known_name(name)
        if ".." in text:
            found[name] = SweepAxis(name, range=_range(text))
            continue
        # Of a setting that takes several names at once, one saying is one value.
        values = (text,) if is_list(name) else tuple(part.strip() for part in text.split(",") if part.strip())
        found[name] = SweepAxis(name, (*(found[name].values if name in found else ()), *values))
    return list(found.values())


def axes_in(file: Path) -> list[SweepAxis]:
    """What a file says: an object of settings, each with a list of values, or with `low`, `high` and `logarithmic`.

    Raises BadParameter, and ValueError for a setting that is none.
    """
    wrong = typer.BadParameter(
        f'{file} is no object of settings with values, {{"lora.rank": [8, 16], "learning_rate": {{"low": 1e-5, '
        '"high": 1e-3, "logarithmic": true}}',
        param_hint="--axes",
    )
    try:
        read = json.loads(file.read_text())
        return [_axis(name, values) for name, values in read.items()]
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError):
        raise wrong from None


def _axis(name: str, values: Any) -> SweepAxis:
    known_name(name)
    if isinstance(values, dict):
        return SweepAxis(
            name, range=SweepRange(float(values["low"]), float(values["high"]), bool(values.get("logarithmic")))
        )
    return SweepAxis(name, tuple(_text(value) for value in values))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _range(text: str) -> SweepRange:
    ends, colon, how = text.partition(":")
    low, _, high = ends.partition("..")
    try:
        if how not in ("", "log") or (colon and not how):
            raise ValueError
        return SweepRange(float(low), float(high), how == "log")
    except ValueError:
        raise typer.BadParameter(f"{text} is no range; say 1e-5..1e-3 or 1e-5..1e-3:log", param_hint="--try") from None


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise typer.BadParameter(f"{text!r} are no shares; say 0.25,0.5", param_hint="--rungs") from None


@dataclass(frozen=True, slots=True)
class MemberLine:
    """A member in the table, the best first: `place` is empty while not known."""

    place: str
    job: str
    state: str
    step: str
    values: str
    evaluation: str


def lines_of(sweep: Sweep) -> list[MemberLine]:
    """The members as a table shows them."""
    totals = {job.job: job.total_steps for job in sweep.members}
    return [
        MemberLine(
            place=str(member.rank or ""),
            job=member.job,
            state=f"ended at rung {member.ended_at_rung}" if member.ended_at_rung else member.state,
            step=f"{member.step}/{totals.get(member.job, 0)}",
            values=_values(member),
            evaluation=measured(dict(member.evaluation)),
        )
        for member in sweep.table
    ]


def _values(member: SweepMember) -> str:
    return ", ".join(f"{name}={value}" for name, value in member.values.items())


def standing(sweep: Sweep) -> str:
    """How a sweep stands, in a sentence."""
    best = next((member for member in sweep.table if member.job == sweep.best), None)
    if sweep.state == "succeeded" and best is not None:
        model = next((job.model for job in sweep.members if job.job == sweep.best), "")
        result = f" ({measured(dict(best.evaluation))})" if best.evaluation else ""
        return f"{model} has version {sweep.version}, of the member with {_values(best)}{result}."
    if sweep.state == "running":
        ended = sum(member.state in {"succeeded", "failed", "cancelled"} for member in sweep.table)
        return f"{sweep.sweep} is running: {ended} of {counted(len(sweep.table), 'member')} have ended."
    return f"{sweep.sweep} has {sweep.state}: {sweep.message or 'no member became a version'}"


def _list(found: Sequence[Sweep], json_wanted: bool) -> None:
    if json_wanted:
        typer.echo(as_json(found))
        return
    lines = [
        _Listed(each.sweep, each.state, len(each.table), each.best, each.version, each.create_time) for each in found
    ]
    empty = "There is no sweep. Start one with: trivium train sweep FILE --try learning_rate=1e-4,3e-4"
    show(lines, _LISTED, json_wanted=False, empty=empty)


@dataclass(frozen=True, slots=True)
class _Listed:
    sweep: str
    state: str
    members: int
    best: str
    version: str
    create_time: Any


def _say_begun(begun: Sweep, json_wanted: bool, told: Collection[str]) -> None:
    if json_wanted:
        typer.echo(as_json({"sweep": begun}))
        return
    training_run.say_warnings((warning for job in begun.members for warning in job.warnings), told)
    members, command = counted(len(begun.table), "member"), f"trivium train sweeps {begun.sweep}"
    typer.echo(
        f"sweep {begun.sweep} of {members}; interrupting this does not end it: "
        f"{command} --watch goes on with this, {command} --cancel ends it",
        err=True,
    )


def _follow(client: Trivium, name: str, json_wanted: bool) -> None:
    """Show the members until the sweep ends; exit code 1 unless it succeeded."""
    with goes_on("sweep", f"trivium train sweeps {name} --watch"):
        ended = _drawn(client, name) if sys.stderr.isatty() and not json_wanted else _told(client, name, json_wanted)
    if json_wanted:
        typer.echo(as_json({"sweep": ended}))
    else:
        typer.echo(standing(ended), err=ended.state != "succeeded")
        best = next((job for job in ended.members if job.job == ended.best), None)
        if ended.version and best is not None:
            say_next(best.model, best.alias, ended.version)
    if ended.state != "succeeded":
        raise typer.Exit(Exit.FAILURE)


def _drawn(client: Trivium, name: str) -> Sweep:
    """With the table on the terminal, drawn anew whenever a member got further."""
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        for now in client.sweeps.watch(name):
            width, height = console.size
            rows = table(lines_of(now), _COLUMNS, width)
            shown = [Text(line, no_wrap=True) for row in rows for line in row.splitlines()]
            live.update(Group(*shown[: max(height - _OTHER_ROWS, 1)], Text(standing(now))), refresh=True)
    return now


def _told(client: Trivium, name: str, json_wanted: bool) -> Sweep:
    """With a line for each member whose state changed, for logs."""
    before: dict[str, str] = {}
    for now in client.sweeps.watch(name):
        for line in lines_of(now) if not json_wanted else ():
            if before.get(line.job) != line.state:
                before[line.job] = line.state
                said = f"{line.job} ({line.values}) is {line.state} at step {line.step}"
                typer.echo(f"{said}: {line.evaluation}" if line.evaluation else said, err=True)
    return now
