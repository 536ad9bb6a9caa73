"""`trivium projects`: what keys and their use are grouped by."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, drawn, show, show_one

app = typer.Typer(
    no_args_is_help=True,
    help="Projects of the tenant: labels of keys and of what they use.\n\nExample: trivium projects create intranet",
    epilog=EPILOG,
)


@app.command(epilog=EPILOG)
def create(
    project: Annotated[str, typer.Argument(help="Id: lower-case letters, digits and hyphens.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Name for people.")] = "",
    json_wanted: Json = False,
) -> None:
    """Create a project.

    Example: trivium projects create intranet --name "The intranet"
    """
    with Trivium() as client:
        show_one(client.projects.create(project, name), json_wanted=json_wanted)


@app.command("list", epilog=EPILOG)
def list_projects(json_wanted: Json = False) -> None:
    """List projects.

    Example: trivium projects list
    """
    with Trivium() as client:
        projects = drawn(client.projects.list())
    show(projects, ("project", "display_name"), json_wanted=json_wanted, empty="There is no project.")


@app.command("rm", epilog=EPILOG)
def remove(project: Annotated[str, typer.Argument(help="Id, as `projects list` shows it.")]) -> None:
    """Delete a project whose keys are revoked; what was recorded under its name stays.

    Example: trivium projects rm intranet
    """
    with Trivium() as client:
        client.projects.delete(project)
