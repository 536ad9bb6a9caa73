"""How well the retriever finds, on public sets: ``python -m tests.load.retriever``.

nDCG@10 of keywords, vectors, both fused and both reranked, through the retriever's own parts and the real model, beside
the baseline's lists and two plain fusions of them in the same run.  ``--set`` names sets; vectors are kept below
``--cache`` between runs.  The last line is JSON: the plain keys hold what a search does by default.
"""

import argparse
import asyncio
import json
import platform
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.ops.cache import CHECKOUT, cache_dir
from tests.load.retriever.growth import edits
from tests.load.retriever.quality import DEFAULT, Measured, measured
from tests.load.retriever.sets import SETS
from tests.load.retriever.vectors import Encoder

_OURS = ("sparse", "dense", DEFAULT, "rerank")
_THEIRS = ("bm25", "minilm", "rrf", "convex")


async def run(names: Sequence[str], data: Path, cache: Path) -> list[Measured]:
    """Every set, one after another."""
    encoder = Encoder(cache)
    try:
        return [await measured(SETS[name](data), encoder) for name in names]
    finally:
        encoder.close()


def told(found: Sequence[Measured]) -> None:
    """Print the table."""
    table = Table(title="nDCG@10; the last column is the default minus the baseline's convex fusion, 95 % interval")
    for column in ("set", "questions", *_OURS, *_THEIRS, "gain"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for it in found:
        figures = [f"{it.mean(way):.3f}" for way in (*_OURS, *_THEIRS)]
        table.add_row(it.name, str(len(it.ways[DEFAULT])), *figures, str(it.gain))
    console = Console(width=max(150, Console().width))
    console.print(table)
    for it in found:
        costs = ", ".join(f"{way} {seconds * 1000:.1f} ms" for way, seconds in it.search_seconds.items())
        console.print(f"{it.name}: brought in within {it.fill_seconds:.1f} s; a search: {costs}")
        for problem in it.failed:
            console.print(f"  failed: {problem}")


def figures(found: Sequence[Measured]) -> dict[str, object]:
    """The line of JSON."""
    answer: dict[str, object] = {"benchmark": "retriever", "machine": platform.processor() or platform.machine()}
    answer |= {f"ndcg_{it.name}": round(it.mean(DEFAULT), 4) for it in found}
    answer["ways"] = {it.name: {way: round(it.mean(way), 4) for way in it.ways} for it in found}
    answer["gain_min"] = round(min(it.gain.low for it in found), 4)
    answer["gain_mean"] = round(sum(it.gain.mean for it in found) / len(found), 4)
    by_format = {it.name.rpartition("_")[2]: it.mean(DEFAULT) for it in found if it.name.startswith("multicorpus_")}
    if "md" in by_format and len(by_format) > 1:
        answer["format_loss_max"] = round(
            max(by_format["md"] - by_format[kind] for kind in by_format if kind != "md"), 4
        )
    return answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", action="append", choices=SETS, help="a set; may be repeated; default: all")
    parser.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "data", help="folder of the sets")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench-vectors", help="folder of the vectors")
    wanted = parser.parse_args()
    found = asyncio.run(run(wanted.set or list(SETS), wanted.data, wanted.cache))
    told(found)
    print(json.dumps(figures(found) | edits(wanted.data)))


if __name__ == "__main__":
    main()
