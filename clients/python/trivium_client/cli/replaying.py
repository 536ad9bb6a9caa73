"""`trivium replay`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.answers import Receipt
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import Json, as_json, say
from trivium_client.replays import Replay, ReplayedCollection

_HOLDS = ("exact", "explained")


def replay(
    request_id: Annotated[str, typer.Argument(help="Id of the request, as its receipt has it; or that of a response.")],
    request: Annotated[
        Path | None,
        typer.Option(
            "--request",
            "-r",
            exists=True,
            dir_okay=False,
            help="The request as it was sent over gRPC, in JSON: messages; or prompt; or question with collections, history and so on "
            "(that of an HTTP request is replayed by POST /v1/trivium/replays). "
            "Not for a stored response, nor for a line of a batch whose input file is still there.",
        ),
    ] = None,
    answer: Annotated[
        Path | None,
        typer.Option(
            "--answer", "-a", exists=True, dir_okay=False, help="The answer's text, but for a last line break."
        ),
    ] = None,
    rewritten: Annotated[
        str, typer.Option(help="The question as it was looked for, where earlier turns had to complete it.")
    ] = "",
    json_wanted: Json = False,
) -> None:
    """Compute an answer again, alone, and say whether it is what the weights of its receipt say.

    Ends with 0 where it is, exactly or but for rounding; with 1 where it is not, or cannot be told.

    Example: trivium replay 5b1c6f0e-3b1d-4f0e-9d52-0f7d1c1f6a11 --request request.json
    Example: trivium replay resp_5b1c6f0e3b1d4f0e9d520f7d1c1f6a11
    """
    sent = None if request is None else json.loads(request.read_text("utf-8"))
    if sent is not None and not isinstance(sent, dict):
        raise typer.BadParameter("is no JSON object", param_hint="--request")
    text = None if answer is None else answer.read_text("utf-8").removesuffix("\n")
    with Trivium() as client:
        found = client.replay(request_id, sent, answer=text, rewritten_question=rewritten)
    if json_wanted:
        typer.echo(as_json(found))
    else:
        _tell(found)
    if found.verdict not in _HOLDS:
        raise typer.Exit(Exit.FAILURE)


def _tell(found: Replay) -> None:
    say(f"{found.verdict.replace('_', ' ')}: {found.explanation}")
    _made_of(found.receipt)
    for it in found.collections:
        typer.echo(f"{it.collection} at version {it.version}{_since(it)}")
    for source in found.sources:
        span = source.span
        gone = "" if source.found else ", which is gone"
        typer.echo(f"[{span.marker}] {span.document} {span.start}-{span.end} of version {span.version}{gone}")


def _since(it: ReplayedCollection) -> str:
    if it.present_version == it.version:
        return ", as it is now"
    return f", which has moved on since, to {it.present_version}" if it.present_version else ", which is gone"


def _made_of(receipt: Receipt) -> None:
    for name, value in (
        ("model", receipt.resolved_model),
        ("base", receipt.base_digest),
        ("template", receipt.template_digest),
        ("prompt", receipt.prompt_tokens_digest),
        ("tokens", receipt.completion_digest),
        ("engine", receipt.engine_build),
        ("sampling", f"temperature {receipt.temperature:g}, seed {receipt.seed}, at most {receipt.max_tokens} tokens"),
    ):
        typer.echo(f"{name:9} {value or 'not told'}")
