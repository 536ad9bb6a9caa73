"""`trivium models`: what can be asked, and which version each name means."""

from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.printing import Json, as_json, bars, drawn, show, show_one
from trivium_client.nouns import Alias

_DEFAULT_ALIAS = "prod"

app = typer.Typer(no_args_is_help=True, help="Models, versions and aliases.", epilog=EPILOG)


@app.command("list", epilog=EPILOG)
def list_models(json_wanted: Json = False) -> None:
    """List the names that `--model` accepts, and the version that each serves.

    Example: trivium models list
    """
    with Trivium() as client:
        served = client.models.served()
    show(served, ("name", "kind", "version"), json_wanted=json_wanted, empty="There is no model.")


@app.command(epilog=EPILOG)
def engines(json_wanted: Json = False) -> None:
    """List the generator's engines: the default base's, and those of your own full models once they were asked for.

    Example: trivium models engines
    """
    with Trivium() as client:
        found = client.models.engines()
    columns = ("engine", "state", "base", "version", "running", "waiting", "memory_bytes", "idle_seconds", "last_error")
    show(found, columns, json_wanted=json_wanted, empty="There is no engine.")


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
            _, version = _version_of(client, name)
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
    model, alias_id = _alias_of(name)
    with Trivium() as client:
        moved = client.models.set_alias(model, version, alias=alias_id, etag=etag)
        if wait:
            moved = client.models.wait_alias(model, alias_id)
    _end_moved(moved, json_wanted)


@app.command(epilog=EPILOG)
def rollback(
    name: Annotated[str, typer.Argument(help="NAME or NAME@ALIAS; without an alias, prod.")],
    wait: Annotated[bool, typer.Option(help="Return when it serves, or could not.")] = True,
    json_wanted: Json = False,
) -> None:
    """Give an alias the version that served before its last move; twice leads back.

    Example: trivium models rollback desk
    """
    model, alias_id = _alias_of(name)
    with Trivium() as client:
        moved = client.models.roll_back(model, alias_id)
        if wait:
            moved = client.models.wait_alias(model, alias_id)
    _end_moved(moved, json_wanted)


@app.command(epilog=EPILOG)
def moves(
    name: Annotated[str, typer.Argument(help="NAME or NAME@ALIAS; without an alias, prod.")], json_wanted: Json = False
) -> None:
    """List what an alias has served, newest first, and who moved it.

    Example: trivium models moves desk
    """
    model, alias_id = _alias_of(name)
    with Trivium() as client:
        made = drawn(client.models.alias_moves(model, alias_id))
    columns = ("number", "from_version", "to_version", "principal", "create_time")
    show(made, columns, json_wanted=json_wanted, empty="It has not served yet.")


@app.command(epilog=EPILOG)
def lineage(
    name: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION.")], json_wanted: Json = False
) -> None:
    """Show what a version was trained from, back to the base.

    Example: trivium models lineage desk@2
    """
    with Trivium() as client:
        model, version = _version_of(client, name)
        chain = client.models.lineage(version, model=model)
    columns = ("model", "number", "version", "kind", "job", "dataset_digest", "base_digest")
    show(chain, columns, json_wanted=json_wanted, empty="")


@app.command(epilog=EPILOG)
def export(
    name: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION.")],
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Where the files go.")],
    json_wanted: Json = False,
) -> None:
    """Write a version's files into a folder; a LoRA adapter in PEFT's layout.

    Example: trivium models export desk ./desk-adapter
    """
    with Trivium() as client, bars() as progress:
        model, version = _version_of(client, name)
        task = progress.add_task("downloading", total=None)
        written = client.models.download(
            version,
            folder,
            model=model,
            progress=lambda there, whole: progress.update(task, completed=there, total=whole),
        )
    show_one(written, json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def rm(
    name: Annotated[str, typer.Argument(help="NAME@VERSION; NAME@ALIAS with --alias; NAME with --all.")],
    of_alias: Annotated[bool, typer.Option("--alias", help="The alias; what it names stays.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="The model with all its versions.")] = False,
    json_wanted: Json = False,
) -> None:
    """Delete a version that nothing uses, an alias, or a whole model.

    Example: trivium models rm desk@2
    """
    model, _, reference = name.partition("@")
    if (everything and (reference or of_alias)) or not (everything or reference):
        raise typer.BadParameter("say NAME@VERSION, NAME@ALIAS --alias or NAME --all", param_hint="name")
    with Trivium() as client:
        if everything:
            client.models.delete(model)
        elif of_alias:
            client.models.delete_alias(model, reference)
        else:
            client.models.delete_version(reference, model=model)
    typer.echo(as_json({"deleted": name}) if json_wanted else f"Deleted {name}.")


def _alias_of(name: str) -> tuple[str, str]:
    """The model and the alias of NAME or NAME@ALIAS."""
    model, _, alias_id = name.partition("@")
    return model, alias_id or _DEFAULT_ALIAS


def _version_of(client: Trivium, name: str) -> tuple[str, str]:
    """The model of a name and the version that it means: that of its alias, or the one that is named."""
    model, _, reference = name.partition("@")
    served = {alias.alias: alias.serving_version for alias in client.models.aliases(model)}
    wanted = reference or _DEFAULT_ALIAS
    return model, served.get(wanted) or wanted


def _end_moved(moved: Alias, json_wanted: bool) -> None:
    show_one(moved, json_wanted=json_wanted)
    if moved.state == "failed":
        raise typer.Exit(Exit.REFUSED)
