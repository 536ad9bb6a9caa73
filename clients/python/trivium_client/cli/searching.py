"""`trivium docs search`: passages of collections, with what led to them."""

import re
from typing import Annotated

import typer

from trivium_client import Filter, Trivium, field
from trivium_client.cli.printing import Json, as_json
from trivium_client.cli.values import unquoted, value_of
from trivium_client.filters import Field
from trivium_client.nouns import Findings, Hit

_TEST = re.compile(r"(?P<field>[^<>=!~^:]+?)\s*(?P<operator><=|>=|!=|=|<|>|~|\^|:)\s*(?P<value>.*)", re.DOTALL)
_SIGNS = "<>=!~^:"
# What begins a value but belongs to no test, and a second test behind `and`: both would be looked for as texts.
_NO_VALUE = re.compile(r"[<>=!~^:]|.*\s(and|or)\s+\S+\s*[<>=!~^:]", re.DOTALL)
_WHERE = (
    "Only documents whose metadata pass; repeated: all of them. FIELD=VALUE, and so with != < <= > >=; FIELD~TEXT "
    "contains it, FIELD^TEXT begins with it, whatever the case; FIELD:TEXT is a list with it; FIELD alone is there. "
    "Numbers, dates (2026-05-31), true and false are taken as such, unless in quotes; `not ` in front turns it round."
)
Where = Annotated[list[str] | None, typer.Option("--where", "-w", help=_WHERE)]
Reader = Annotated[list[str] | None, typer.Option("--as", help="Find what this id may read as well; may be repeated.")]


def search(
    query: Annotated[list[str], typer.Argument(help="What to look for; several queries are fused.")],
    collection: Annotated[
        list[str] | None, typer.Option("--collection", "-c", help="Search here; may be repeated.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="Most passages.")] = 10,
    mode: Annotated[str, typer.Option(help="hybrid, dense or sparse; else as the collection has it.")] = "",
    where: Where = None,
    as_reader: Reader = None,
    rerank: Annotated[
        bool | None, typer.Option(help="Look at the best 40 again; else as the collection has it.")
    ] = None,
    rerank_model: Annotated[
        str, typer.Option(help="What looks again: a reranker of your own (MODEL@NUMBER), or of the embedder's.")
    ] = "",
    hyde: Annotated[
        str, typer.Option(help="Also look for a passage that might answer: off, weak, always; else as the collection.")
    ] = "",
    decompose: Annotated[
        bool | None, typer.Option(help="Break the question up as well; else as the collection has it.")
    ] = None,
    diversity: Annotated[
        float | None, typer.Option("--diversity", min=0, max=1, help="Prefer what is unlike: 1 not at all, 0.5 some.")
    ] = None,
    collapse: Annotated[bool, typer.Option("--collapse", help="One hit for passages of the same text.")] = False,
    feedback: Annotated[bool, typer.Option(help="Look again for what the best passages say.")] = True,
    section: Annotated[
        int, typer.Option("--section", min=0, max=20000, help="Widen hits in their sections to so many characters.")
    ] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Show the rank and score in each list.")] = False,
    json_wanted: Json = False,
) -> None:
    """Find passages.

    Example: trivium docs search "when is the gate closed" -c handbook --where "year>=2024" --explain
    """
    with Trivium() as client:
        found = client.docs.search(
            query,
            collections=collection or ["default"],
            top_k=top_k,
            mode=mode,
            where=all_of(where),
            as_readers=as_reader or [],
            rerank=rerank,
            rerank_model=rerank_model,
            hyde=hyde,
            decompose=decompose,
            diversity_lambda=diversity,
            collapse_duplicates=collapse,
            section_characters=section,
            feedback=feedback,
            explain=explain,
        )
    if json_wanted:
        said = {"answerability": found.answerability, "expansions": found.expansions, "reranking": found.reranking}
        typer.echo(as_json({"hits": found.hits, **said}))
        return
    typer.echo(_introduction(found, explain=explain), nl=False)
    for number, hit in enumerate(found, start=1):
        typer.echo(_shown(number, hit))


def test(text: str) -> Filter:
    """One `--where`.  Raises typer.BadParameter."""
    wanted = text.strip()
    if wanted.startswith("not "):
        return ~test(wanted.removeprefix("not "))
    if not wanted or wanted == "not" or wanted[0] in _SIGNS:
        raise typer.BadParameter("name a field, as in --where 'year>=2024'", param_hint="--where")
    match = _TEST.fullmatch(wanted)
    if match is None:
        return field(wanted).exists()
    given = match["value"]
    if not given or (given == unquoted(given) and _NO_VALUE.match(given)):
        problem = (
            f"{text!r} is no test: it is FIELD, one of = != < <= > >= ~ ^ : and a value, in quotes where that has signs"
        )
        raise typer.BadParameter(f"{problem}; for several tests repeat --where", param_hint="--where")
    return _compared(field(match["field"]), match["operator"], given)


def _compared(named: Field, operator: str, text: str) -> Filter:
    bare = unquoted(text)
    if operator == "~":
        return named.contains(bare, ignore_case=True)
    if operator == "^":
        return named.begins_with(bare, ignore_case=True)
    if operator == ":":
        return named.contains_any(bare)
    value = value_of(text)
    return {
        "=": named == value,
        "!=": named != value,
        "<": named < value,
        "<=": named <= value,
        ">": named > value,
        ">=": named >= value,
    }[operator]


def all_of(where: list[str] | None) -> Filter | None:
    """Every `--where` together.  Raises typer.BadParameter."""
    whole: Filter | None = None
    for one in map(test, where or []):
        whole = one if whole is None else whole & one
    return whole


def _pages(hit: Hit) -> str:
    if not hit.first_page:
        return ""
    return f" page {hit.first_page}" + (f"-{hit.last_page}" if hit.last_page > hit.first_page else "")


def _introduction(found: Findings, *, explain: bool) -> str:
    """What is to be known before the hits are read."""
    if not found:
        return "Nothing was found.\n"
    lines = []
    sure = found.answerability
    if sure is not None and not sure.answerable:
        lines.append(
            f"The answer does not seem to be here ({sure.score:.2f}, under {sure.threshold:.2f}); what is nearest:"
        )
    elif sure is not None and explain:
        lines.append(f"The answer seems to be here ({sure.score:.2f}, at least {sure.threshold:.2f}).")
    if found.reranking is not None and not found.reranking.applied:
        lines.append(f"Not reranked: {found.reranking.reason}")
    for it in found.expansions if explain else ():
        kind = it.kind.replace("_", " ")
        lines.append(f"{kind}: {'; '.join(it.texts) or 'had a part'}" if it.applied else f"{kind}: not, {it.reason}")
    return "".join(f"{line}\n" for line in lines)


def _shown(number: int, hit: Hit) -> str:
    where = f"{hit.span.collection}/{hit.span.document} [{hit.span.start}, {hit.span.end}){_pages(hit)}"
    path = " › ".join(hit.heading_path) or hit.title
    lines = [typer.style(f"{number}. {path}", bold=True), f"   {where}  score {hit.score:.3f}"]
    lines += [
        f"   {it.list}{f' of query {it.query + 1}' if it.query else ''}: rank {it.rank or '-'}, score {it.score:.3f}, "
        f"adds {it.part:.3f}"
        for it in hit.places
    ]
    lines += [f"   also in {it.collection}/{it.document} [{it.start}, {it.end})" for it in hit.duplicates]
    return "\n".join([*lines, *(f"   {line}" for line in hit.text.splitlines() if line.strip()), ""])
