"""What is asked with, and what comes back: a stream of parts, or one whole answer."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from trivium_client.errors import ServerError
from trivium_client.nouns import Span


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; None takes the server's default (greedy, 256 tokens); `logit_bias` is by token id.

    Of `n` answers number i draws with `seed` + i.  `logprobs` asks for the tokens' log probabilities, and for so many
    alternatives to each; 0 for none.
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
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What an answer is forced to be; exactly one is given.

    `json_schema` is a JSON Schema document, `json_object` any JSON object, `regex` what the whole answer matches,
    `choices` the only answers there are, `grammar` a context-free one in EBNF.
    """

    json_schema: str = ""
    json_object: bool = False
    regex: str = ""
    choices: tuple[str, ...] = ()
    grammar: str = ""


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
class TokenLogprob:
    """A token's text (what is part of a character stands as U+FFFD), its natural log probability, and the likeliest."""

    token: str
    token_id: int
    logprob: float
    top: "tuple[TokenLogprob, ...]" = ()


@dataclass(frozen=True, slots=True)
class Text:
    """More text of answer number `choice`; `logprobs` are those of its tokens, when they were asked for."""

    text: str
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """The end of one of several answers; `finish_reason` is stop, length or abort."""

    finish_reason: str
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """Something that was left out or replaced: at which stage, what was done `instead`, and why."""

    stage: str
    instead: str
    reason: str


@dataclass(frozen=True, slots=True)
class Final:
    """Last part of an answer; `finish_reason` is stop, length or abort, and of several answers the first one's.

    `fallbacks` says what another model, or less, answered, and why.
    """

    finish_reason: str
    usage: Usage
    timings: tuple[StageTiming, ...]
    receipt: Receipt
    citations: tuple[Citation, ...] = ()
    unresolved_markers: tuple[int, ...] = ()
    choices: tuple[ChoiceEnd, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()


Part = Sources | Text | Final


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its text, the sources it could cite, and how it ended; `others` are those of `n` beyond one.

    `logprobs` has the tokens of each answer, by number, when they were asked for.
    """

    text: str
    final: Final
    sources: tuple[Source, ...] = field(default=())
    others: tuple[str, ...] = ()
    logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()

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


class Gathering:
    """Parts as they come, and the whole answer that they make in the end."""

    def __init__(self) -> None:
        self._sources: tuple[Source, ...] = ()
        self._texts: defaultdict[int, str] = defaultdict(str)
        self._logprobs: defaultdict[int, tuple[TokenLogprob, ...]] = defaultdict(tuple)
        self._final: Final | None = None

    def add(self, part: Part) -> None:
        """Take one more part."""
        if isinstance(part, Sources):
            self._sources = part.sources
        elif isinstance(part, Text):
            self._texts[part.choice] += part.text
            self._logprobs[part.choice] += part.logprobs
        else:
            self._final = part

    def answer(self) -> Answer:
        """What they make.  Raises ServerError when the last one is missing."""
        final = self._final
        if final is None:
            raise ServerError("the answer broke off before its end")
        numbers = range(max(1, len(final.choices)))
        first, *others = (self._texts[number] for number in numbers)
        told = tuple(self._logprobs[number] for number in numbers) if any(self._logprobs.values()) else ()
        return Answer(first, final, self._sources, tuple(others), told)
