"""`trivium models import` and `merge`: folders become versions, and an adapter with its base a full model."""

from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.naming import version_of
from trivium_client.cli.printing import Json, as_json, bars, say
from trivium_client.model_folders import kind_of
from trivium_client.nouns import Version

_REMOTE = ("hf:", "file:")


def import_version(
    source: Annotated[str, typer.Argument(help="Folder, hf:ORG/NAME@REVISION, file:PATH of the registry's machine.")],
    folder: Annotated[Path | None, typer.Argument(help="The folder, when SOURCE is the model's name.")] = None,
    name: Annotated[str, typer.Option("--name", "-m", help="Model that takes the version.")] = "",
    base: Annotated[str, typer.Option("--base", help="Base of an adapter, base:NAME; default what serves.")] = "",
    base_digest: Annotated[str, typer.Option("--base-digest", help="The same by its digest.")] = "",
    json_wanted: Json = False,
) -> None:
    """Make a version of a LoRA adapter in PEFT's layout, of a full model or of an encoder as transformers saves it.

    An encoder is an embedder (vectors: the mean over a text's tokens) or a reranker (a classifier of one label).

    Example: trivium models import ./my-adapter --name desk
    """
    model, wanted = (name, source) if folder is None else (source, str(folder))
    if not model or (name and folder is not None):
        raise typer.BadParameter("say FOLDER --name NAME", param_hint="--name")
    with Trivium() as client:
        if wanted.startswith(_REMOTE):
            if base or base_digest:
                raise typer.BadParameter("only an adapter has a base", param_hint="--base")
            _say(_fetched(client, wanted, model), json_wanted)
            return
        path = Path(wanted)
        if not path.is_dir():
            raise typer.BadParameter(
                f"{wanted} is no folder, and begins with neither hf: nor file:", param_hint="source"
            )
        if kind_of(path) == "lora":
            digest = base_digest or client.models.base_digest(base or "base")
        elif base or base_digest:
            raise typer.BadParameter("only an adapter has a base", param_hint="--base")
        else:
            digest = ""
        _say(_uploaded(client, model, path, digest), json_wanted)


def merge(
    name: Annotated[str, typer.Argument(help="Adapter, NAME@VERSION; NAME or NAME@ALIAS for what serves.")],
    into: Annotated[str, typer.Option("--into", help="Model that takes the full version.")],
    json_wanted: Json = False,
) -> None:
    """Bake an adapter into its base: a full model that needs no adapter, also of one that no engine loads.

    Example: trivium models merge desk@2 --into desk-full
    """
    with Trivium() as client, bars() as progress:
        model, version = version_of(client, name)
        task = progress.add_task("merging", total=None)
        merged = client.models.merge(
            version, model=model, into=into, said=lambda text: progress.update(task, description=f"merging: {text}")
        )
    _say(merged, json_wanted)


def _say(made: Version, json_wanted: bool) -> None:
    """What was made, in a line, and beside it what can be done with it."""
    if json_wanted:
        typer.echo(as_json(made))
        return
    say(f"{made.model}@{made.number} is {made.version}, {_called(made)}.")
    if made.role == "embedder":
        say(f"Collections that it embeds name it {made.base_digest}.")
    if made.unservable_reason:
        typer.echo(f"No engine loads it as it is: {made.unservable_reason}.", err=True)
        typer.echo(f"Make a full model of it: trivium models merge {made.model}@{made.number} --into NAME", err=True)
    else:
        typer.echo(_used(made), err=True)


def _used(made: Version) -> str:
    name = f"{made.model}@{made.number}"
    if made.kind != "encoder":
        return f"Serve it with: trivium models alias {made.model} {made.number}"
    if made.role == "embedder":
        return f"Search a collection by it with: trivium docs reembed COLLECTION {name}"
    return f"Rerank a collection's searches by it with: trivium docs settings COLLECTION --rerank --rerank-model {name}"


def _called(made: Version) -> str:
    if made.kind == "encoder":
        return "an encoder, an embedder" if made.role == "embedder" else f"an encoder, a {made.role}"
    return "a full model" if made.kind == "full" else f"an adapter of rank {made.rank}"


def _fetched(client: Trivium, uri: str, model: str) -> Version:
    with bars() as progress:
        task = progress.add_task("importing", total=None)
        return client.models.import_model(
            uri, model, said=lambda text: progress.update(task, description=f"importing: {text}")
        )


def _uploaded(client: Trivium, model: str, folder: Path, base_digest: str) -> Version:
    with bars() as progress:
        task = progress.add_task("uploading", total=None)
        return client.models.add_folder(
            model,
            folder,
            base_digest=base_digest,
            progress=lambda there, whole: progress.update(task, completed=there, total=whole),
        )
