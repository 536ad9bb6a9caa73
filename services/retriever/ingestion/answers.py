"""What comes back from the process that reads documents, as bytes that nobody vouches for.

A document that took that process over can send whatever it likes.  Invariant: what is made of
it here is plain data within announced bounds, of exactly the shape that reading gives: text,
numbers inside of it, and nothing that runs.  Everything else is :class:`Rubbish`.
"""

import json
import re
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from operator import le, lt
from typing import Any

from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted
from services.retriever.text.blocks import Block, BlockKind, Outline

# Kind, then the bytes of each of the three parts: text, heads as JSON, places as 32-bit numbers.
HEADER = struct.Struct("<BQQQ")
# Of a character: four of its text, and the share of blocks and places where every other one is a paragraph.
_BYTES_PER_CHARACTER = 32
_SPARE_BYTES = 1024 * 1024
_MOST_SENTENCE = 2_000
_MOST_LEVEL = 6
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Rubbish(Exception):
    """No answer of a reader that works."""


class NotAsked(Exception):
    """What was sent before the question: the document before this one had taken the reader over."""


class Kind(IntEnum):
    """What an answer is."""

    CONVERTED = 1
    UNREADABLE = 2
    OUT_OF_TIME = 3
    OUT_OF_MEMORY = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it travels."""

    kind: Kind
    text: bytes = b""
    heads: bytes = b""
    places: bytes = b""

    @property
    def header(self) -> bytes:
        """What goes before it."""
        return HEADER.pack(self.kind, len(self.text), len(self.heads), len(self.places))


def lengths(header: bytes, most_characters: int) -> tuple[int, tuple[int, int, int]]:
    """The kind and the lengths of what is to come.  Raises Rubbish where that is more than so many characters need."""
    kind, *parts = HEADER.unpack(header)
    if kind not in set(Kind) or sum(parts) > _SPARE_BYTES + most_characters * _BYTES_PER_CHARACTER:
        raise Rubbish
    text, heads, places = parts
    return kind, (text, heads, places)


def of_converted(found: Converted) -> Answer:
    """A document that was read."""
    paths = {path: at for at, path in enumerate(dict.fromkeys(it.heading_path for it in found.outline.blocks))}
    blocks = [[it.kind, it.level, paths[it.heading_path], len(it.units)] for it in found.outline.blocks]
    heads = {"title": found.outline.title, "notice": found.notice, "paths": list(paths), "blocks": blocks}
    places = array("I", found.pages)
    for block in found.outline.blocks:
        for unit in block.units:
            places.extend(unit)
    packed = json.dumps({**heads, "pages": len(found.pages)}, ensure_ascii=False, separators=(",", ":"))
    return Answer(Kind.CONVERTED, found.text.encode(), packed.encode(errors="replace"), places.tobytes())


def of_unreadable(error: Unreadable) -> Answer:
    """One that could not be."""
    sentences = [error.problem[:_MOST_SENTENCE], error.remedy[:_MOST_SENTENCE]]
    return Answer(Kind.UNREADABLE, heads=json.dumps(sentences).encode())


def converted(answer: Answer, text: str | None, most_characters: int) -> Converted:
    """The document.  ``text`` is its text where that is ours and was not sent.  Raises Rubbish and Unreadable."""
    try:
        if answer.kind is Kind.UNREADABLE:
            raise _unreadable(json.loads(answer.heads))
        # Empty where it was not sent.
        sent = answer.text.decode()
        if text is None:
            _require(len(sent) <= most_characters and not _CONTROLS.search(sent))
        else:
            _require(not sent)
        whole = sent if text is None else text
        places = array("I")
        places.frombytes(answer.places)
        return _converted(whole, json.loads(answer.heads), places.tolist())
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise Rubbish from error


def _converted(text: str, heads: Any, places: list[int]) -> Converted:
    _require(type(heads) is dict and type(heads["pages"]) is int and 0 <= heads["pages"] <= len(places))
    _require(_is_text(heads["title"]) and _is_text(heads["notice"]))
    pages, units = places[: heads["pages"]], places[heads["pages"] :]
    _require(_ascends(pages, len(text)) and _ascends(units, len(text)) and len(units) % 2 == 0)
    _require(all(map(lt, units[::2], units[1::2])))
    paths = [tuple(path) for path in heads["paths"] if _is_path(path)]
    _require(len(paths) == len(heads["paths"]))
    blocks, at = [], 0
    for kind, level, path, count in heads["blocks"]:
        _require(_is_number(level, _MOST_LEVEL) and _is_number(path, len(paths) - 1) and _is_number(count, len(units)))
        mine = units[at : at + 2 * count]
        blocks.append(Block(BlockKind(kind), level, paths[path], tuple(zip(mine[::2], mine[1::2], strict=True))))
        at += 2 * count
    _require(at == len(units))
    return Converted(text, Outline(heads["title"], tuple(blocks)), tuple(pages), heads["notice"])


def _unreadable(sentences: Any) -> Unreadable:
    _require(type(sentences) is list and len(sentences) == 2)
    _require(all(_is_text(it) and len(it) <= _MOST_SENTENCE for it in sentences))
    return Unreadable(*sentences)


def _ascends(places: list[int], end: int) -> bool:
    return not places or (places[-1] <= end and all(map(le, places, islice(places, 1, None))))


def _is_path(path: Any) -> bool:
    return type(path) is list and all(map(_is_text, path))


def _is_text(value: Any) -> bool:
    """Whether it is a text that can be stored: NUL and half of a surrogate pair cannot."""
    return type(value) is str and "\0" not in value and value == value.encode(errors="replace").decode()


def _is_number(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _require(holds: bool) -> None:
    if not holds:
        raise Rubbish


def parts(answer: Answer) -> Sequence[bytes]:
    """What follows the header, in order."""
    return answer.text, answer.heads, answer.places
