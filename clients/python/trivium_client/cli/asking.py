"""`trivium ask` and `trivium chat`."""

import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Timer
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.answers import Answer, Asking, Gathering, Message, Part, Sampling, Shape, Text
from trivium_client.cli.printing import Json, as_json, say
from trivium_client.nouns import Span

Model = Annotated[str, typer.Option("--model", "-m", help="base, base:NAME, NAME, NAME@ALIAS, NAME@VERSION or auto.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0, max=2, help="0 is greedy.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the random numbers.")]
StickyKey = Annotated[
    str,
    typer.Option("--sticky-key", help="Whoever is to stay with one version while canaries run; default: your key."),
]
Schema = Annotated[
    Path | None, typer.Option("--schema", dir_okay=False, help="Answer in JSON that this JSON Schema accepts.")
]
Choice = Annotated[list[str] | None, typer.Option("--choice", help="Answer with this; repeated: with one of them.")]
Regex = Annotated[str, typer.Option("--regex", help="Answer with what this regular expression matches.")]
Grammar = Annotated[Path | None, typer.Option("--grammar", dir_okay=False, help="Answer by this grammar, EBNF.")]

# An engine that is started for a request takes half a minute; what waits for no start answers sooner than this.
_SILENCE_SECONDS = 3.0


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
    sticky_key: StickyKey = "",
    abstain: Annotated[
        str,
        typer.Option(help="Where the sources seem not to hold the answer: strict, hedge or off; empty: as they say."),
    ] = "",
    path: Annotated[
        str, typer.Option(help="Answer from passages, summary or index; empty: what the question seems to ask for.")
    ] = "",
    by_sentence: Annotated[
        bool, typer.Option("--by-sentence", help="Show each sentence after it was checked.")
    ] = False,
    supported: Annotated[
        bool, typer.Option("--supported", help="Show only sentences that a source supports; implies --by-sentence.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Have the base judge what seems unsupported.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Tell every stage and what it decided.")] = False,
    schema: Schema = None,
    choice: Choice = None,
    regex: Regex = "",
    grammar: Grammar = None,
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
            shape=_shape(schema, choice, regex, grammar),
            asking=Asking(
                abstention=abstain,
                path=path,
                release="sentence" if by_sentence or supported else "",
                unsupported="withhold" if supported else "",
                check_support=check,
                explain=explain,
            ),
            sticky_key=sticky_key,
        )
        answer = _shown(parts, model, quiet=json_wanted)
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
    sticky_key: StickyKey = "",
    schema: Schema = None,
    choice: Choice = None,
    regex: Regex = "",
    grammar: Grammar = None,
    json_wanted: Json = False,
) -> None:
    """Talk to a model: one message, or a conversation until an empty line or Ctrl-D.

    Example: trivium chat "What is the capital of Japan?" -m base
    """
    if message is not None and not message.strip():
        raise ValueError("the message is empty; say something, or give none to begin a conversation")
    if answers > 1 and message is None:
        raise ValueError("a conversation goes on from one answer; give a message to get several answers to it")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, n=answers)
    shape = _shape(schema, choice, regex, grammar)
    turns: list[Message] = []
    with Trivium() as client:
        while said := message or _prompted():
            turns.append(Message("user", said))
            parts = client.chat(turns, model=model, sampling=sampling, shape=shape, sticky_key=sticky_key)
            answer = _shown(parts, model, quiet=json_wanted or answers > 1)
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


def _shape(schema: Path | None, choice: list[str] | None, regex: str, grammar: Path | None) -> Shape | None:
    """What the answer is forced to be, None for nothing.  Raises BadParameter for more than one thing."""
    given = [
        name
        for name, value in (("schema", schema), ("choice", choice), ("regex", regex), ("grammar", grammar))
        if value
    ]
    if len(given) > 1:
        raise typer.BadParameter(f"say one of --{' and --'.join(given)}", param_hint=f"--{given[1]}")
    if not given:
        return None
    return Shape(
        json_schema=schema.read_text("utf-8") if schema else "",
        choices=tuple(choice or ()),
        regex=regex,
        grammar=grammar.read_text("utf-8") if grammar else "",
    )


def _shown(parts: Iterable[Part], model: str, *, quiet: bool) -> Answer:
    """Print text as it comes and return the whole answer; says on standard error what a long silence may be."""
    gathering = Gathering()
    silence = Timer(_SILENCE_SECONDS, _say_why_silent, [model])
    silence.daemon = True
    silence.start()
    try:
        for part in parts:
            gathering.add(part)
            if isinstance(part, Text):
                silence.cancel()
                if not quiet:
                    typer.echo(part.text, nl=False)
    finally:
        silence.cancel()
    answer = gathering.answer()
    if not quiet:
        typer.echo()
    for what in answer.final.fallbacks:
        say(f"{what.stage}: {what.instead} instead. {what.reason}", err=True)
    return answer


def _say_why_silent(model: str) -> None:
    say(f"No answer yet. The engine for {model} may be starting: `trivium models engines` shows its state.", err=True)


def _footnotes(answer: Answer) -> None:
    cited = {citation.marker for citation in answer.citations}
    for citation in answer.citations:
        typer.echo(f"[{citation.marker}] {_place(citation.span)}")
    for marker, source in enumerate(answer.sources, 1):
        if marker not in cited:
            typer.echo(f"({marker}) {_place(source.span)}, found and not cited")
    for marker in answer.final.unresolved_markers:
        typer.echo(f"[{marker}] names no source")
    _judgement(answer)
    stages = ", ".join(f"{timing.stage} {timing.seconds:.2f} s" for timing in answer.final.timings)
    receipt = answer.final.receipt
    typer.echo(f"{receipt.resolved_model or 'base'}, receipt {receipt.request_id}; {stages}", err=True)


def _judgement(answer: Answer) -> None:
    """What was found out about the answer, where there is something to say."""
    final = answer.final
    for text in answer.unsupported:
        typer.echo(f"not supported by a source: {text}")
    for quote in final.quotes:
        if not quote.found:
            typer.echo(f"no quotation of a source: {answer.text[quote.start : quote.end]}")
    for source in answer.left_out:
        typer.echo(f"found, and no room in the prompt: {_place(source.span)}")
    if final.rewrite is not None and final.rewrite.rewritten:
        typer.echo(f"looked for: {final.rewrite.question}", err=True)
    if final.path not in ("", "passages"):
        typer.echo(f"answered from the {final.path}", err=True)
    if final.abstention is not None and not final.abstention.answerable:
        sure = f"{final.abstention.score:.2f} of {final.abstention.threshold:.2f}"
        typer.echo(f"the sources seem not to hold the answer ({sure}); policy {final.abstention.policy}", err=True)
    for stage in final.stages:
        budget = "" if stage.budget_seconds is None else f" of {stage.budget_seconds:.1f} s"
        typer.echo(f"{stage.stage}: {stage.seconds:.3f} s{budget}, {stage.input_size} in; {stage.decision}", err=True)


def _place(span: Span) -> str:
    return f"{span.document} {span.start}-{span.end} of version {span.version[:12]}"
