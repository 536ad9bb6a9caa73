"""`trivium models`: what can be asked, and which version each name means."""

from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.printing import Json, as_json, drawn, show, show_one

app = typer.Typer(no_args_is_help=True, help="Models, versions and aliases.", epilog=EPILOG)


@app.command("list", epilog=EPILOG)
def list_models(json_wanted: Json = False) -> None:
    """List the names that `--model` accepts, and the version that each serves.

    Example: trivium models list
    """
    with Trivium() as client:
        served = client.models.served()
    show(served, ("name", "kind", "version"), json_wanted=json_wanted, empty="There is no model.")


@app.command("show", epilog=EPILOG)
def show_model(
    name: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION.")], json_wanted: Json = False
) -> None:
    """Show a model with its versions and aliases, or one version with its lineage.

    Example: trivium models show desk
    """
    model, _, reference = name.partition("@")
    with Trivium() as client:
        if reference:
            aliases = {alias.alias: alias for alias in client.models.aliases(model)}
            version = aliases[reference].serving_version if reference in aliases else reference
            show_one(client.models.version(version, model=model), json_wanted=json_wanted)
            return
        described = client.models.get(model)
        versions, aliases_now = drawn(client.models.versions(model)), drawn(client.models.aliases(model))
    if json_wanted:
        typer.echo(as_json({"model": described, "versions": versions, "aliases": aliases_now}))
        return
    show_one(described, json_wanted=False)
    of_version = ("number", "version", "kind", "rank", "job", "trained_tokens", "create_time")
    show(versions, of_version, json_wanted=False, empty="It has no version.")
    of_alias = ("alias", "state", "serving_version", "target_version", "reason")
    show(aliases_now, of_alias, json_wanted=False, empty="It has no alias.")


@app.command(epilog=EPILOG)
def alias(
    name: Annotated[str, typer.Argument(help="NAME or NAME@ALIAS; without an alias, prod.")],
    version: Annotated[str, typer.Argument(help="Number or digest of the version to serve.")],
    etag: Annotated[str, typer.Option("--etag", help="Refuse when the alias changed since; new: must not exist.")] = "",
    wait: Annotated[bool, typer.Option(help="Return when it serves, or could not.")] = True,
    json_wanted: Json = False,
) -> None:
    """Move an alias to a version; it serves as soon as a generator is ready for it.

    Example: trivium models alias desk 2
    """
    model, _, wanted = name.partition("@")
    with Trivium() as client:
        moved = client.models.set_alias(model, version, alias=wanted or "prod", etag=etag)
        if wait:
            moved = client.models.wait_alias(model, wanted or "prod")
    show_one(moved, json_wanted=json_wanted)
    if moved.state == "failed":
        raise typer.Exit(Exit.REFUSED)


@app.command(epilog=EPILOG)
def add(
    model: Annotated[str, typer.Argument(help="Model that takes the version.")],
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A LoRA adapter in PEFT's layout.")],
    base_digest: Annotated[str, typer.Option("--base-digest", help="Base it belongs to; default what serves.")] = "",
    json_wanted: Json = False,
) -> None:
    """Upload an adapter (adapter_config.json, adapter_model.safetensors) as a new version.

    Example: trivium models add desk ./my-adapter
    """
    with Trivium() as client:
        base = base_digest or next(engine.base_digest for engine in client.models.engines())
        show_one(client.models.add_version(model, folder, base_digest=base), json_wanted=json_wanted)
