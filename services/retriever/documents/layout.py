"""A converted document's blocks and pages as they are stored beside its text, so that it is read only once."""

import json
import zlib
from dataclasses import dataclass

from services.retriever.formats.writer import Converted
from services.retriever.text.blocks import Block, BlockKind, Outline


@dataclass(frozen=True, slots=True)
class Layout:
    """Blocks, where each page begins in characters (empty without pages), and what could not be read."""

    outline: Outline
    pages: tuple[int, ...]
    notice: str


def packed(converted: Converted) -> bytes:
    """As stored: compressed JSON, each heading path once."""
    paths = {path: at for at, path in enumerate(dict.fromkeys(it.heading_path for it in converted.outline.blocks))}
    blocks = [
        [block.kind, block.level, paths[block.heading_path], [place for unit in block.units for place in unit]]
        for block in converted.outline.blocks
    ]
    whole = {
        "title": converted.outline.title,
        "paths": list(paths),
        "blocks": blocks,
        "pages": converted.pages,
        "notice": converted.notice,
    }
    return zlib.compress(json.dumps(whole, separators=(",", ":")).encode())


def unpacked(stored: bytes) -> Layout:
    """From what is stored."""
    whole = json.loads(zlib.decompress(stored))
    paths = [tuple(path) for path in whole["paths"]]
    blocks = tuple(
        Block(BlockKind(kind), level, paths[path], tuple(zip(places[::2], places[1::2], strict=True)))
        for kind, level, path, places in whole["blocks"]
    )
    return Layout(Outline(whole["title"], blocks), tuple(whole["pages"]), whole["notice"])
