"""`trivium audit`: who changed what."""

from datetime import datetime
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, as_json, drawn, show

app = typer.Typer(
    no_args_is_help=True,
    help="What was changed in the tenant, in any service, and by whom.\n\nExample: trivium audit list --action alias.",
    epilog=EPILOG,
)

Tenant = Annotated[
    str, typer.Option("--tenant", help="Another tenant, for an admin; _system is what services changed for none.")
]


@app.command("list", epilog=EPILOG)
def list_events(
    principal: Annotated[str, typer.Option("--principal", help="Only those of this key or person.")] = "",
    action: Annotated[
        str, typer.Option("--action", help="Only those that begin so, for instance key. or alias.set.")
    ] = "",
    resource: Annotated[str, typer.Option("--resource", help="Only those on what begins so.")] = "",
    since: Annotated[datetime | None, typer.Option("--since", help="Only those from this time on.")] = None,
    until: Annotated[datetime | None, typer.Option("--until", help="Only those before this time.")] = None,
    tenant: Tenant = "",
    json_wanted: Json = False,
) -> None:
    """List changes, newest first.

    Example: trivium audit list --action key. --since 2026-01-01
    """
    with Trivium() as client:
        found = drawn(
            client.audit.list(
                principal=principal, action=action, resource=resource, start=since, end=until, tenant=tenant
            )
        )
    show(
        found,
        ("sequence", "time", "principal", "action", "resource", "outcome"),
        json_wanted=json_wanted,
        empty="Nothing was changed.",
    )


@app.command(epilog=EPILOG)
def verify(
    known: Annotated[str, typer.Option("--known", help="SEQUENCE:HASH, as an earlier `audit verify` printed it.")] = "",
    tenant: Tenant = "",
    json_wanted: Json = False,
) -> None:
    """Compute the log again; exit 1 where an event was changed, taken out or moved.

    Example: trivium audit verify
    """
    sequence, _, digest = known.partition(":")
    if known and not (sequence.isdigit() and len(digest) == 64):
        raise typer.BadParameter("is SEQUENCE:HASH, with a hash of 64 hexadecimal digits", param_hint="--known")
    with Trivium() as client:
        verdict = client.audit.verify(known_sequence=int(sequence or 0), known_hash=digest, tenant=tenant)
    whole = f"{verdict.events} events, whole; note {verdict.head_sequence}:{verdict.head_hash}"
    typer.echo(as_json(verdict) if json_wanted else whole if verdict.intact else verdict.problem)
    if not verdict.intact:
        raise typer.Exit(1)
