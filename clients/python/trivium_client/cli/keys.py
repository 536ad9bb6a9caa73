"""`trivium keys`: who may call."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, as_json, drawn, show, show_one

app = typer.Typer(
    no_args_is_help=True, help="API keys of the tenant.\n\nExample: trivium keys create --role viewer", epilog=EPILOG
)


@app.command(epilog=EPILOG)
def create(
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="viewer, member, developer or owner; each may do what those before it may."),
    ] = None,
    name: Annotated[str, typer.Option("--name", "-n", help="Name for people.")] = "",
    json_wanted: Json = False,
) -> None:
    """Create a key and print it, this once.

    Example: trivium keys create --role viewer --name dashboard
    """
    with Trivium() as client:
        key = client.keys.create(roles=role or ["developer"], display_name=name)
    typer.echo(as_json(key) if json_wanted else key.secret)


@app.command("list", epilog=EPILOG)
def list_keys(json_wanted: Json = False) -> None:
    """List keys, without their secrets.

    Example: trivium keys list
    """
    with Trivium() as client:
        keys = drawn(client.keys.list())
    show(keys, ("key", "display_name", "roles", "revoked"), json_wanted=json_wanted, empty="There is no key.")


@app.command(epilog=EPILOG)
def revoke(
    key: Annotated[str, typer.Argument(help="Key id, as `keys list` shows it.")], json_wanted: Json = False
) -> None:
    """Revoke a key; it is refused everywhere within a minute.

    Example: trivium keys revoke 5f2c
    """
    with Trivium() as client:
        show_one(client.keys.revoke(key), json_wanted=json_wanted)
