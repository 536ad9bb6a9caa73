"""What is asked of an answer with sources, and what its stream carries."""

from dataclasses import dataclass, field
from enum import Enum

from gateway.answering import Wish
from gateway.asking.citations import Citation
from gateway.asking.quotes import Quote
from gateway.asking.retrieval import Abstention, Policy, Scope, Source
from gateway.asking.stages import Report
from gateway.asking.support import Judged
from gateway.generation import Basis, CollectionVersion, Fallback, Generated, Message


class Path(Enum):
    """Where an answer comes from."""

    UNSPECIFIED = "unspecified"
    PASSAGES = "passages"
    SUMMARY = "summary"
    INDEX = "index"


class Release(Enum):
    """When text leaves."""

    AT_ONCE = "as it comes"
    SENTENCE = "by the sentence"


class Unsupported(Enum):
    """What becomes of sentences that no source supports."""

    MARK = "mark"
    WITHHOLD = "withhold"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of which collections; a scope of none means an answer without retrieval.

    ``path`` UNSPECIFIED takes what the question seems to ask for, ``abstention`` UNSPECIFIED what its collections say.
    """

    text: str
    wish: Wish
    scope: Scope = field(default_factory=Scope)
    history: tuple[Message, ...] = ()
    top_k: int = 0
    instructions: str = ""
    abstention: Policy = Policy.UNSPECIFIED
    path: Path = Path.UNSPECIFIED
    rewrite: bool = True
    release: Release = Release.AT_ONCE
    unsupported: Unsupported = Unsupported.MARK
    check_support: bool = False
    explain: bool = False
    fallbacks: bool = True


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The question as it is looked for; ``reason`` says why it is another one than was asked, or why not."""

    question: str
    rewritten: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Sources:
    """What the answer may cite, in the order of the markers, and what was decided before it."""

    sources: tuple[Source, ...]
    path: Path = Path.UNSPECIFIED
    abstention: Abstention | None = None
    rewrite: Rewrite | None = None
    left_out: tuple[Source, ...] = ()
    collections: tuple[CollectionVersion, ...] = ()

    @property
    def basis(self) -> Basis:
        """What an answer from them stands on."""
        return Basis(tuple(source.span for source in self.sources), self.collections)


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of an answer with sources.  ``stages`` are there when they were asked for."""

    end: Generated
    citations: tuple[Citation, ...]
    unresolved_markers: tuple[int, ...]
    told: Sources
    sentences: tuple[Judged, ...] = ()
    quotes: tuple[Quote, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    stages: tuple[Report, ...] = ()
    prompt_format: str = ""
