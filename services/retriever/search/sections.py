"""Hits widened to what stands around them in their section.

Invariant: a window is a run of whole chunks of one section of one version; windows do
not overlap, so no character is shown twice; within the budget unless one chunk alone is
larger.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.retriever.store import ChunkRow


@dataclass(frozen=True, slots=True)
class Placed:
    """A chunk and its characters [start, end)."""

    chunk: int
    start: int
    end: int


Section = tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A widened hit: its best chunk, the other hits merged into it, and its characters."""

    chunk: int
    merged: tuple[int, ...]
    start: int
    end: int


def sections_of(session: Session, tenant: str, documents: Sequence[int]) -> dict[int, Section]:
    """By chunk the section that it belongs to, over these documents: a run of chunks under one path of headings."""
    columns = ChunkRow.document_number, ChunkRow.heading_path_json, ChunkRow.chunk, ChunkRow.start, ChunkRow.end
    found: dict[int, Section] = {}
    for number in documents:
        query = select(*columns).where(ChunkRow.tenant == tenant, ChunkRow.document_number == number)
        rows = session.execute(query.order_by(ChunkRow.start)).all()
        for _, run in groupby(rows, key=lambda row: (row[0], tuple(json.loads(row[1])))):
            section = tuple(Placed(chunk, start, end) for _, _, chunk, start, end in run)
            found.update((placed.chunk, section) for placed in section)
    return found


def widened(order: Sequence[int], sections: Mapping[int, Section], most: int, characters: int) -> list[Window]:
    """The first ``most`` hits of the order, widened to at most ``characters``.

    Hits of a section are one when they are at least half of its chunks and fit together;
    the best one says where it stands.
    """
    taken = min(most, len(order))
    while True:
        windows = _windows(order[:taken], sections, characters)
        if len(windows) >= most or taken == len(order):
            return windows[:most]
        taken = min(len(order), taken + most - len(windows))


def _windows(hit: Sequence[int], sections: Mapping[int, Section], characters: int) -> list[Window]:
    found = set(hit)
    used: set[int] = set()
    windows = []
    for chunk in hit:
        if chunk in used:
            continue
        section = sections[chunk]
        first, last = _core(chunk, section, found, characters)
        merged = tuple(it.chunk for it in section[first : last + 1] if it.chunk in found and it.chunk != chunk)
        first, last = _grown(section, first, last, found | used, characters)
        used.update(it.chunk for it in section[first : last + 1])
        windows.append(Window(chunk, merged, section[first].start, section[last].end))
    return windows


def _core(chunk: int, section: Section, found: set[int], characters: int) -> tuple[int, int]:
    """Where in its section the window begins from: the chunk, or all the section's hits if they are one."""
    hits = [at for at, it in enumerate(section) if it.chunk in found]
    if 2 * len(hits) >= len(section) and section[hits[-1]].end - section[hits[0]].start <= characters:
        return hits[0], hits[-1]
    return _place(chunk, section)


def _place(chunk: int, section: Section) -> tuple[int, int]:
    at = next(at for at, it in enumerate(section) if it.chunk == chunk)
    return at, at


def _grown(section: Section, first: int, last: int, closed: set[int], characters: int) -> tuple[int, int]:
    """The run with neighbours added in turn, after and before, as long as they fit and are nobody's."""
    sides = [1, -1]
    while sides:
        side = sides.pop(0)
        low, high = (first, last + 1) if side > 0 else (first - 1, last)
        at = high if side > 0 else low
        if not 0 <= at < len(section) or section[at].chunk in closed:
            continue
        if section[high].end - section[low].start <= characters:
            first, last = low, high
            sides.append(side)
    return first, last
