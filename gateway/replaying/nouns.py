"""What is computed again, and what is found when it is."""

from dataclasses import dataclass
from enum import Enum

from gateway.asking.question import Question
from gateway.chat import Conversation
from gateway.generation import Receipt, SourceSpan, TokenLogprob


class Verdict(Enum):
    """What became of a replay."""

    EXACT = "exact"
    EXPLAINED = "explained"
    DIFFERENT = "different"
    UNDECIDED = "undecided"
    PROMPT_DIFFERS = "prompt differs"
    WEIGHTS_GONE = "weights gone"


@dataclass(frozen=True, slots=True)
class Recalled:
    """An earlier request as its caller kept it, and the text of its answer, None where nobody kept that.

    ``rewritten`` is the question as it was put to the model, where earlier turns had to complete it.
    """

    request_id: str
    asked: Conversation | Question
    answer: str | None = None
    rewritten: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """The same where the request is to be found by its id."""

    request_id: str
    answer: str | None = None
    rewritten: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a batch: the path that it is asked at, and the JSON that it asks with."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reread:
    """A source of the receipt read again; ``text`` is None where that version of the document is gone."""

    span: SourceSpan
    title: str = ""
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the answer leaves what the weights say.

    ``position`` counts generated tokens from 0, ``start`` is the place in the answer's text in code points.  ``made`` is
    the replay's token, None where it had ended; ``rival`` the likeliest token that spells what the answer has there, and
    ``rank`` its place from 1, both None where none of those that were told does.
    """

    position: int
    start: int
    made: TokenLogprob | None
    rival: TokenLogprob | None = None
    rank: int | None = None

    @property
    def margin(self) -> float | None:
        """How much likelier the replay's token is than the answer's, in nats; None where either is not known."""
        if self.made is None or self.rival is None:
            return None
        return self.made.logprob - self.rival.logprob


@dataclass(frozen=True, slots=True)
class Revisited:
    """A collection of the receipt: its version then and now, the latter empty where it is gone or has expired."""

    collection: str
    version: str
    present: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """What was found.  ``again`` is the replay's own receipt, None where nothing was generated."""

    verdict: Verdict
    explanation: str
    receipt: Receipt
    again: Receipt | None = None
    text: str = ""
    differences: tuple[Difference, ...] = ()
    sources: tuple[Reread, ...] = ()
    collections: tuple[Revisited, ...] = ()
