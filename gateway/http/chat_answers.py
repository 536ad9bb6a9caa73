"""What the routes of chat and completions answer with, whole and in a stream: the document of the API is made of these."""

from typing import Literal

from gateway.http.answers import MadeOf, Usage
from gateway.http.parsing import Strict


class TokenShown(Strict):
    """A token and the natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenWithRivals(TokenShown):
    """A token and its likeliest rivals."""

    top_logprobs: list[TokenShown]


class ChatLogprobs(Strict):
    """The tokens of an answer."""

    content: list[TokenWithRivals]
    refusal: None


class CalledFunctionShown(Strict):
    """The function of a call; ``arguments`` is JSON as text."""

    name: str
    arguments: str


class CallShown(Strict):
    """One call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunctionShown


class ChatMessage(Strict):
    """What the model said; no content where it only calls, or where the sources do not hold what was to have a shape."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: tuple[CallShown, ...] = ()


class ChatChoice(Strict):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatAnswer(Strict):
    """A turn."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: Usage
    trivium: MadeOf


class FunctionPart(Strict):
    """More of a call's function; its name in the first part alone."""

    name: str = ""
    arguments: str


class CallPart(Strict):
    """More of a call; its id in the first part alone."""

    index: int
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionPart


class ChatDelta(Strict):
    """More of an answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None = ""
    refusal: str = ""
    tool_calls: tuple[CallPart, ...] = ()


class ChatChunkChoice(Strict):
    """More of one answer, or its end."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatChunk(Strict):
    """One event of a streamed turn; the last one with ``usage`` has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    trivium: MadeOf | None = None


class TextLogprobs(Strict):
    """The tokens of a continuation, side by side."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Strict):
    """One continuation, or more of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class TextAnswer(Strict):
    """A continuation, or one event of it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[TextChoice]
    usage: Usage | None = None
    trivium: MadeOf | None = None
