"""`trivium keys`: who may call."""

from datetime import UTC, datetime, timedelta
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
        typer.Option(
            "--role",
            help="viewer, member, developer, owner, or admin of all tenants; each may do what those before it may.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", "-n", help="Name for people.")] = "",
    project: Annotated[str, typer.Option("--project", help="Project that what it uses counts for.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Narrows it, for instance inference or documents.read; may be repeated."),
    ] = None,
    user: Annotated[str, typer.Option("--user", help="User who holds it; it stops while the user is disabled.")] = "",
    days: Annotated[float | None, typer.Option("--days", min=0, help="Days that it works; default for ever.")] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant whose key it is; for an admin.")] = "",
    json_wanted: Json = False,
) -> None:
    """Create a key and print it, this once.

    Example: trivium keys create --role viewer --name dashboard
    """
    with Trivium() as client:
        key = client.keys.create(
            roles=role or ["developer"],
            display_name=name,
            tenant=tenant,
            project=project,
            scopes=scope or [],
            user=user,
            expires=None if days is None else datetime.now(UTC) + timedelta(days=days),
        )
    typer.echo(as_json(key) if json_wanted else key.secret)


@app.command("list", epilog=EPILOG)
def list_keys(
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant whose keys they are; for an admin.")] = "",
    json_wanted: Json = False,
) -> None:
    """List keys, without their secrets.

    Example: trivium keys list
    """
    with Trivium() as client:
        keys = drawn(client.keys.list(tenant))
    show(
        keys,
        ("key", "display_name", "roles", "scopes", "project", "expires", "last_used", "revoked"),
        json_wanted=json_wanted,
        empty="There is no key.",
    )


@app.command(epilog=EPILOG)
def rotate(
    key: Annotated[str, typer.Argument(help="Key id, as `keys list` shows it.")],
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0, max=720, help="How long the old key works still.")
    ] = 24,
    json_wanted: Json = False,
) -> None:
    """Make a key that may do what another may, and print it, this once.

    Example: trivium keys rotate 5f2c0a9be41d7763 --overlap-hours 2
    """
    with Trivium() as client:
        made = client.keys.rotate(key, overlap_seconds=int(overlap_hours * 3600))
    typer.echo(as_json(made) if json_wanted else made.secret)


@app.command(epilog=EPILOG)
def revoke(
    key: Annotated[str, typer.Argument(help="Key id, as `keys list` shows it.")], json_wanted: Json = False
) -> None:
    """Revoke a key; it is refused everywhere within a minute.

    Example: trivium keys revoke 5f2c0a9be41d7763
    """
    with Trivium() as client:
        show_one(client.keys.revoke(key), json_wanted=json_wanted)
