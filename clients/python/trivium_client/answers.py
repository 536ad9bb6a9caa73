"""What asking and chatting return: a stream of parts, or one whole answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trivium_client.nouns import Span


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; None takes the server's default (greedy, 256 tokens); `logit_bias` is by token id.

    Of `n` answers number i draws with `seed` + i.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    min_p: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    n: int | None = None
    bad_words: tuple[str, ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request cost."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Wall time of one stage; `input_size` is in the stage's own unit."""

    stage: str
    seconds: float
    input_size: int


@dataclass(frozen=True, slots=True)
class Source:
    """One source that the answer may cite by its span's marker."""

    span: Span
    title: str
    heading_path: tuple[str, ...]
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker in the answer, at characters [answer_start, answer_end), and what it points at."""

    marker: int
    answer_start: int
    answer_end: int
    span: Span


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything that determined an answer; `version` is empty when the base alone made it."""

    request_id: str
    engine_build: str
    engine: str
    engine_slot: int
    base_digest: str
    version: str
    requested_model: str
    resolved_model: str
    template_digest: str
    prompt_tokens_digest: str
    seed: int
    temperature: float
    max_tokens: int
    sources: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """First part of an answer with sources."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """More text of answer number `choice`."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """The end of one of several answers; `finish_reason` is stop, length or abort."""

    finish_reason: str
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Final:
    """Last part of an answer; `finish_reason` is stop, length or abort, and of several answers the first one's."""

    finish_reason: str
    usage: Usage
    timings: tuple[StageTiming, ...]
    receipt: Receipt
    citations: tuple[Citation, ...] = ()
    unresolved_markers: tuple[int, ...] = ()
    choices: tuple[ChoiceEnd, ...] = ()


Part = Sources | Text | Final


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its text, the sources it could cite, and how it ended; `others` are those of `n` beyond one."""

    text: str
    final: Final
    sources: tuple[Source, ...] = field(default=())
    others: tuple[str, ...] = ()

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The citations that resolve."""
        return self.final.citations

    @property
    def texts(self) -> tuple[str, ...]:
        """Every answer that was asked for, by number."""
        return (self.text, *self.others)

    @property
    def version(self) -> str:
        """The version that made it, sha256:…; empty for the base."""
        return self.final.receipt.version


def gathered(texts: Iterable[Text], final: Final, sources: tuple[Source, ...] = ()) -> Answer:
    """The whole answer that parts make."""
    by_choice = dict.fromkeys(range(max(1, len(final.choices))), "")
    for part in texts:
        by_choice[part.choice] += part.text
    first, *others = by_choice.values()
    return Answer(first, final, sources, tuple(others))
