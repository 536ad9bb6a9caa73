"""How well, and at what cost, the retriever finds: ``python -m tests.load.retriever [--part NAME ...]``.

The retriever's own parts and the real model in this process; what is compared runs on the same work in the same run.
Vectors are kept below ``--cache`` by what was embedded, so that a second run is quick.  The last line is JSON.  The parts:

quality     nDCG@10 on public sets (``--set``) of keywords, vectors, both fused and both reranked, beside the lists of a
            baseline and two plain fusions of them
answerable  whether a search tells questions that the documents answer from those that they do not (``--fit``: weights)
edits       what a one-sentence edit has embedded again
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from services.ops.cache import CHECKOUT, cache_dir
from tests.load.retriever import abstention_figures, edits, report
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.sets import SETS
from tests.load.retriever.vectors import Encoder

PARTS: dict[str, Callable[[Bench], Awaitable[Figures]]] = {
    "quality": report.figures,
    "answerable": abstention_figures.figures,
    "edits": edits.figures,
}


async def measure(asked: argparse.Namespace) -> Figures:
    """All parts that are asked for, with one model."""
    encoder = Encoder(asked.cache)
    bench = Bench(asked.data, tuple(asked.set or SETS), encoder, asked.fit)
    figures: Figures = {}
    try:
        for part in asked.part or PARTS:
            figures |= await PARTS[part](bench)
    finally:
        encoder.close()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="can be given more than once; all without it")
    parser.add_argument("--set", action="append", choices=SETS, help="of quality; can be given more than once")
    parser.add_argument("--fit", action="store_true", help="with answerable: print weights fitted anew")
    parser.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "data", help="folder of the sets")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench-vectors", help="folder of the vectors")
    asked = parser.parse_args()
    figures = asyncio.run(measure(asked))
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "benchmark": "retriever",
        "hardware": f"{psutil.cpu_count()} x {platform.processor() or platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    print(json.dumps(about | figures))


if __name__ == "__main__":
    main()
