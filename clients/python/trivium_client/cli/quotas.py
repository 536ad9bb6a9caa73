"""`trivium tenants quota`: how much a tenant, one of its keys, models or projects may ask."""

from dataclasses import fields, replace
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, as_json
from trivium_client.quotas import Limit, Limits, Quota

app = typer.Typer(
    no_args_is_help=True,
    help="Limits of what a tenant asks, for an admin.\n\n"
    "Example: trivium tenants quota set acme --requests-per-minute 600",
    epilog=EPILOG,
)

Tenant = Annotated[str, typer.Argument(help="Id of the tenant.")]


@app.command(epilog=EPILOG)
def show(tenant: Tenant, json_wanted: Json = False) -> None:
    """Show a tenant's limits.

    Example: trivium tenants quota show acme
    """
    with Trivium() as client:
        _tell(client.quotas.get(tenant), json_wanted=json_wanted)


@app.command("set", epilog=EPILOG)
def set_limits(
    tenant: Tenant,
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="Requests a minute; 0 for no limit.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=0, help="Prompt and generated tokens a minute; 0 for no limit.")
    ] = None,
    concurrent_requests: Annotated[int | None, typer.Option(min=0, help="Requests at once; 0 for no limit.")] = None,
    tokens_per_month: Annotated[
        int | None, typer.Option(min=0, help="Tokens a calendar month (UTC); 0 for no limit.")
    ] = None,
    micros_per_month: Annotated[
        int | None, typer.Option(min=0, help="Millionths of a unit of money a calendar month; 0 for no limit.")
    ] = None,
    weight: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Share under overload, beside the other tenants' weights; of who holds an assertion within ten minutes.",
        ),
    ] = None,
    key: Annotated[str, typer.Option("--key", help="Of this key alone, by its id.")] = "",
    model: Annotated[str, typer.Option("--model", help="Of this model alone, without alias or version.")] = "",
    project: Annotated[str, typer.Option("--project", help="Of this project alone.")] = "",
    json_wanted: Json = False,
) -> None:
    """Change the limits that are given, within ten seconds; the others stay as they are.

    Example: trivium tenants quota set acme --requests-per-minute 600 --tokens-per-month 50000000
    Example: trivium tenants quota set acme --model desk --concurrent-requests 4
    """
    if sum(map(bool, (key, model, project))) > 1:
        raise typer.BadParameter("one limit is of one of them", param_hint="--key, --model, --project")
    if weight is not None and (key or model or project):
        raise typer.BadParameter("is the tenant's", param_hint="--weight")
    given = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_requests": concurrent_requests,
        "tokens_per_month": tokens_per_month,
        "micros_per_month": micros_per_month,
    }
    changes = {name: value or None for name, value in given.items() if value is not None}
    with Trivium() as client:
        quota = client.quotas.get(tenant)
        if key or model or project:
            quota = _with_limit(quota, Limit(Limits(), key, model, project), changes)
        else:
            quota = replace(quota, limits=replace(quota.limits, **changes), weight=weight or quota.weight)
        _tell(client.quotas.set(tenant, quota), json_wanted=json_wanted)


def _with_limit(quota: Quota, whose: Limit, changes: dict[str, int | None]) -> Quota:
    same = [it for it in quota.of if replace(it, limits=Limits()) == whose]
    changed = replace(whose, limits=replace(same[0].limits if same else Limits(), **changes))
    others = tuple(it for it in quota.of if it not in same)
    # One that limits nothing is none.
    return replace(quota, of=others if changed.limits == Limits() else (*others, changed))


def _tell(quota: Quota, *, json_wanted: bool) -> None:
    if json_wanted:
        typer.echo(as_json(quota))
        return
    lines = [*_lines(quota.limits, "")]
    if quota.weight is not None:
        lines.append(f"weight: {quota.weight}")
    for it in quota.of:
        lines += _lines(it.limits, next(f" of the {name} {value}" for name, value in _whose(it) if value))
    for price in quota.prices:
        of = price.model or "every other model"
        lines.append(
            f"price of {of}: {price.prompt_micros} micros a million prompt tokens, {price.completion_micros} generated"
        )
    typer.echo("\n".join(lines or ["There is no limit."]))


def _whose(limit: Limit) -> list[tuple[str, str]]:
    return [("key", limit.key), ("model", limit.model), ("project", limit.project)]


def _lines(limits: Limits, whose: str) -> list[str]:
    found = [(it.name, getattr(limits, it.name)) for it in fields(limits)]
    return [f"{name.replace('_', ' ')}{whose}: {value}" for name, value in found if value is not None]
