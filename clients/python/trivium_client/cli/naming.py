"""How the commands on models read NAME, NAME@ALIAS and NAME@VERSION."""

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import show_one
from trivium_client.nouns import Alias

DEFAULT_ALIAS = "prod"


def alias_of(name: str) -> tuple[str, str]:
    """The model and the alias of NAME or NAME@ALIAS."""
    model, _, alias_id = name.partition("@")
    return model, alias_id or DEFAULT_ALIAS


def version_of(client: Trivium, name: str) -> tuple[str, str]:
    """The model of a name and the version that it means: that of its alias, or the one that is named."""
    model, _, reference = name.partition("@")
    served = {alias.alias: alias.serving_version for alias in client.models.aliases(model)}
    wanted = reference or DEFAULT_ALIAS
    return model, served.get(wanted) or wanted


def version_named(name: str) -> tuple[str, str]:
    """The model and the version of NAME@VERSION.  Raises BadParameter for a name without a version."""
    model, _, reference = name.partition("@")
    if not reference:
        raise typer.BadParameter("say which version: NAME@NUMBER", param_hint="name")
    return model, reference


def end_moved(moved: Alias, json_wanted: bool) -> None:
    """Print an alias and end with a refusal when its target failed."""
    show_one(moved, json_wanted=json_wanted)
    if moved.state == "failed":
        raise typer.Exit(Exit.REFUSED)
