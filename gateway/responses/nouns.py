"""What a response is made of, and the events of its stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from gateway.asking.retrieval import Ranking
from gateway.generation import (
    Fallback,
    Receipt,
    Sampling,
    Shape,
    SourceSpan,
    Speaker,
    StageTiming,
    ToolCall,
    ToolUse,
    Usage,
)
from gateway.responses.grounds import Grounds, Manner
from gateway.vector_stores.nouns import Attributes


class ToolChoice(Enum):
    """Whether passages are looked for."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class FileSearch:
    """Where passages are looked for.  ``narrowed`` is a filter as the retriever packs it; empty for none."""

    stores: tuple[str, ...]
    narrowed: bytes = b""
    most: int = 0
    ranking: Ranking = field(default_factory=Ranking)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a response is asked with, beside its input; ``fallback`` is as ``Wish`` has it."""

    model: str = ""
    instructions: str = ""
    previous: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    shape: Shape | None = None
    format_name: str = ""
    search: FileSearch | None = None
    tool_choice: ToolChoice = ToolChoice.AUTO
    store: bool = True
    sticky_key: str = ""
    functions: ToolUse | None = None
    fallback: str = ""
    manner: Manner = field(default_factory=Manner)

    @property
    def searched(self) -> FileSearch | None:
        """Where passages are looked for, where they are."""
        return None if self.tool_choice is ToolChoice.NONE else self.search


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker at [start, end) of a text, in code points, and the characters of a file that it points at."""

    file: str
    filename: str
    start: int
    end: int
    span: SourceSpan


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said, in parts; the citations are of the one part of an answer.

    ``refused`` says that this part is none: the sources do not hold what was to have a shape.
    """

    speaker: Speaker
    parts: tuple[str, ...]
    citations: tuple[Citation, ...] = ()
    refused: bool = False

    @property
    def text(self) -> str:
        """The parts as one text."""
        return "".join(self.parts)


@dataclass(frozen=True, slots=True)
class Result:
    """A passage that was found."""

    file: str
    filename: str
    score: float
    text: str
    attributes: Attributes
    span: SourceSpan


@dataclass(frozen=True, slots=True)
class Search:
    """A search: what was looked for, and what stood in the prompt."""

    queries: tuple[str, ...]
    results: tuple[Result, ...] = ()


@dataclass(frozen=True, slots=True)
class Returned:
    """What a function returned to whoever was told to call it."""

    call_id: str
    output: str


class ItemStatus(Enum):
    """How far an item is."""

    IN_PROGRESS = "in progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Item:
    """One item of an input or an output."""

    item: str
    content: Turn | Search | ToolCall | Returned
    status: ItemStatus = ItemStatus.COMPLETED


class Status(Enum):
    """How far a response is."""

    IN_PROGRESS = "in progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Error:
    """Why a response failed: the catalogue's reason, and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Response:
    """A response as far as it is.  ``created_at`` is Unix time in seconds."""

    response: str
    created_at: float
    settings: Settings
    status: Status = Status.IN_PROGRESS
    output: tuple[Item, ...] = ()
    error: Error | None = None
    usage: Usage | None = None
    receipt: Receipt | None = None
    timings: tuple[StageTiming, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    grounds: Grounds = field(default_factory=Grounds)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.  An empty ``request_id`` means none was given."""

    settings: Settings
    input: tuple[Item, ...]
    request_id: str = ""
    include_results: bool = False


class Stage(Enum):
    """What of a response an event tells."""

    CREATED = "created"
    IN_PROGRESS = "in progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Whole:
    """The response as far as it is: at its beginning, and at its end."""

    stage: Stage
    response: Response


@dataclass(frozen=True, slots=True)
class ItemBegun:
    """An item begins at its place in the output."""

    index: int
    item: Item


@dataclass(frozen=True, slots=True)
class ItemDone:
    """An item is whole."""

    index: int
    item: Item


class Phase(Enum):
    """How far a search is."""

    IN_PROGRESS = "in progress"
    SEARCHING = "searching"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Searching:
    """A search goes on."""

    index: int
    item: str
    phase: Phase


class TextStage(Enum):
    """What of an answer's text an event tells."""

    BEGUN = "begun"
    DELTA = "delta"
    DONE = "done"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Text:
    """Text of an answer: new, or all of it, at last with its citations; ``refused`` is as ``Turn`` has it."""

    stage: TextStage
    index: int
    item: str
    text: str = ""
    citations: tuple[Citation, ...] = ()
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation of an answer, at its place among them."""

    index: int
    item: str
    place: int
    citation: Citation


@dataclass(frozen=True, slots=True)
class Arguments:
    """Arguments of a call: new, or ``whole``."""

    index: int
    item: str
    text: str
    whole: bool = False


Event = Whole | ItemBegun | ItemDone | Searching | Text | Cited | Arguments


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event at its place in the stream, from 0."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class Listing:
    """Which page of a response's input; a ``limit`` of 0 is the default."""

    limit: int = 0
    oldest_first: bool = False
    after: str = ""
