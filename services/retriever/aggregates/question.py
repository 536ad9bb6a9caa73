"""What is counted, and what counting answers.

Invariant: every number is over all that the viewer may read, and over nothing else.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.retriever.documents.attributes import Value
from services.retriever.documents.readers import Viewer
from services.retriever.search.filters import Filter


class Match(StrEnum):
    """What a document must hold of the keywords."""

    PASSAGE = "all in one passage"
    DOCUMENT = "all somewhere"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Counting:
    """What is to be counted, for whom.  Without words every document counts; empty ``documents`` means all.

    ``group_by`` names metadata, or is empty.  Of the list the first ``most`` documents behind ``after`` are told.
    """

    collection: str
    words: tuple[str, ...]
    match: Match
    documents: tuple[str, ...]
    viewer: Viewer
    filter: Filter | None
    group_by: str
    after: str
    most: int


@dataclass(frozen=True, slots=True)
class Mention:
    """Characters [start, end) of a document's serving version, and those of the passage that they stand in."""

    chunk: int
    start: int
    end: int
    text: str
    passage: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Matching:
    """A document that counts: how many of its passages do, and what it mentions first; None without keywords."""

    document: str
    version: str
    title: str
    passages: int
    first: Mention | None


@dataclass(frozen=True, slots=True)
class Group:
    """Documents with the same value; None is of those that lack the field."""

    value: Value | None
    documents: int
    passages: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The exact numbers, and a part of the list by document id.

    ``searched`` are the documents that were looked at, ``version`` is the collection's.
    """

    documents: int
    passages: int
    searched: int
    groups: tuple[Group, ...]
    listed: tuple[Matching, ...]
    more: bool
    version: str
