"""What a text is made of: headings, paragraphs, lists, tables, code, each with its exact characters.

Runs in a child process on text that nobody vouches for; it imports little and knows no
service.  Invariant: the units of all blocks, in order, do not overlap and hold every
character of the text that is not blank; each begins and ends with one.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.retriever.text.cutting import Span, pieces, trimmed


class BlockKind(StrEnum):
    """What a block is, where that decides how it may be cut."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Block:
    """A block under its headings.  ``units`` are the pieces that it may be cut into, [start, end) each.

    ``level`` is 1 to 6 for a heading, 0 otherwise; ``heading_path`` of a heading ends with itself.
    """

    kind: BlockKind
    level: int
    heading_path: tuple[str, ...]
    units: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """A text's blocks in order, and its first heading (empty if it has none)."""

    title: str
    blocks: tuple[Block, ...]


# Longer than any sentence; what is longer is cut at a space.
MAX_UNIT_CHARACTERS = 1500
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])")
_LINE_END = re.compile(r"\n")
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n")
_FRONT_MATTER = re.compile(r"---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_KINDS = {
    "heading_open": BlockKind.HEADING,
    "bullet_list_open": BlockKind.LIST,
    "ordered_list_open": BlockKind.LIST,
    "table_open": BlockKind.TABLE,
    "fence": BlockKind.CODE,
    "code_block": BlockKind.CODE,
    "html_block": BlockKind.CODE,
}


def outline(text: str, *, markdown: bool) -> Outline:
    """The blocks of a normalised text."""
    return _markdown(text) if markdown else Outline("", tuple(_paragraphs(text)))


def units_of(piece: str, kind: BlockKind) -> tuple[Span, ...]:
    """The pieces that a block of this text may be cut into."""
    if kind is BlockKind.HEADING:
        return _cut(piece, 0, len(piece), None)
    return _cut(piece, 0, len(piece), _LINE_END if kind is BlockKind.CODE else _SENTENCE_END)


def _paragraphs(text: str) -> Iterator[Block]:
    for start, end in _between(text, 0, len(text), _BLANK_LINES):
        yield Block(BlockKind.PARAGRAPH, 0, (), _cut(text, start, end, _SENTENCE_END))


def _markdown(text: str) -> Outline:
    """CommonMark with tables, by markdown-it's map from tokens to lines.  Lines that no token claims are paragraphs."""
    front = _FRONT_MATTER.match(text)
    offset = front.end() if front else 0
    body = text[offset:]
    inline = MarkdownIt("commonmark")
    lines = _line_starts(body, offset)
    headings: list[tuple[int, str]] = []
    blocks: list[Block] = []
    title = ""
    for kind, first, last, token in _top_level(body, len(lines) - 1):
        start, end = lines[first], lines[last]
        level = 0
        if kind is BlockKind.HEADING and token is not None:
            level = int(token.tag[1:])
            heading = _plain(inline, token.content)
            headings = [*(item for item in headings if item[0] < level), (level, heading)]
            title = title or heading
        units = _units(text, start, end, kind, token, lines)
        if units:
            blocks.append(Block(kind, level, tuple(name for _, name in headings if name), units))
    if front:
        blocks.insert(0, Block(BlockKind.CODE, 0, (), _cut(text, 0, offset, _LINE_END)))
    return Outline(title, tuple(blocks))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is kept of a token: a heading's tag and words, the first lines of a list's items."""

    tag: str
    content: str
    item_lines: tuple[int, ...]


def _top_level(body: str, line_count: int) -> Iterator[tuple[BlockKind, int, int, _Shape | None]]:
    """Kind and lines [first, last) of each block, without gaps."""
    parser = MarkdownIt("commonmark").enable("table")
    # Only blocks are wanted; parsing what stands inside them would cost most of the time.
    parser.core.ruler.enableOnly(["normalize", "block"])
    tokens = parser.parse(body)
    at = 0
    for number, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        first, last = max(token.map[0], at), min(token.map[1], line_count)
        if first > at:
            yield BlockKind.PARAGRAPH, at, first, None
        if last > first:
            yield _KINDS.get(token.type, BlockKind.PARAGRAPH), first, last, _shape(tokens, number)
            at = last
    if at < line_count:
        yield BlockKind.PARAGRAPH, at, line_count, None


def _shape(tokens: Sequence[Token], number: int) -> _Shape:
    token = tokens[number]
    content = tokens[number + 1].content if token.type == "heading_open" else ""
    items: list[int] = []
    if token.type.endswith("_list_open"):
        for inner in tokens[number + 1 :]:
            if inner.level == 0:
                break
            if inner.type == "list_item_open" and inner.level == 1 and inner.map is not None:
                items.append(inner.map[0])
    return _Shape(token.tag, content, tuple(items))


def _units(
    text: str, start: int, end: int, kind: BlockKind, shape: _Shape | None, lines: Sequence[int]
) -> tuple[Span, ...]:
    if kind is BlockKind.HEADING:
        return _cut(text, start, end, None)
    if kind is BlockKind.LIST and shape is not None:
        edges = [start, *(lines[line] for line in shape.item_lines if lines[line] > start), end]
        items = [span for pair in itertools.pairwise(edges) for span in trimmed(text, *pair)]
        return tuple(unit for item in items for unit in _short(text, *item, _LINE_END))
    return _cut(text, start, end, _LINE_END if kind in (BlockKind.TABLE, BlockKind.CODE) else _SENTENCE_END)


def _cut(text: str, start: int, end: int, edges: re.Pattern[str] | None) -> tuple[Span, ...]:
    """[start, end) cut at ``edges``, trimmed, and cut again where a piece is too long."""
    pieces = _between(text, start, end, edges) if edges else trimmed(text, start, end)
    return tuple(unit for piece in pieces for unit in _short(text, *piece, _LINE_END))


def _short(text: str, start: int, end: int, edges: re.Pattern[str] | None) -> Iterator[Span]:
    """The span itself if it is short enough, else its pieces."""
    if end - start <= MAX_UNIT_CHARACTERS:
        yield start, end
    elif edges is not None:
        for piece in _between(text, start, end, edges):
            yield from _short(text, *piece, None)
    else:
        yield from pieces(text, start, end, MAX_UNIT_CHARACTERS)


def _between(text: str, start: int, end: int, edges: re.Pattern[str]) -> Iterator[Span]:
    """The trimmed pieces of [start, end) between matches of ``edges``."""
    at = start
    for match in edges.finditer(text, start, end):
        if match.end() > at:
            yield from trimmed(text, at, match.end())
            at = match.end()
    yield from trimmed(text, at, end)


def _line_starts(body: str, offset: int) -> list[int]:
    """Where each line begins, and the end as one more."""
    starts = [offset, *(offset + match.end() for match in _LINE_END.finditer(body))]
    if starts[-1] != offset + len(body) or not body:
        starts.append(offset + len(body))
    return starts


def _plain(parser: MarkdownIt, heading: str) -> str:
    """A heading's words without the marks of emphasis, code and links."""
    tokens = parser.parseInline(heading)
    children = [child for token in tokens for child in token.children or ()]
    words = "".join(child.content or " " * (child.type == "softbreak") for child in children)
    return " ".join(words.split())
