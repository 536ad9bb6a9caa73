"""`trivium models`: what the generator holds: engines, adapters and their tiers; what is loaded ahead, and protected."""

from dataclasses import replace
from typing import Annotated

import typer

from trivium_client import PreconditionError, Trivium
from trivium_client.cli.asking import StickyKey
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.naming import version_of
from trivium_client.cli.printing import Json, as_json, say, show, show_one
from trivium_client.nouns import Adapter

app = typer.Typer(epilog=EPILOG)

Name = Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION.")]


@app.command(epilog=EPILOG)
def route(
    name: Annotated[str, typer.Argument(help="A name as `--model` takes it.")],
    question: Annotated[str, typer.Option("--question", help="What is asked, for auto.")] = "",
    sticky_key: StickyKey = "",
    json_wanted: Json = False,
) -> None:
    """Show which version a request would get now, and why, without sending one.

    Of auto it shows what the question was compared with.

    Example: trivium models route auto --question 'How much is a day ticket?'
    """
    with Trivium() as client:
        found = client.models.route(name, question=question, sticky_key=sticky_key)
    if json_wanted:
        typer.echo(as_json(found))
        return
    show_one(replace(found, candidates=()), json_wanted=False)
    if found.candidates:
        show(found.candidates, ("model", "score"), json_wanted=False, empty="")


@app.command(epilog=EPILOG)
def engines(json_wanted: Json = False) -> None:
    """List the generator's engines: the default base's, and those of your own full models once they were asked for.

    Example: trivium models engines
    """
    with Trivium() as client:
        found = client.models.engines()
    columns = (
        "engine", "state", "base", "model", "version", "running", "waiting", "memory_bytes", "idle_seconds", "last_error"
    )  # fmt: skip
    show(found, columns, json_wanted=json_wanted, empty="There is no engine.")


@app.command(epilog=EPILOG)
def resident(json_wanted: Json = False) -> None:
    """List your adapters in the generator, the tier that each is in, and what each tier holds.

    Example: trivium models resident
    """
    with Trivium() as client:
        held, tiers = client.models.resident(), client.models.tiers()
    if json_wanted:
        typer.echo(as_json({"adapters": held, "tiers": tiers}))
        return
    columns = ("model", "version", "tier", "priority", "pinned", "in_flight", "size_bytes", "load_seconds")
    show(held, columns, json_wanted=False, empty="The generator holds none of your adapters.")
    counted = ("tier", "versions", "limit_versions", "size_bytes", "limit_bytes", "hits", "loads", "evictions")
    show(tiers, counted, json_wanted=False, empty="")


@app.command(epilog=EPILOG)
def load(name: Name, json_wanted: Json = False) -> None:
    """Load an adapter ahead of its first request, for instance before it becomes a canary.

    Example: trivium models load desk@4
    """
    with Trivium() as client:
        version = _whole(client, name)
        _say(name, client.models.load(version), json_wanted)


@app.command(epilog=EPILOG)
def unload(name: Name, json_wanted: Json = False) -> None:
    """Take an adapter out of its slot once no request uses it; a request that names it loads it again.

    Example: trivium models unload desk@4
    """
    with Trivium() as client:
        version = _whole(client, name)
        try:
            client.models.unload(version)
        except PreconditionError as error:
            if error.reason == "VERSION_PROTECTED":
                # In the words in which it was asked for: the server knows the version by its digest alone.
                error.message = f"{name} is protected; end it first with `trivium models protect {name} --end`"
            raise
    typer.echo(as_json({"unloaded": version}) if json_wanted else f"Unloaded {name}.")


@app.command(epilog=EPILOG)
def protect(
    name: Name,
    end: Annotated[bool, typer.Option("--end", help="Protect it no more.")] = False,
    json_wanted: Json = False,
) -> None:
    """Load an adapter into the generator and keep it there: nothing else takes its slot, nor after a restart.

    Example: trivium models protect desk
    """
    with Trivium() as client:
        version = _whole(client, name)
        _say(name, client.models.protect(version, protected=not end), json_wanted)


def _whole(client: Trivium, name: str) -> str:
    """The whole digest of the version that a name means."""
    model, version = version_of(client, name)
    return client.models.version(version, model=model).version


def _say(name: str, held: Adapter, json_wanted: bool) -> None:
    if json_wanted:
        typer.echo(as_json(held))
    else:
        protected = ", and stays there" if held.pinned else ""
        say(f"{name}, {held.version}, is in a {held.tier}{protected}.")
