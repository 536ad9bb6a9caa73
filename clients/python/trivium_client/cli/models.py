"""`trivium models`: what can be asked, and which version each name means."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from trivium_client import NotFoundError, Trivium
from trivium_client.cli import dependents, gates
from trivium_client.cli.consent import Yes, require_consent, require_somebody
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.naming import alias_of, end_moved, standing, version_of
from trivium_client.cli.printing import Json, as_json, bars, counted, document, drawn, say, show, show_one
from trivium_client.nouns import Alias

Why = Annotated[str, typer.Option("--why", help="Why, for those who read its moves.")]

app = typer.Typer(
    no_args_is_help=True, help="Models, versions and aliases.\n\nExample: trivium models list", epilog=EPILOG
)
app.add_typer(gates.app, name="gate")


@app.command("list", epilog=EPILOG)
def list_models(
    everything: Annotated[
        bool, typer.Option("--all", help="Every model that you have, also one that no alias serves.")
    ] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="As --all, with those that can be restored.")] = False,
    json_wanted: Json = False,
) -> None:
    """List the names that `--model` accepts with the version that each serves, then the newest version of your encoders.

    An encoder's name is one that `docs reembed` takes (role embedder) or `docs settings --rerank-model` (reranker).

    Example: trivium models list --all
    """
    with Trivium() as client:
        if everything or deleted:
            models = drawn(client.models.list(show_deleted=deleted))
            columns = ["model", "task", "keep_last", "keep_days", "create_time", "description"]
            columns += ["purge_time"] if deleted else []
            empty = "There is no model. Make one with: trivium train start, or trivium models import"
            show(models, columns, json_wanted=json_wanted, empty=empty)
            return
        # Of encoders the registry says more: what role each has.
        served = [
            _Named(it.name, it.kind, it.version, it.base_digest)
            for it in client.models.served()
            if it.kind != "encoder"
        ]
        encoders = list(_encoders(client))
    columns = ["name", "kind", "role", "version"] if encoders else ["name", "kind", "version"]
    show([*served, *encoders], columns, json_wanted=json_wanted, empty="There is no model.")


@dataclass(frozen=True, slots=True)
class _Named:
    """What can be named, and for what: text is asked of it, or texts are compared by it (`role`)."""

    name: str
    kind: str
    version: str
    base_digest: str
    role: str = ""


def _encoders(client: Trivium) -> Iterator[_Named]:
    """The newest version of each model of encoders: an alias is not needed to use one."""
    seen = set()
    for found in client.models.search(kind="encoder"):
        it = found.version
        if it.model not in seen:
            seen.add(it.model)
            yield _Named(f"{it.model}@{it.number}", it.kind, it.version, it.base_digest, it.role)


@app.command("show", epilog=EPILOG)
def show_model(
    name: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION.")],
    deleted: Annotated[bool, typer.Option("--deleted", help="Versions that can be restored, too.")] = False,
    json_wanted: Json = False,
) -> None:
    """Show a model with its card, versions and aliases, or one version with its lineage and measurements.

    Example: trivium models show desk
    """
    model, _, reference = name.partition("@")
    with Trivium() as client:
        if reference:
            _, version = version_of(client, name)
            show_one(client.models.version(version, model=model), json_wanted=json_wanted)
            return
        described = client.models.get(model)
        versions = drawn(client.models.versions(model, show_deleted=deleted))
        aliases_now = drawn(client.models.aliases(model))
    if json_wanted:
        typer.echo(as_json({"model": described, "versions": versions, "aliases": aliases_now}))
        return
    show_one(replace(described, card=""), json_wanted=False)
    if described.card:
        typer.echo(f"\n{document(described.card)}\n")
    # All versions of a model are of one family: adapters have ranks, encoders what they make.
    facts = "role" if any(version.role for version in versions) else "rank"
    of_version = ["number", "version", "kind", facts, "tags", "job", "trained_tokens", "create_time"]
    of_version += ["purge_time"] if deleted else []
    show(versions, of_version, json_wanted=False, empty="It has no version.")
    of_alias = ("alias", "state", "serving_version", "target_version", "reason")
    show(aliases_now, of_alias, json_wanted=False, empty="It has no alias.")
    for shown in aliases_now:
        if shown.canaries:
            typer.echo(f"canaries of {shown.alias}")
            show(shown.canaries, ("number", "percent", "state", "version", "reason"), json_wanted=False, empty="")


@app.command(epilog=EPILOG)
def alias(
    name: Annotated[str, typer.Argument(help="NAME or NAME@ALIAS; without an alias, prod.")],
    version: Annotated[str, typer.Argument(help="Number or digest of the version to serve.")],
    etag: Annotated[str, typer.Option("--etag", help="Refuse when the alias changed since; new: must not exist.")] = "",
    why: Why = "",
    wait: Annotated[bool, typer.Option(help="Return when it serves, or could not.")] = True,
    json_wanted: Json = False,
) -> None:
    """Move an alias to a version that passes its gates; it serves as soon as a generator is ready for it, an encoder at once.

    Gates are asked of every version, also of one that served before; `rollback` goes past them.

    Example: trivium models alias desk 2
    """
    model, alias_id = alias_of(name)
    with Trivium() as client:
        moved = client.models.set_alias(model, version, alias=alias_id, etag=etag, reason=why)
        end_moved(_settled(client, moved) if wait else moved, json_wanted)


@app.command(epilog=EPILOG)
def rollback(
    name: Annotated[str, typer.Argument(help="NAME or NAME@ALIAS; without an alias, prod.")],
    why: Why = "",
    wait: Annotated[bool, typer.Option(help="Return when it serves, or could not.")] = True,
    json_wanted: Json = False,
) -> None:
    """Give an alias the version that served before its last move; twice leads back.

    Gates are not asked, but for those that were added with --rollbacks.

    Example: trivium models rollback desk
    """
    model, alias_id = alias_of(name)
    with Trivium() as client:
        moved = client.models.roll_back(model, alias_id, reason=why)
        end_moved(_settled(client, moved) if wait else moved, json_wanted)


def _settled(client: Trivium, moved: Alias) -> Alias:
    """The alias once its target serves or has failed; says what is waited for."""
    if moved.state == "pending":
        say(f"{standing(moved)} Interrupting this does not undo it.", err=True)
    return client.models.wait_alias(moved.model, moved.alias)


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
        model, version = version_of(client, name)
        task = progress.add_task("downloading", total=None)
        written = client.models.download(
            version,
            folder,
            model=model,
            progress=lambda there, whole: progress.update(task, completed=there, total=whole),
        )
    if json_wanted:
        typer.echo(as_json(written))
        return
    size_bytes = sum(file.size_bytes for file in written.files)
    files = counted(len(written.files), "file")
    say(f"{folder} holds {written.model}@{written.number}, {written.version}: {files}, {size_bytes:,} bytes.")


@app.command(epilog=EPILOG)
def rm(
    name: Annotated[str, typer.Argument(help="NAME@VERSION; NAME@ALIAS with --alias; NAME with --all.")],
    of_alias: Annotated[bool, typer.Option("--alias", help="The alias; what it names stays.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="The model with all its versions.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="For good at once, also what was deleted before.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while a generator holds it ready.")] = False,
    yes: Yes = False,
    why: Why = "",
    json_wanted: Json = False,
) -> None:
    """Delete a version that nothing uses, an alias, or a whole model; `restore` brings versions and models back.

    --purge asks first: nothing brings those back. So it does of an encoder that collections of yours are embedded or
    reranked by, which it names.

    Example: trivium models rm desk@2
    """
    model, _, reference = name.partition("@")
    if (everything and (reference or of_alias)) or not (everything or reference):
        raise typer.BadParameter("say NAME@VERSION, NAME@ALIAS --alias or NAME --all", param_hint="name")
    if purge:
        require_somebody("--purge", yes=yes)
    with Trivium() as client:
        look = dependents.of_alias if of_alias else dependents.of_versions
        broken = dependents.told(client, look(client, model, reference))
        if purge or broken:
            lasting = " for good" if purge else " all the same"
            require_consent(f"Delete {name}{lasting}?", "--purge" if purge else "name", yes=yes)
        if everything:
            client.models.delete(model, purge=purge, force=force, reason=why)
        elif of_alias:
            client.models.delete_alias(model, reference, reason=why)
        else:
            _delete_version(client, model, reference, purge=purge, force=force, reason=why)
    typer.echo(as_json({"deleted": name}) if json_wanted else f"Deleted {name}.")


def _delete_version(client: Trivium, model: str, version: str, **how: Any) -> None:
    try:
        client.models.delete_version(version, model=model, **how)
    except NotFoundError:
        if any(alias.alias == version for alias in client.models.aliases(model)):
            raise typer.BadParameter(f"{version} is an alias; say --alias to delete it", param_hint="name") from None
        raise
