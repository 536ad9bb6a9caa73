"""What is asked with, and what comes back: a stream of parts, or one whole answer."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from trivium_client.errors import ServerError
from trivium_client.filters import Filter
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
class CollectionVersion:
    """A collection, and its version when it was searched, summarised or counted."""

    collection: str
    version: str


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
    completion_digest: str = ""
    collections: tuple[CollectionVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class Asking:
    """How a question is answered from sources; what is left as it is the server decides.

    `abstention` says what becomes of a question that the collections seem not to answer: strict (the answer says so, no
    model is asked), hedge (the answer begins by saying so) or off; empty is as the collections say, else hedge.  `path` is
    passages, summary (of all that the collections hold) or index (counts and lists of documents); empty is what the
    question seems to ask for.  `rewrite` makes a question whole that earlier turns complete.  `release` is token or
    sentence: a sentence leaves after it was checked, and with `unsupported` withhold only where a source supports it.
    `check_support` has the base itself judge what seems unsupported; `explain` tells every stage; without `fallbacks` the
    request fails where a stage would be left out or replaced.  `filter` and `as_readers` as in searches.
    """

    abstention: str = ""
    path: str = ""
    rewrite: bool = True
    release: str = ""
    unsupported: str = ""
    check_support: bool = False
    explain: bool = False
    fallbacks: bool = True
    filter: Filter | None = None
    as_readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Abstention:
    """Whether the collections seem to hold the answer, and what was done: `abstained`, `hedged`, or neither."""

    policy: str
    score: float
    threshold: float
    answerable: bool
    abstained: bool
    hedged: bool
    says: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The question as it was looked for; `reason` says why it is another one than was asked, or why not."""

    question: str
    rewritten: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Sources:
    """First part of an answer with sources; `left_out` found no room in the prompt."""

    sources: tuple[Source, ...]
    path: str = ""
    abstention: Abstention | None = None
    rewrite: Rewrite | None = None
    left_out: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence at [start, end) of the answer.

    `verdict` is supported, unsupported or no_claim, `judge` words, vectors or model; `marker` names the source that
    supports it best, 0 for none.  `text` is there for what was `withheld`, which stood at `start`.
    """

    start: int
    end: int
    verdict: str
    judge: str
    words: float
    similarity: float | None
    marker: int
    withheld: bool
    text: str


@dataclass(frozen=True, slots=True)
class Quote:
    """A quotation at [start, end) of the answer; `span` is where it is from, None for the question or nowhere."""

    start: int
    end: int
    found: bool
    span: Span | None


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as `explain` tells it; `budget_seconds` is None where the request's deadline alone counts."""

    stage: str
    seconds: float
    input_size: int
    budget_seconds: float | None
    decision: str


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
    path: str = ""
    abstention: Abstention | None = None
    rewrite: Rewrite | None = None
    sentences: tuple[Sentence, ...] = ()
    quotes: tuple[Quote, ...] = ()
    stages: tuple[Stage, ...] = ()
    prompt_format: str = ""


Part = Sources | Text | Final


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its text, the sources it could cite, and how it ended; `others` are those of `n` beyond one, and of further prompts.

    `logprobs` has the tokens of each answer, by number, when they were asked for.
    """

    text: str
    final: Final
    sources: tuple[Source, ...] = field(default=())
    others: tuple[str, ...] = ()
    logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()
    left_out: tuple[Source, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether no model was asked, since the collections seem not to hold the answer."""
        return self.final.abstention is not None and self.final.abstention.abstained

    @property
    def unsupported(self) -> tuple[str, ...]:
        """The sentences that no source supports, those that were withheld too."""
        return tuple(
            it.text or self.text[it.start : it.end] for it in self.final.sentences if it.verdict == "unsupported"
        )

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
        self._sources = Sources(())
        self._texts: defaultdict[int, str] = defaultdict(str)
        self._logprobs: defaultdict[int, tuple[TokenLogprob, ...]] = defaultdict(tuple)
        self._final: Final | None = None

    def add(self, part: Part) -> None:
        """Take one more part."""
        if isinstance(part, Sources):
            self._sources = part
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
        found = self._sources
        return Answer(first, final, found.sources, tuple(others), told, found.left_out)
