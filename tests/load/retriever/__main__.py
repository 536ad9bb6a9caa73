"""How well, and at what cost, the retriever finds: ``python -m tests.load.retriever [--part NAME ...]``.

The retriever's own parts and the real model in this process; what is compared runs on the same work in the same run.
Vectors are kept below ``--cache`` by what was embedded, so that a second run is quick.  The last line is JSON.  The parts:

quality     nDCG@10 on public sets (``--set``) of keywords, vectors, both fused and both reranked, beside the lists of a
            baseline and two plain fusions of them
answerable  whether a search tells questions that the documents answer from those that they do not (``--fit``: weights)
manual      a manual of 1,144 pages and 20 reports whole: what fails, and whether thirty questions find the passage that
            holds their fact
cited       the same through a whole suite, where a model answers from what is found and cites it (only by name)
edits       what a one-sentence edit has embedded again
ingest      chunks a second through the whole ingestion, in processes of their own, over the embedder's own ceiling
append      what new documents cost in a large collection, over the same share of its full build
search      milliseconds a search among few and many passages, on both indexes, beside two floors; recall of HNSW
growth      how each cost grows with the collection
expansions  what question vectors, reranking, a written passage and a question's parts gain and cost, by `trivium docs tune`
            on a whole suite with the generator (``--set``, ``--questions``; only by name: it takes most of an hour a set)
"""

import argparse
import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.ops.cache import CHECKOUT, cache_dir
from services.retriever.config import RetrieverSettings
from tests.load.machine import hardware
from tests.load.retriever import (
    abstention_figures,
    appending,
    edits,
    expansions,
    growth,
    ingesting,
    latency,
    manual,
    manual_cited,
    report,
)
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.sets import SETS
from tests.load.retriever.vectors import Encoder

PARTS: dict[str, Callable[[Bench], Awaitable[Figures]]] = {
    "quality": report.figures,
    "answerable": abstention_figures.figures,
    "manual": manual.figures,
    "cited": manual_cited.figures,
    "edits": edits.figures,
    "ingest": ingesting.figures,
    "append": appending.figures,
    "search": latency.figures,
    "growth": growth.figures,
    "expansions": expansions.figures,
}
_BY_NAME = frozenset({"cited", "expansions"})


async def measure(asked: argparse.Namespace) -> Figures:
    """All parts that are asked for, with one model."""
    encoder = Encoder(asked.cache)
    bench = Bench(
        data=asked.data,
        sets=tuple(asked.set or SETS),
        encoder=encoder,
        rerank=not asked.no_rerank,
        fit=asked.fit,
        sizes=asked.sizes,
        growth=asked.growth,
        append_chunks=asked.append_chunks,
        rounds=asked.rounds,
        documents=asked.documents,
        workers=asked.workers,
        short=asked.short,
        weaviate=not asked.no_weaviate,
        questions=asked.questions,
    )
    figures: Figures = {}
    try:
        for part in asked.part or [part for part in PARTS if part not in _BY_NAME]:
            figures |= await PARTS[part](bench)
    finally:
        encoder.close()
    return figures


def _sizes(text: str) -> tuple[int, ...]:
    """Numbers with commas between, rising."""
    return tuple(sorted(int(each) for each in text.split(",")))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="can be given more than once")
    parser.add_argument("--set", action="append", choices=SETS, help="of quality; can be given more than once")
    parser.add_argument("--no-rerank", action="store_true", help="leave reranking out of quality: most of its time")
    parser.add_argument("--fit", action="store_true", help="with answerable: print weights fitted anew")
    parser.add_argument("--sizes", type=_sizes, default=(10_000, 200_000), help="chunks of search")
    parser.add_argument("--no-weaviate", action="store_true", help="leave Weaviate out of search")
    parser.add_argument("--growth", type=_sizes, default=(1_000, 10_000, 50_000, 200_000), help="chunks of growth")
    parser.add_argument("--append-chunks", type=int, default=20_000, help="of the collection that is appended to")
    parser.add_argument("--rounds", type=int, default=3, help="of ingest, beside one that is not counted")
    parser.add_argument("--documents", type=int, default=128, help="of a round of ingest")
    workers = RetrieverSettings().ingestion_workers
    parser.add_argument("--workers", type=int, default=workers, help="documents that ingest works on at once")
    parser.add_argument("--short", action="store_true", help="documents of ingest are of a chunk or two each")
    parser.add_argument("--questions", type=int, default=100, help="of a corpus in expansions, 10 to 2,000")
    parser.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "data", help="folder of the sets")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench-vectors", help="folder of the vectors")
    asked = parser.parse_args()
    figures = asyncio.run(measure(asked))
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "benchmark": "retriever",
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    print(json.dumps(about | figures))


if __name__ == "__main__":
    main()
