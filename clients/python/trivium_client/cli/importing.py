"""`trivium models import` and `merge`: folders become versions, and an adapter with its base a full model."""

from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.naming import version_of
from trivium_client.cli.printing import Json, bars, show_one
from trivium_client.importing import kind_of
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
    """Make a version of a LoRA adapter in PEFT's layout, or of a full model as transformers saves it.

    Example: trivium models import ./my-adapter --name desk
    """
    model, wanted = (name, source) if folder is None else (source, str(folder))
    if not model or (name and folder is not None):
        raise typer.BadParameter("say FOLDER --name NAME", param_hint="--name")
    with Trivium() as client:
        if wanted.startswith(_REMOTE):
            show_one(_fetched(client, wanted, model), json_wanted=json_wanted)
            return
        path = Path(wanted)
        if not path.is_dir():
            raise typer.BadParameter(
                f"{wanted} is no folder, and begins with neither hf: nor file:", param_hint="source"
            )
        digest = base_digest or (_base_digest(client, base) if kind_of(path) == "lora" else "")
        show_one(_uploaded(client, model, path, digest), json_wanted=json_wanted)


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
    show_one(merged, json_wanted=json_wanted)


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


def _base_digest(client: Trivium, base: str) -> str:
    """The digest of base:NAME; of what serves when none is named."""
    if not base:
        return next(engine.base_digest for engine in client.models.engines())
    return client.models.base_digest(base)
