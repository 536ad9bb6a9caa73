"""The part ``quality``: a table of how well each set is searched, and its figures."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.quality import DEFAULT, Measured, measured
from tests.load.retriever.sets import SETS

_OURS = ("sparse", "dense", DEFAULT, "rerank")
_THEIRS = ("bm25", "minilm", "rrf", "convex")


async def figures(bench: Bench) -> Figures:
    """nDCG@10 of every set, one after another: the plain keys hold what a search does by default."""
    found = []
    for name in bench.sets:
        found.append(await measured(SETS[name](bench.data), bench.encoder, rerank=bench.rerank))
        # As soon as it is known: a later set may take an hour.
        _told(found[-1:])
    if len(found) > 1:
        _told(found)
    return _summed(found)


def _told(found: Sequence[Measured]) -> None:
    """Print the table."""
    table = Table(title="nDCG@10; the last column is the default minus the baseline's convex fusion, 95 % interval")
    for column in ("set", "questions", *_OURS, *_THEIRS, "gain"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for it in found:
        means = [f"{it.mean(way):.3f}" if way in it.ways else "" for way in (*_OURS, *_THEIRS)]
        table.add_row(it.name, str(len(it.ways[DEFAULT])), *means, str(it.gain))
    console = Console(width=max(150, Console().width))
    console.print(table)
    for it in found:
        costs = ", ".join(f"{way} {seconds * 1000:.1f} ms" for way, seconds in it.search_seconds.items())
        console.print(f"{it.name}: brought in within {it.fill_seconds:.1f} s; a search: {costs}")
        for problem in it.failed:
            console.print(f"  failed: {problem}")


def _summed(found: Sequence[Measured]) -> Figures:
    answer: Figures = {f"ndcg_{it.name}": round(it.mean(DEFAULT), 4) for it in found}
    answer["ways"] = {it.name: {way: round(it.mean(way), 4) for way in it.ways} for it in found}
    answer["gain_min"] = round(min(it.gain.low for it in found), 4)
    answer["gain_mean"] = round(sum(it.gain.mean for it in found) / len(found), 4)
    answer["not_ingested"] = sum(len(it.failed) for it in found)
    by_format = {it.name.rpartition("_")[2]: it.mean(DEFAULT) for it in found if it.name.startswith("multicorpus_")}
    others = [loss for kind, loss in by_format.items() if kind != "md"]
    if "md" in by_format and others:
        answer["format_loss_max"] = round(by_format["md"] - min(others), 4)
    return answer
