"""`trivium ask` and `trivium chat`."""

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.answers import Answer, Final, Message, Part, Sampling, Source, Sources, Text, gathered
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import Json, as_json
from trivium_client.nouns import Span

Model = Annotated[str, typer.Option("--model", "-m", help="base, NAME, NAME@ALIAS or NAME@VERSION.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0, max=2, help="0 is greedy.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the random numbers.")]


def ask(
    question: Annotated[str, typer.Argument(help="The question; - reads standard input.")],
    collection: Annotated[
        list[str] | None, typer.Option("--collection", "-c", help="Search here; may be repeated.")
    ] = None,
    model: Model = "base",
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="Most sources; 0 takes the server's default.")] = 0,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    json_wanted: Json = False,
) -> None:
    """Ask a question, with sources from collections.

    Example: trivium ask "Which form opens a claim?" -c handbook -m desk
    """
    text = sys.stdin.read() if question == "-" else question
    with Trivium() as client:
        parts = client.ask(
            text,
            model=model,
            collections=collection or [],
            top_k=top_k,
            sampling=Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed),
        )
        answer = _shown(parts, quiet=json_wanted)
    if json_wanted:
        typer.echo(as_json(answer))
    else:
        _footnotes(answer)


def chat(
    message: Annotated[str | None, typer.Argument(help="One message; without it a conversation begins.")] = None,
    model: Model = "base",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    answers: Annotated[
        int, typer.Option("--answers", "-n", min=1, max=16, help="How many answers; needs one message and temperature.")
    ] = 1,
    json_wanted: Json = False,
) -> None:
    """Talk to a model: one message, or a conversation until an empty line or Ctrl-D.

    Example: trivium chat "What is the capital of France?" -m base
    """
    if message is not None and not message.strip():
        raise ValueError("the message is empty; say something, or give none to begin a conversation")
    if answers > 1 and message is None:
        raise ValueError("a conversation goes on from one answer; give a message to get several answers to it")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, n=answers)
    turns: list[Message] = []
    with Trivium() as client:
        while said := message or _prompted():
            turns.append(Message("user", said))
            parts = client.chat(turns, model=model, sampling=sampling)
            answer = _shown(parts, quiet=json_wanted or answers > 1)
            turns.append(Message("assistant", answer.text))
            if json_wanted:
                typer.echo(as_json(answer))
            elif answers > 1:
                typer.echo("\n".join(f"{number}. {text}" for number, text in enumerate(answer.texts, 1)))
            if message:
                return


def _prompted() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _shown(parts: Iterable[Part], *, quiet: bool) -> Answer:
    """Print text as it comes and return the whole answer."""
    sources: tuple[Source, ...] = ()
    texts: list[Text] = []
    final: Final | None = None
    part: Part
    for part in parts:
        if isinstance(part, Sources):
            sources = part.sources
        elif isinstance(part, Text):
            texts.append(part)
            if not quiet:
                typer.echo(part.text, nl=False)
        else:
            final = part
    if final is None:
        raise typer.Exit(Exit.FAILURE)
    if not quiet:
        typer.echo()
    return gathered(texts, final, sources)


def _footnotes(answer: Answer) -> None:
    cited = {citation.marker for citation in answer.citations}
    for citation in answer.citations:
        typer.echo(f"[{citation.marker}] {_place(citation.span)}")
    for marker, source in enumerate(answer.sources, 1):
        if marker not in cited:
            typer.echo(f"({marker}) {_place(source.span)}, found and not cited")
    for marker in answer.final.unresolved_markers:
        typer.echo(f"[{marker}] names no source")
    stages = ", ".join(f"{timing.stage} {timing.seconds:.2f} s" for timing in answer.final.timings)
    typer.echo(f"{answer.final.receipt.resolved_model or 'base'}; {stages}", err=True)


def _place(span: Span) -> str:
    return f"{span.document} {span.start}-{span.end} of version {span.version[:12]}"
