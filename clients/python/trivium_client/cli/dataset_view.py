"""How a check of a dataset and a preview of its rows look in a terminal.

Invariant: without colours the same is said: what is learned then stands between marks.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import typer

from trivium_client.cli.printing import counted, document
from trivium_client.nouns import DatasetReport, PreviewRow, PreviewToken

_BAR_CELLS = 40
_MOST_LABELS = 12


def report_lines(report: DatasetReport) -> Iterator[str]:
    """A report as people read it."""
    yield (
        f"{counted(report.rows, 'row')} for {report.objective} on {report.base}: "
        f"{counted(report.examples, 'example')} of at most {counted(report.max_row_tokens, 'token')}"
    )
    yield f"tokens an epoch   {report.tokens} of which {report.supervised_tokens} are learned"
    held_out = f", {report.validation_examples} held out" if report.validation_examples else ""
    yield (
        f"the run           {counted(report.steps, 'step')} over {counted(report.training_examples, 'example')}{held_out}; "
        f"{counted(report.trained_tokens, 'token')} learned"
    )
    yield (
        f"lengths           median {report.median_tokens}, 90 % up to {report.p90_tokens}, "
        f"99 % up to {report.p99_tokens}, longest {report.longest_tokens}"
    )
    yield from _bars([(f"<= {bucket.max_tokens}", bucket.rows) for bucket in report.lengths])
    if report.labels:
        yield "answers"
        yield from _bars([(document(label.label)[:30], label.rows) for label in report.labels[:_MOST_LABELS]])
        if len(report.labels) > _MOST_LABELS:
            yield f"  and {len(report.labels) - _MOST_LABELS} more"
    if report.pairs is not None:
        pairs = report.pairs
        yield (
            f"pairs             {pairs.pairs}; chosen answers have {pairs.chosen_tokens:.0f} tokens, rejected "
            f"{pairs.rejected_tokens:.0f}; the chosen one is longer in {pairs.chosen_longer_ratio:.0%}"
        )


def _bars(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    widest, most = max((len(name) for name, _ in counts), default=0), max((rows for _, rows in counts), default=1)
    for name, rows in counts:
        bar = "█" * max(1, round(_BAR_CELLS * rows / most))
        yield f"  {name:>{widest}}  {bar} {rows}"


def row_lines(row: PreviewRow, *, colours: bool) -> Iterator[str]:
    """An example: its line, then its text in which what is learned stands out, without colours between [[ and ]]."""
    judged = {None: "", True: ", wanted", False: ", not wanted"}[row.desirable]
    yield f"line {row.line}{judged}"
    if row.note:
        yield f"not trained on: {row.note}"
    if row.rejected:
        yield "chosen:"
    yield _text(row.tokens, colours)
    if row.rejected:
        yield "rejected:"
        yield _text(row.rejected, colours)
    yield ""


def _text(tokens: Sequence[PreviewToken], colours: bool) -> str:
    shown = []
    for supervised, run in groupby(tokens, key=lambda token: token.supervised):
        text = _part("".join(token.text for token in run))
        if not colours:
            shown.append(f"[[{text}]]" if supervised else text)
        else:
            shown.append(typer.style(text, fg="green", bold=True) if supervised else typer.style(text, dim=True))
    return "".join(shown)


def _part(text: str) -> str:
    """Part of somebody's text; what would command the terminal is left out, its line breaks stay."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
