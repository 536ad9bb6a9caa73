"""What a model is asked with and what it gives back, as the gateway's verbs see it.

Invariant: a generation ends with exactly one :class:`Generated`, and its receipt is the
generator's own word; the gateway adds to it only what the generator cannot know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Speaker(Enum):
    """Who speaks in a conversation."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; ``arguments`` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of call number ``index`` of an answer: its first part has id and name, the later ones more arguments."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class ToolChoice(Enum):
    """Which calls an answer may have."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool; ``parameters`` is a JSON Schema as text, ``strict`` None where it was not said."""

    name: str
    description: str = ""
    parameters: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a conversation; ``name`` only for a choice NAMED, ``single`` for one call at most."""

    tools: tuple[Tool, ...]
    choice: ToolChoice = ToolChoice.AUTO
    name: str = ""
    single: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; ``calls`` only of the assistant, ``call_id`` only of a tool."""

    speaker: Speaker
    content: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; None takes the generator's default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: int | None = None
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


class ShapeKind(Enum):
    """Which kind of constraint a shape is."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"
    JSON_OBJECT = "json_object"


@dataclass(frozen=True, slots=True)
class Shape:
    """A form that the answer is forced into: ``text`` is the schema, expression or grammar."""

    kind: ShapeKind
    text: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithm of one generated token's probability, and its likeliest rivals, best first."""

    token: str
    token_id: int
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


class FinishReason(Enum):
    """Why an answer ended."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Wall time of one stage; ``input_size`` in the stage's own unit (tokens, texts, hits)."""

    stage: str
    seconds: float
    input_size: int = 0


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Characters [start, end) of one immutable document version, in code points; ``marker`` counts from 1."""

    collection: str
    document: str
    version: str
    start: int
    end: int
    chunk: str = ""
    marker: int = 0


@dataclass(frozen=True, slots=True)
class CollectionVersion:
    """A collection as it was when it was searched, summarised or counted."""

    collection: str
    version: str


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer stands on: the sources in its prompt, and the collections that these are from."""

    sources: tuple[SourceSpan, ...] = ()
    collections: tuple[CollectionVersion, ...] = ()


NO_BASIS = Basis()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything that determined an answer.  ``complete_time_seconds`` is Unix time."""

    request_id: str
    engine_build: str = ""
    base_digest: str = ""
    version_digest: str = ""
    requested_model: str = ""
    resolved_model: str = ""
    template_digest: str = ""
    prompt_tokens_digest: str = ""
    sampling: Sampling = Sampling()
    sources: tuple[SourceSpan, ...] = ()
    usage: Usage = Usage()
    complete_time_seconds: float = 0.0
    engine_slot: int = -1
    engine: str = ""
    completion_digest: str = ""
    collections: tuple[CollectionVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of a generation: the receipt as far as it is known before the first token."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text of answer number ``choice`` since its last delta, its tokens' probabilities if asked for, their number.

    ``calls`` are parts of calls of tools that these tokens made.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens: int = 0
    choice: int = 0
    calls: tuple[ToolCallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """The end of one of the answers to a prompt, and its tokens."""

    finish_reason: FinishReason
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """What was done instead at a stage of a request, and why."""

    stage: str
    instead: str
    reason: str


@dataclass(frozen=True, slots=True)
class Generated:
    """The end of a generation: of its first answer, and of each by number; and what answered instead of what was named."""

    finish_reason: FinishReason
    usage: Usage
    timings: tuple[StageTiming, ...]
    receipt: Receipt
    choices: tuple[ChoiceEnd, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A prompt as tokens of the base's vocabulary."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Several:
    """Prompts that are one request: of n answers to each, answer j to prompt i is number i * n + j, both from 0."""

    prompts: tuple[str | TokenIds, ...]


# A conversation, text that no template touches, or tokens.
Prompt = Sequence[Message] | str | TokenIds
# What one request is asked with.
Prompts = Prompt | Several
