"""How fast the embedder is beside sentence-transformers: ``python -m tests.load.embedder [--part NAME ...]``.

The peer is `encode` in float32 with batches of 32, which sorts by length itself.  Both sides
have as many threads, what is compared alternates within one run, the first round is not
counted, and a ratio is the median of the rounds' ratios with the least and the greatest
beside it.  The last line is JSON.  The parts:

batch      192 mixed texts in this process: tokens a second, and the least cosine with the peer's vectors;
           texts whose vector changes by a bit with other neighbours
openvino   the same by the other engine, where its extra is installed
grpc       the same 192 texts through the service, over this process
online     64 callers with one text each through the service, over `encode` called for each text
query      the time of one question through the service, over the bare model call
open_loop  texts arriving at random at 50 % and at 150 % of what the service can do
"""

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.chassis.resources import Role, Share
from tests.load.embedder import local, open_loop, served, throughput
from tests.load.embedder.figures import Bench, Figures, rounded
from tests.load.machine import hardware

PARTS: dict[str, Callable[[Bench], Awaitable[Figures]]] = {
    "batch": throughput.batch,
    "openvino": throughput.openvino,
    "grpc": throughput.grpc_beside_in_process,
    "online": throughput.online,
    "query": throughput.single_query,
    "open_loop": open_loop.figures,
}
_SERVED = frozenset({"grpc", "online", "query", "open_loop"})


async def measure(asked: argparse.Namespace) -> Figures:
    """All parts that are asked for, over one pair of models and one service."""
    parts = asked.part or list(PARTS)
    models = local.prepared(asked.threads)
    print(
        f"ours: {models.encoder.facts.compute_dtype}, batches of {models.batch_tokens} tokens, {asked.threads} thread"
    )
    figures: Figures = {"compute_dtype": models.encoder.facts.compute_dtype, "batch_tokens": models.batch_tokens}
    with tempfile.TemporaryDirectory() as folder:
        async with served.started(Path(folder), models, _SERVED & set(parts)) as service:
            bench = Bench(models, service, asked.rounds, asked.texts, asked.seconds)
            for part in parts:
                figures |= await PARTS[part](bench)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="can be given more than once; all without it")
    parser.add_argument("--threads", type=int, default=1, help="of each side")
    parser.add_argument("--texts", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate of the open loop")
    asked = parser.parse_args()
    # Before torch is imported by anybody.
    cpus = tuple(range(asked.threads))
    os.environ.update(Share(Role.EMBEDDER, asked.threads, cpus, 0, 0, False).environment())
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    figures = asyncio.run(measure(asked))
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "benchmark": "embedder",
        "hardware": hardware(),
        "threads": asked.threads,
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    print(json.dumps(about | rounded(figures)))


if __name__ == "__main__":
    main()
