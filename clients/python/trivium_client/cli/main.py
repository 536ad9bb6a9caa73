"""Puts the commands together, and turns what a call raises into one line and an exit code."""

import sys
from importlib.metadata import entry_points

import typer

from trivium_client.cli import (
    asking,
    audit,
    batches,
    data,
    docs,
    files,
    finding,
    governance,
    importing,
    keys,
    models,
    projects,
    replaying,
    serving,
    tenants,
    train,
    usage,
    users,
)
from trivium_client.cli.exits import EPILOG, Exit, exit_of
from trivium_client.cli.refusals import rows_refused, said_of_rows
from trivium_client.errors import TriviumError

app = typer.Typer(
    name="trivium",
    no_args_is_help=True,
    help="Adapt a language model three ways, serve the results, and compare them.\n\nExample: trivium chat 'Name a ferry.'",
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command(epilog=EPILOG)(asking.ask)
app.command(epilog=EPILOG)(asking.chat)
app.command(epilog=EPILOG)(replaying.replay)
app.add_typer(docs.app, name="docs")
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
for part in (governance.app, finding.app, serving.app):
    models.app.add_typer(part)
models.app.command("import", epilog=EPILOG)(importing.import_version)
models.app.command(epilog=EPILOG)(importing.merge)
app.add_typer(models.app, name="models")
app.add_typer(files.app, name="files")
app.add_typer(batches.app, name="batches")
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")
app.add_typer(projects.app, name="projects")
app.add_typer(tenants.app, name="tenants")
app.add_typer(usage.app, name="usage")
app.add_typer(users.app, name="users")


def main() -> None:
    """Run the command line and exit with a code of `Exit`."""
    _join_extensions()
    try:
        app()
    except TriviumError as error:
        _complain(error)
        sys.exit(exit_of(error))
    except (ValueError, OSError) as error:
        typer.echo(f"trivium: {error}", err=True)
        sys.exit(Exit.REFUSED)


def _join_extensions() -> None:
    for point in entry_points(group="trivium.cli"):
        app.add_typer(point.load())


def _complain(error: TriviumError) -> None:
    malformed = error.reason == "DATASET_MALFORMED"
    typer.echo(f"trivium: {said_of_rows(error) if malformed else error.message}", err=True)
    if malformed:
        for line in rows_refused(error):
            typer.echo(f"  {line}", err=True)
    else:
        for violation in error.violations:
            if violation.description not in error.message:
                typer.echo(f"  {violation.field}: {violation.description}", err=True)
    for note in getattr(error, "__notes__", ()):
        typer.echo(f"  {note}", err=True)
    if error.request_id:
        typer.echo(f"  request {error.request_id} ({error.reason})", err=True)
