"""Blocks to chunks: what is found as one and cited as one.

Paragraphs are grouped up to a number of wordpieces, never across a heading; a block too
long for one chunk is cut between sentences, list items, rows or lines.  Inside a long
section the words choose the cuts (``cutting``), so that an edit changes the chunk that it
is in and rarely more than a few behind it.  Invariant: the chunks of a text do not overlap,
hold every character that is not blank, and are the text at [start, end) to the character.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from services.retriever.text.blocks import Block, BlockKind, Outline
from services.retriever.text.cutting import Span, pieces, toss

SEPARATOR = " › "


@dataclass(frozen=True, slots=True)
class Chunk:
    """Characters [start, end) under their headings; ``context`` stands before them where they are embedded."""

    start: int
    end: int
    text: str
    context: str
    heading_path: tuple[str, ...]

    @property
    def indexed_text(self) -> str:
        """What is embedded and what keywords are looked for in."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of a chunk without its context, and of the context."""

    chunk_tokens: int
    context_tokens: int

    @classmethod
    def within(cls, model_tokens: int, wanted_chunk_tokens: int, special_tokens: int) -> "Budget":
        """The budget under a model that cuts at ``model_tokens``: a quarter at least is left for the context."""
        room = model_tokens - special_tokens
        chunk = min(wanted_chunk_tokens, max(1, room * 3 // 4))
        return cls(chunk, room - chunk)


@dataclass(slots=True)
class Measured:
    """How many tokens each text has; filled by whoever owns the tokenizer."""

    tokens: dict[str, int] = field(default_factory=dict)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The texts that were not counted yet, each once."""
        return list(dict.fromkeys(text for text in texts if text not in self.tokens))


def contexts(title: str, path: Sequence[str]) -> list[str]:
    """Ways to say where a chunk stands, the fullest first."""
    names = [title, *(path[1:] if path and path[0] == title else path)]
    names = [name for name in names if name]
    return [SEPARATOR.join(names[first:]) for first in range(len(names))]


def texts_to_measure(text: str, outline: Outline, title: str) -> list[str]:
    """Every text whose tokens :func:`chunked` will want to know."""
    wanted = [text[start:end] for block in outline.blocks for start, end in block.units]
    for path in dict.fromkeys(block.heading_path for block in outline.blocks):
        wanted += contexts(title, path)
    return wanted


def refined(text: str, outline: Outline, measured: Measured, budget: Budget) -> Outline:
    """The outline with units cut in two or more that have too many tokens for a chunk; the same one when none has."""
    blocks = tuple(_refined(text, block, measured, budget) for block in outline.blocks)
    return outline if blocks == outline.blocks else Outline(outline.title, blocks)


def _refined(text: str, block: Block, measured: Measured, budget: Budget) -> Block:
    units: list[Span] = []
    for start, end in block.units:
        too_long = measured.tokens[text[start:end]] > budget.chunk_tokens and end - start > 1
        units += pieces(text, start, end, (end - start + 1) // 2) if too_long else [(start, end)]
    return Block(block.kind, block.level, block.heading_path, tuple(units))


def chunked(text: str, outline: Outline, title: str, measured: Measured, budget: Budget) -> list[Chunk]:
    """The chunks of a refined outline, all of whose texts are measured."""
    known: dict[tuple[str, ...], str] = {}
    found = []
    for group in _groups(text, outline.blocks, measured.tokens, budget.chunk_tokens):
        path = group[-1].path
        if path not in known:
            known[path] = _context(title, path, measured.tokens, budget.context_tokens)
        start, end = group[0].span[0], group[-1].span[1]
        found.append(Chunk(start, end, text[start:end], known[path], path))
    return found


@dataclass(frozen=True, slots=True)
class _Unit:
    span: Span
    path: tuple[str, ...]
    tokens: int
    # Of the block that begins with this unit; 0 inside of a block.
    block_tokens: int
    heading: bool


def _groups(text: str, blocks: Sequence[Block], tokens: Mapping[str, int], most: int) -> Iterator[list[_Unit]]:
    """Units that become one chunk."""
    for section in _sections(text, blocks, tokens):
        first = 0
        for cut in [*_cuts(text, section, most), len(section)]:
            yield section[first:cut]
            first = cut


def _sections(text: str, blocks: Sequence[Block], tokens: Mapping[str, int]) -> Iterator[list[_Unit]]:
    """Units between headings.

    A heading begins a section, unless all that came before are headings above it: a section
    without words of its own goes with its first subsection.
    """
    section: list[_Unit] = []
    level = 0
    for block in blocks:
        heading = block.kind is BlockKind.HEADING
        if heading:
            if section and not (block.level > level and all(unit.heading for unit in section)):
                yield section
                section = []
            level = block.level
        sizes = [tokens[text[start:end]] for start, end in block.units]
        for number, (span, size) in enumerate(zip(block.units, sizes, strict=True)):
            section.append(_Unit(span, block.heading_path, size, 0 if number else max(1, sum(sizes)), heading))
    if section:
        yield section


def _cuts(text: str, units: Sequence[_Unit], most: int) -> Iterator[int]:
    """Where a section is cut so that no chunk has more than ``most`` tokens.

    Each time among the places that leave a chunk half full at least; what is left and fits
    is one chunk.  See ``cutting`` for why the words choose.
    """
    left = sum(unit.tokens for unit in units)
    first = 0
    while left > most:
        cut = _cut(text, units, first, most)
        yield cut
        left -= sum(unit.tokens for unit in units[first:cut])
        first = cut


def _cut(text: str, units: Sequence[_Unit], first: int, most: int) -> int:
    """The unit that begins the next chunk, after the one that begins with ``first``.

    In this order: the beginning of a block; that of one which would be torn and fits a
    chunk of its own; any unit; the last that fits.
    """
    at, used = first + 1, units[first].tokens
    bare = units[first].heading
    roomy: list[int] = []
    untorn = 0
    while True:
        if not bare and used * 2 >= most:
            roomy.append(at)
        elif not bare and units[at].block_tokens:
            untorn = at if units[at].block_tokens <= most else 0
        if used + units[at].tokens > most:
            break
        bare = bare and units[at].heading
        used += units[at].tokens
        at += 1
    blocks = [place for place in roomy if units[place].block_tokens]
    if not blocks and untorn:
        return untorn
    return min(blocks or roomy or [at], key=lambda place: (toss(text[slice(*units[place].span)]), -place))


def _context(title: str, path: Sequence[str], tokens: Mapping[str, int], most: int) -> str:
    """The fullest context that fits; of a heading that alone is too long, as many characters as tokens are allowed."""
    ways = contexts(title, path)
    for way in ways:
        if tokens[way] <= most:
            return way
    return ways[-1][:most].strip() if ways else ""
