"""The parts that compare one way with another: in batches, by the other engine, through the service, one at a time."""

import asyncio
import itertools
import statistics
from collections.abc import Sequence

import numpy as np

from services.embedder import model, openvino_encoder, precision
from services.embedder.batching import Batch, Product, Vector
from services.embedder.embedding import Embedder
from tests.load.embedder import local
from tests.load.embedder.figures import Bench, Figures, alternating, ratio, table
from tests.load.embedder.local import embed

_CALLERS = 64
_QUERIES = 100


async def batch(bench: Bench) -> Figures:
    """Ours in this process over the peer, how far the vectors lie apart, and whether neighbours matter."""
    texts = local.mixed(bench.texts)

    async def peer() -> None:
        await asyncio.to_thread(bench.models.encode, texts)

    async with local.embedder(bench.models) as ours:
        seconds = await alternating({"ours": lambda: embed(ours, texts), "peer": peer}, bench.rounds)
        vectors = (await embed(ours, texts)).vectors
        changed = await _that_depend_on_neighbours(ours, texts, vectors)
    tokens = bench.models.tokens(texts)
    table("in this process", seconds, "tokens", tokens)
    cosines = np.sum(vectors * bench.models.encode(texts), axis=1)
    return {
        **ratio("batch_ratio", seconds["ours"], seconds["peer"]),
        "batch_tokens_per_second": tokens / statistics.median(seconds["ours"]),
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "texts_that_depend_on_neighbours": changed,
    }


async def _that_depend_on_neighbours(ours: Embedder, texts: Sequence[str], crowd: Vector) -> int:
    alone = [(await embed(ours, [text])).vectors[0] for text in texts]
    return sum(not np.array_equal(one, other) for one, other in zip(crowd, alone, strict=True))


async def openvino(bench: Bench) -> Figures:
    """The other engine, in the element type that suits the processor, over the peer."""
    if not openvino_encoder.version():
        print("\nopenvino: the extra is not installed, nothing is measured")
        return {}
    texts = local.mixed(bench.texts)
    dtype = "bfloat16" if precision.processor_has_bfloat16() else "float32"
    facts = model.described(bench.models.resolved)
    encoder = openvino_encoder.load(bench.models.resolved, facts, dtype=dtype, threads=bench.models.threads)

    async def peer() -> None:
        await asyncio.to_thread(bench.models.encode, texts)

    async with local.embedder(bench.models, encoder) as ours:
        seconds = await alternating({f"openvino, {dtype}": lambda: embed(ours, texts), "peer": peer}, bench.rounds)
        vectors = (await embed(ours, texts)).vectors
    table("by OpenVINO", seconds, "tokens", bench.models.tokens(texts))
    cosines = np.sum(vectors * bench.models.encode(texts), axis=1)
    found = ratio("openvino_ratio", seconds[f"openvino, {dtype}"], seconds["peer"])
    return {**found, "openvino_dtype": dtype, "openvino_cosine_min": float(cosines.min())}


async def grpc_beside_in_process(bench: Bench) -> Figures:
    """One call with all texts through the service, over the same in this process."""
    texts = local.mixed(bench.texts)
    async with local.embedder(bench.models) as ours:
        ways = {"service": lambda: bench.served.embed(texts), "in this process": lambda: embed(ours, texts)}
        seconds = await alternating(ways, bench.rounds)
    table("through gRPC", seconds, "tokens", bench.models.tokens(texts))
    return ratio("grpc_ratio", seconds["service"], seconds["in this process"])


async def online(bench: Bench) -> Figures:
    """Callers with one text each, at once, over the peer called for each text."""
    texts = local.questions(_CALLERS)

    def peer_one_by_one() -> None:
        for text in texts:
            bench.models.encode([text])

    async def callers() -> None:
        await asyncio.gather(*(bench.served.embed([text]) for text in texts))

    async def peer() -> None:
        await asyncio.to_thread(peer_one_by_one)

    seconds = await alternating({"64 callers of the service": callers, "peer, text by text": peer}, bench.rounds)
    table("one text a call", seconds, "texts", _CALLERS)
    return ratio("online_ratio", seconds["64 callers of the service"], seconds["peer, text by text"])


async def single_query(bench: Bench) -> Figures:
    """The median time of one question through the service, over the bare call of the same model on its token ids."""
    encoder, tokenizer = bench.models.encoder, bench.models.tokenizer
    texts = itertools.cycle(local.questions(_QUERIES))

    async def bare() -> None:
        (ids,) = tokenizer.ids([next(texts)])
        encoder.compute(Batch(Product.POOLED, (ids,)))

    async def served() -> None:
        await bench.served.embed([next(texts)], query=True)

    found: list[float] = []
    for number in range(bench.rounds + 1):
        seconds = await alternating({"service": served, "bare": bare}, _QUERIES)
        if number:
            found.append(statistics.median(seconds["service"]) / statistics.median(seconds["bare"]))
    middle = {name: statistics.median(each) * 1000 for name, each in seconds.items()}
    print(f"\none question: {middle['service']:.2f} ms through the service, {middle['bare']:.2f} ms the bare model")
    return {
        "single_query_ratio": statistics.median(found),
        "single_query_ratio_spread": [min(found), max(found)],
        "single_query_ms": middle["service"],
    }
