"""What an edit costs: tokens that one-sentence edits have embedded again over the tokens of the sections edited.

One sentence of one place of each document is changed, as often as asked for, in the Markdown
documents of the public set, and in the same texts without their structure, which are one long
section each.  Counted with the default model's tokenizer; nothing is embedded.
"""

import itertools
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.chassis import models
from services.embedder.model import FastTokenizer
from services.retriever.config import RetrieverSettings
from services.retriever.text.blocks import BlockKind, Outline, outline
from services.retriever.text.chunking import Budget, Chunk, Measured, chunked, refined, texts_to_measure
from services.retriever.text.texts import normalised
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.sets import multicorpus

_SPECIAL_TOKENS = 2
_MODEL_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Edit:
    """Tokens embedded again, tokens of the section as it is now, and chunks embedded again."""

    embedded_tokens: int
    section_tokens: int
    embedded_chunks: int


class Splitter:
    """Texts to chunks as ingestion splits them."""

    def __init__(self) -> None:
        self._tokenizer = FastTokenizer(models.resolve(models.DEFAULT_EMBEDDING).path)
        self._budget = Budget.within(_MODEL_TOKENS, RetrieverSettings().max_chunk_tokens, _SPECIAL_TOKENS)
        self._measured = Measured()

    def tokens(self, texts: Sequence[str]) -> int:
        """Of all the texts together, without special ones."""
        return sum(len(ids) - _SPECIAL_TOKENS for ids in self._tokenizer.ids(texts))

    def chunks(self, text: str, found: Outline) -> list[Chunk]:
        """The chunks of a text with these blocks."""
        while True:
            missing = self._measured.missing(texts_to_measure(text, found, found.title))
            counts = [len(ids) - _SPECIAL_TOKENS for ids in self._tokenizer.ids(missing)]
            self._measured.tokens.update(zip(missing, counts, strict=True))
            finer = refined(text, found, self._measured, self._budget)
            if finer is found:
                return chunked(text, found, found.title, self._measured, self._budget)
            found = finer

    def edit(self, text: str, *, markdown: bool, chance: random.Random) -> Edit:
        """One sentence of the text gets other words."""
        before = outline(text, markdown=markdown)
        units = [unit for block in before.blocks if block.kind is not BlockKind.HEADING for unit in block.units]
        start, end = chance.choice(units)
        # In the middle of the unit, so that marks at its ends keep their meaning.
        at = text.find(" ", start + (end - start) // 2, end)
        at = end if at < 0 else at
        edited = f"{text[:at]} as was said on day {chance.randrange(10_000)}{text[at:]}"
        known = {chunk.indexed_text for chunk in self.chunks(text, before)}
        after = self.chunks(edited, outline(edited, markdown=markdown))
        new = [chunk.indexed_text for chunk in after if chunk.indexed_text not in known]
        (home,) = [chunk for chunk in after if chunk.start <= at < chunk.end] or after[-1:]
        return Edit(self.tokens(new), self.tokens(_section(after, home)), len(new))


def _section(chunks: Sequence[Chunk], home: Chunk) -> list[str]:
    """What is embedded of the section that a chunk is in: its neighbours under the same headings."""
    runs = [list(run) for _, run in itertools.groupby(chunks, key=lambda chunk: chunk.heading_path)]
    return [chunk.indexed_text for run in runs if home in run for chunk in run]


async def figures(bench: Bench) -> Figures:
    """The part ``edits``."""
    return edits(bench.data)


def edits(data: Path, each: int = 5) -> Figures:
    """``edit_ratio``, and chunks embedded again by an edit of a document without headings: their mean and the most."""
    splitter, chance = Splitter(), random.Random(11)
    structured: list[Edit] = []
    plain: list[Edit] = []
    for corpus in multicorpus(data, "md").corpora:
        for source in corpus.documents:
            text = normalised(source.content.decode())
            for _ in range(each):
                structured.append(splitter.edit(text, markdown=True, chance=chance))
                plain.append(splitter.edit(text, markdown=False, chance=chance))
    embedded = sum(it.embedded_tokens for it in structured)
    return {
        "edit_ratio": round(embedded / sum(it.section_tokens for it in structured), 3),
        "edit_chunks_without_headings": round(statistics.mean(it.embedded_chunks for it in plain), 2),
        "edit_chunks_without_headings_most": max(it.embedded_chunks for it in plain),
    }
