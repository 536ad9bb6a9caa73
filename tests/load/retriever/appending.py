"""What new documents cost in a collection that is there, over what they cost when it was built.

Everything but the model runs, on drawn texts: the model's part is what the real one takes for so many of these passages,
measured in the same run, and is the same for a passage whenever it comes.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.drawn import DrawnEmbeddings, DrawnTexts
from tests.load.retriever.library import Library, opened
from tests.load.retriever.sets import Corpus, Source

_PASSAGES = 20
_SAMPLE = 64
_NAME = "drawn"


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall and processor seconds, those of children included but for the parser that outlives them, and texts embedded."""

    seconds: float
    cpu_seconds: float
    embedded: int


async def figures(bench: Bench) -> Figures:
    """``append_ratio``, with and without the model's own time, which is the same for both."""
    texts, embeddings = DrawnTexts(bench.data), DrawnEmbeddings()
    documents = bench.append_chunks // _PASSAGES
    built = [Source(f"d{number}.md", texts.document(_PASSAGES)) for number in range(documents)]
    new = [Source(f"n{number}.md", texts.document(_PASSAGES)) for number in range(max(1, documents // 100))]
    with tempfile.TemporaryDirectory() as name:
        async with opened(Path(name), embeddings) as library:
            whole = await _cost(library, embeddings, built, first=True)
            more = await _cost(library, embeddings, new)
    seconds_a_text = _model_seconds(bench, texts)
    share = len(new) / len(built)

    def ratio(model: float) -> float:
        return (more.cpu_seconds + model * more.embedded) / (share * (whole.cpu_seconds + model * whole.embedded))

    print(f"built {whole}\nappended {more}\nthe model takes {1000 * seconds_a_text:.1f} ms a text")
    return {
        "append_ratio": round(ratio(seconds_a_text), 3),
        "append_ratio_without_model": round(ratio(0.0), 3),
        "append_embedded_ratio": round(more.embedded / (share * whole.embedded), 3),
        "append_chunks": whole.embedded,
        "build_ms_a_chunk_without_model": round(1000 * whole.seconds / whole.embedded, 3),
    }


async def _cost(
    library: Library, embeddings: DrawnEmbeddings, documents: Sequence[Source], *, first: bool = False
) -> Cost:
    before, began, cpu = embeddings.computed, time.perf_counter(), time.process_time()
    if first:
        await library.fill(Corpus(_NAME, tuple(documents), ()))
    else:
        await library.add(_NAME, documents)
    return Cost(time.perf_counter() - began, time.process_time() - cpu, embeddings.computed - before)


def _model_seconds(bench: Bench, texts: DrawnTexts) -> float:
    """Processor seconds that the real model takes for a passage."""
    sample = list(texts.passages(2 * _SAMPLE))
    bench.encoder.compute(sample[:_SAMPLE])
    cpu = time.process_time()
    bench.encoder.compute(sample[_SAMPLE:])
    return (time.process_time() - cpu) / _SAMPLE
