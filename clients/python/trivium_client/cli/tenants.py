"""`trivium tenants`: customers of the deployment, for an admin."""

from enum import Enum
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.consent import require_consent
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, as_json, drawn, show_one
from trivium_client.cli.quotas import app as quota
from trivium_client.policies import ContentPolicy

app = typer.Typer(
    no_args_is_help=True,
    help="Tenants, for an admin.\n\nExample: trivium tenants create acme",
    epilog=EPILOG,
)
policy = typer.Typer(
    no_args_is_help=True,
    help="Content policies: a server of your own judges what a tenant asks and is answered.\n\n"
    "Example: trivium tenants policy set acme 127.0.0.1:7000",
    epilog=EPILOG,
)
app.add_typer(policy, name="policy")
app.add_typer(quota, name="quota")

Tenant = Annotated[str, typer.Argument(help="Id of the tenant.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Disable without asking.")]


class Answers(Enum):
    """How much of an answer is judged at a time."""

    PIECES = "pieces"
    WHOLE = "whole"
    NONE = "none"


@app.command(epilog=EPILOG)
def create(
    tenant: Annotated[str, typer.Argument(help="Id: lower-case letters, digits and hyphens.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Name for people.")] = "",
    json_wanted: Json = False,
) -> None:
    """Create a tenant; its first key is made with `trivium keys create --tenant`.

    Example: trivium tenants create acme --name "Acme Ferries"
    """
    with Trivium() as client:
        made = client.tenants.create(tenant, name)
    typer.echo(as_json({"tenant": made}) if json_wanted else made)


@app.command("list", epilog=EPILOG)
def list_tenants(json_wanted: Json = False) -> None:
    """List tenants.

    Example: trivium tenants list
    """
    with Trivium() as client:
        tenants = drawn(client.tenants.list())
    typer.echo(as_json(tenants) if json_wanted else "\n".join(tenants))


@app.command(epilog=EPILOG)
def disable(tenant: Tenant, yes: Yes = False) -> None:
    """Refuse all of a tenant's keys, users and tokens, within a minute; what it owns stays.  Nothing enables it again.

    Example: trivium tenants disable acme
    """
    require_consent(f"Disable {tenant} for good?", "--yes", yes=yes)
    with Trivium() as client:
        typer.echo(client.tenants.disable(tenant))


@policy.command(epilog=EPILOG)
def show(tenant: Tenant, json_wanted: Json = False) -> None:
    """Show a tenant's policy.

    Example: trivium tenants policy show acme
    """
    with Trivium() as client:
        found = client.policies.get(tenant)
    if found is None:
        typer.echo("null" if json_wanted else "Nobody judges what this tenant asks and is answered.")
    else:
        show_one(found, json_wanted=json_wanted)


@policy.command("set", epilog=EPILOG)
def set_policy(
    tenant: Tenant,
    endpoint: Annotated[str, typer.Argument(help="host:port of a server of trivium.policy.v1.PolicyService.")],
    answers: Annotated[
        Answers, typer.Option("--answers", help="pieces (a sentence at a time), whole or none.")
    ] = Answers.PIECES,
    timeout_ms: Annotated[int, typer.Option("--timeout-ms", min=1, help="Most milliseconds for one verdict.")] = 2000,
    fail_open: Annotated[
        bool, typer.Option("--fail-open", help="Let pass what the server did not judge; it is refused otherwise.")
    ] = False,
    skip_prompts: Annotated[bool, typer.Option("--skip-prompts", help="Judge answers alone.")] = False,
    json_wanted: Json = False,
) -> None:
    """Have a server judge what a tenant asks and is answered, within ten seconds.

    Example: trivium tenants policy set acme 127.0.0.1:7000 --answers whole
    """
    wanted = ContentPolicy(
        endpoint=endpoint,
        timeout_ms=timeout_ms,
        fail_open=fail_open,
        prompts=not skip_prompts,
        answers=answers.value,
    )
    with Trivium() as client:
        show_one(client.policies.set(tenant, wanted), json_wanted=json_wanted)


@policy.command("rm", epilog=EPILOG)
def remove(tenant: Tenant) -> None:
    """End a tenant's policy: nothing is judged then.

    Example: trivium tenants policy rm acme
    """
    with Trivium() as client:
        client.policies.remove(tenant)
    typer.echo("Nobody judges what this tenant asks and is answered.")
