"""What the demo shows at its end: answers side by side, where the time went, and the score."""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from rich.table import Table

from services.ops.demo.adapter import ALIAS, MODEL, Swap
from services.ops.demo.roads import ROADS, Reply
from services.ops.demo.scoring import Question, Score, table
from services.ops.demo.stages import Stages

_ORDER = (
    "resolve",
    "embed",
    "retrieve",
    "prompt",
    "load",
    "load_fetch",
    "load_verify",
    "load_slot",
    "queue",
    "prefill",
    "generate",
    "verify",
    "whole",
)


def show(stages: Stages, questions: Sequence[Question], replies: Sequence[Reply], swap: Swap) -> None:
    """Print everything."""
    say = stages.say
    for number, question in enumerate(questions, start=1):
        say("")
        say(f"{number}. {question.question}  (the handbook says: {question.expected[0]})")
        stages.console.print(_side_by_side([reply for reply in replies if reply.question == question]))
    say("")
    say("Exact versions, read from each answer's receipt:")
    say(f"  base     {replies[0].answer.final.receipt.base_digest}  ({swap.engine_after.base})")
    say(f"  adapter  {swap.after}  ({MODEL}@{ALIAS})")
    say(f"  engine   {replies[0].answer.final.receipt.engine_build}")
    say("")
    say("Median milliseconds of each stage of a request, eight requests at once:")
    stages.console.print(_times(replies))
    say("")
    say("Score, by code: form = the house's JSON and nothing else; fact = the right words; citation = it")
    say("resolves to characters that hold the fact; all = the three together; queue = the right room:")
    say(table(_scores(replies)))


def _side_by_side(replies: Sequence[Reply]) -> Table:
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    for reply in replies:
        given = reply.score
        marks = " ".join(
            f"[green]✓ {name}[/]" if right else f"[red]✗ {name}[/]"
            for name, right in (("form", given.form), ("fact", given.fact), ("cite", given.citation))
        )
        grid.add_row(reply.road.name, marks, _escaped(reply.answer.text) + _cited(reply))
    return grid


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("[", "\\[")


def _cited(reply: Reply) -> str:
    where = [
        f"{source.span.document} {source.span.start}-{source.span.end} of version {source.span.version[:12]}"
        for source in dict.fromkeys(reply.cited)
    ]
    return f"\n[dim]<- {'; '.join(where)}[/]" if where else ""


def _times(replies: Sequence[Reply]) -> Table:
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for reply in replies:
        for timing in reply.answer.final.timings:
            seen[reply.road.name, timing.stage].append(timing.seconds)
        seen[reply.road.name, "whole"].append(reply.seconds)
    stages = sorted({stage for _, stage in seen}, key=_place)
    grid = Table(box=None, padding=(0, 1, 0, 1), header_style="dim")
    grid.add_column("road", no_wrap=True)
    for stage in stages:
        grid.add_column(stage, justify="right", no_wrap=True)
    for road in ROADS:
        cells = [seen.get((road.name, stage)) for stage in stages]
        grid.add_row(road.name, *(f"{statistics.median(cell) * 1000:.0f}" if cell else "-" for cell in cells))
    return grid


def _place(stage: str) -> int:
    """Where a stage stands in a request; one that we do not know stands before the whole."""
    return _ORDER.index(stage) if stage in _ORDER else len(_ORDER) - 2


def _scores(replies: Sequence[Reply]) -> dict[str, list[Score]]:
    return {road.name: [reply.score for reply in replies if reply.road == road] for road in ROADS}
