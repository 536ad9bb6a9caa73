"""How the commands on models read names, and how they say where an alias stands."""

import typer

from trivium_client import NotFoundError, PreconditionError, Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import as_json, say
from trivium_client.nouns import Alias

DEFAULT_ALIAS = "prod"


def alias_of(name: str) -> tuple[str, str]:
    """The model and the alias of NAME or NAME@ALIAS."""
    model, _, alias_id = name.partition("@")
    return model, alias_id or DEFAULT_ALIAS


def version_of(client: Trivium, name: str) -> tuple[str, str]:
    """The model of a name and the version that it means: that of its alias, or the one that is named.

    Raises NotFoundError for a model without the alias that goes without saying, PreconditionError for an alias that
    serves nothing yet.
    """
    model, _, reference = name.partition("@")
    wanted = reference or DEFAULT_ALIAS
    alias = next((alias for alias in client.models.aliases(model) if alias.alias == wanted), None)
    if alias is None and reference:
        return model, reference
    if alias is None:
        model = client.models.get(model).model
        raise NotFoundError(f"{model} has no alias {wanted}; say which version: {model}@NUMBER")
    if not alias.serving_version:
        why = f" ({alias.reason})" if alias.reason else ""
        raise PreconditionError(f"{model}@{wanted} serves nothing yet{why}; say which version: {model}@NUMBER")
    return model, alias.serving_version


def version_named(name: str) -> tuple[str, str]:
    """The model and the version of NAME@VERSION.  Raises BadParameter for a name without a version."""
    model, _, reference = name.partition("@")
    if not reference:
        raise typer.BadParameter("say which version: NAME@NUMBER", param_hint="name")
    return model, reference


def dataset_digest(client: Trivium, given: str) -> str:
    """The digest of a dataset that is named by it, or by its id; empty for none.  Raises NotFoundError."""
    return given if not given or given.startswith("sha256:") else client.data.get(given).digest


def end_moved(moved: Alias, json_wanted: bool) -> None:
    """Say what an alias serves now, and end with a refusal when its target failed."""
    if json_wanted:
        typer.echo(as_json(moved))
    else:
        say(standing(moved))
    if moved.state == "failed":
        raise typer.Exit(Exit.REFUSED)


def standing(alias: Alias) -> str:
    """What an alias serves, and what becomes of its target where that is another."""
    serves = f"{alias.model}@{alias.alias} serves {alias.serving_version or 'nothing'}"
    if alias.state == "serving":
        return f"{serves}."
    waits = "could not be loaded" if alias.state == "failed" else "is not ready yet"
    why = f": {alias.reason.rstrip('.')}" if alias.reason else ""
    return f"{serves}; {alias.target_version} {waits}{why}."
