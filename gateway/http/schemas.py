"""OpenAI's requests as far as we honour them.  What is not here is refused by name, never ignored.

A parameter that OpenAI knows and we do not is let pass only with the value that asks for
nothing (null, an empty list of tools): generic clients send those unasked.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gateway.http import prompts
from gateway.http.bodies import Count, Described, Number, Text
from gateway.http.parsing import Strict

_NOTHING_ASKED: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "functions": ([],),
    "metadata": ({},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tools": ([],),
}


class TextPart(Strict):
    """One part of a message's content."""

    type: Literal["text"]
    text: Text

    @property
    def said(self) -> str:
        """Its words."""
        return self.text


class RefusalPart(Strict):
    """One part of an assistant's content: that it would not answer, in its words."""

    type: Literal["refusal"]
    refusal: Text

    @property
    def said(self) -> str:
        """Its words."""
        return self.refusal


class CalledFunction(Strict):
    """The function of a call; ``arguments`` is JSON as text."""

    name: Text
    arguments: Text
    # What the client's own helpers read in ``arguments``: it says nothing more.
    parsed_arguments: Any = None


class CalledTool(Strict):
    """A call that the model made in an earlier turn."""

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction
    # Its place among the calls, as the client's own helper keeps it of a stream; they stand in that order.
    index: Count = 0


class ChatTurn(Strict):
    """One message; an assistant's that calls tools needs no content, a tool's names the call that it answers."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart | RefusalPart] = ""
    # What an assistant said in place of content.
    refusal: Text = ""
    tool_calls: list[CalledTool] = Field(default_factory=list)
    tool_call_id: Text = ""
    # What the client's own helpers read in ``content``: it says nothing more.
    parsed: Any = None

    @property
    def text(self) -> str:
        """All that was said, as one text."""
        said = self.content if isinstance(self.content, str) else "".join(part.said for part in self.content)
        return said + self.refusal

    @property
    def assistants(self) -> list[str]:
        """The fields that say what only an assistant can have said."""
        named = [name for name in ("tool_calls", "refusal", "parsed") if getattr(self, name)]
        parts = enumerate(self.content) if isinstance(self.content, list) else ()
        return [*named, *(f"content[{place}]" for place, part in parts if isinstance(part, RefusalPart))]


class StreamOptions(Strict):
    """What a stream carries beside text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class JsonSchema(Strict):
    """A named schema; an answer is held to it whether ``strict`` demands that or not."""

    name: Text
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """The shape of the answer in OpenAI's terms."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class FunctionDefinition(Strict):
    """A function that the model may call; ``parameters`` is a JSON Schema."""

    name: Text
    description: Text = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None


class ToolDefinition(Strict):
    """A tool; those of other types than function are refused."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Strict):
    """The name of a function."""

    name: Text


class NamedTool(Strict):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: NamedFunction


_OF_SOURCES = ("abstention", "path", "rewrite", "release", "unsupported", "check_support", "explain")
# What the extension calls as we do, but for its own name before it.
EXTENDED = (*_OF_SOURCES, "as_readers", "fallback")
_SENT = {**{name: f"trivium.{name}" for name in (*EXTENDED, "filter")}, "no_fallbacks": "trivium.fallbacks"}


class Manner(Strict):
    """What Trivium adds wherever something is answered; of a response as of a chat."""

    request_id: Text = ""
    # Of questions with sources alone, as AskRequest has them.
    abstention: Literal["strict", "hedge", "off"] | None = None
    path: Literal["passages", "summary", "index"] | None = None
    rewrite: bool | None = None
    release: Literal["token", "sentence"] | None = None
    unsupported: Literal["mark", "withhold"] | None = None
    check_support: bool = False
    explain: bool = False
    fallbacks: bool = True
    as_readers: list[Text] = Field(default_factory=list)
    regex: Text | None = None
    choice: list[Text] | None = None
    grammar: Text | None = None
    # Model that answers where the one that is named cannot; none: none does.
    fallback: Text = ""

    @property
    def shape(self) -> str | None:
        """The name of the constraint that is given; of several one."""
        return next((name for name in ("regex", "choice", "grammar") if getattr(self, name) is not None), None)


class Extension(Manner):
    """What it adds to chats and completions: ``extra_body={"trivium": {"collection": "handbook"}}``."""

    collection: Text | None = None
    collections: list[Text] = Field(default_factory=list)
    # Most sources in the prompt; 0 takes the default.
    top_k: Count = 0
    filter: dict[str, Any] | None = None

    @property
    def asking(self) -> list[str]:
        """The fields that say something of an answer with sources, and nothing of any other."""
        named = ("top_k", *_OF_SOURCES, "filter", "as_readers")
        given = [name for name in named if getattr(self, name) not in (None, False, [])]
        return given if self.fallbacks else [*given, "fallbacks"]

    @property
    def searched(self) -> list[str]:
        """The collections to search."""
        # One without a name is refused as such, never taken for none.
        return [*self.collections] if self.collection is None else [self.collection, *self.collections]


# Frozen, so one serves all requests that say nothing; a default that is a model would be copied for each.
_PLAIN_STREAM = StreamOptions()
_PLAIN = Extension()


class Generation(Strict):
    """What chat and completion have in common."""

    idle: ClassVar[Mapping[str, tuple[object, ...]]] = _NOTHING_ASKED
    model: Text
    # Whoever is to stay with one version; the older name of the same.
    safety_identifier: Text = ""
    user: Text = ""
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=lambda: _PLAIN_STREAM)
    max_tokens: Count | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    seed: Count | None = None
    n: Count | None = None
    stop: Text | list[Text] = Field(default_factory=list)
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    logit_bias: dict[int, Number] = Field(default_factory=dict)
    # Not OpenAI's, but what self-hosted servers take at this place.
    top_k: Count | None = None
    repetition_penalty: Number | None = None
    min_p: Number | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[Count] = Field(default_factory=list)
    bad_words: list[Text] = Field(default_factory=list)
    allowed_token_ids: list[Count] = Field(default_factory=list)
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    trivium: Extension = Field(default_factory=lambda: _PLAIN)

    @property
    def sticky_key(self) -> str:
        """Whoever is to stay with one version of a model that is tried out."""
        return self.safety_identifier or self.user

    @property
    def sent(self) -> dict[str, str]:
        """The name that this request has for each field of ours for which there are several: errors are told by it."""
        shape = self.trivium.shape
        return {
            **_SENT,
            "sticky_key": "user" if self.user and not self.safety_identifier else "safety_identifier",
            "collections": "trivium.collections" if self.trivium.collection is None else "trivium.collection",
            "structured_output": f"trivium.{shape}" if shape else "response_format",
            "sampling.max_tokens": "max_tokens",
            "sampling.logprobs": "logprobs",
        }

    @property
    def stops(self) -> list[str]:
        """Texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop


class ChatCompletion(Generation):
    """POST /v1/chat/completions."""

    messages: list[ChatTurn] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    logprobs: bool = False
    top_logprobs: Count | None = None
    response_format: ResponseFormat | None = None
    tools: list[ToolDefinition] = Field(default_factory=list)
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool = True

    @property
    def sent(self) -> dict[str, str]:
        """As Generation, with the names that only chats have."""
        newer = self.max_tokens is None and self.max_completion_tokens is not None
        limit = "max_completion_tokens" if newer else "max_tokens"
        return {**super().sent, "sampling.max_tokens": limit, "sampling.logprobs": "top_logprobs"}


_TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1)]
_Many = Field(min_length=1, max_length=128)
# A text in a list of its own is as good as alone; token ids are one prompt, or a list of several.
_Prompts = Annotated[list[Annotated[str, Field(min_length=1)]], _Many] | _TokenIds | Annotated[list[_TokenIds], _Many]


class TextCompletion(Generation):
    """POST /v1/completions."""

    # Read part by part, so that what cannot be continued is told by its place.
    prompt: Text | Annotated[list[Any], Described(_Prompts)]
    logprobs: Count | None = None

    @property
    def sent(self) -> dict[str, str]:
        """As Generation, with the names of prompts."""
        return {**super().sent, **prompts.sent(self.prompt)}
