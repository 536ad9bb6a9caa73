"""OpenAI's requests as far as we honour them.  What is not here is refused by name, never ignored.

A parameter that OpenAI knows and we do not is let pass only with the value that asks for
nothing (null, an empty list of tools): generic clients send those unasked.
"""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.chassis.errors import Failure, Reason

_NOTHING_ASKED: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "functions": ([],),
    "metadata": ({},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
}
_WHY = {
    "max_completion_tokens": " beside another max_tokens",
    "tools": " in this version",
}
_Text = Annotated[str, Field(strict=True)]
_Count = Annotated[int, Field(strict=True)]
_Number = Annotated[float, Field(strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Strict):
    """One part of a message's content."""

    type: Literal["text"]
    text: _Text


class ChatTurn(_Strict):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | list[TextPart]

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    """What a stream carries beside text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class JsonSchema(_Strict):
    """A named schema; ``strict`` is always true here."""

    name: _Text
    schema_: dict[str, Any] = Field(alias="schema")
    strict: Literal[True] = True


class ResponseFormat(_Strict):
    """The shape of the answer in OpenAI's terms."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Extension(_Strict):
    """What Trivium adds: ``extra_body={"trivium": {"collection": "handbook"}}``."""

    collection: _Text | None = None
    collections: list[_Text] = []
    # Most sources in the prompt; 0 takes the default.
    top_k: _Count = 0
    request_id: _Text = ""
    regex: _Text | None = None
    choice: list[_Text] | None = None
    grammar: _Text | None = None
    # Model that answers where the one that is named cannot; none: none does.
    fallback: _Text = ""

    @property
    def searched(self) -> list[str]:
        """The collections to search."""
        return [self.collection, *self.collections] if self.collection else list(self.collections)


class Generation(_Strict):
    """What chat and completion have in common."""

    model: _Text
    # Whoever is to stay with one version; the older name of the same.
    safety_identifier: _Text = ""
    user: _Text = ""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: _Count | None = None
    temperature: _Number | None = None
    top_p: _Number | None = None
    seed: _Count | None = None
    n: _Count | None = None
    stop: _Text | list[_Text] = []
    frequency_penalty: _Number | None = None
    presence_penalty: _Number | None = None
    logit_bias: dict[int, _Number] = {}
    # Not OpenAI's, but what self-hosted servers take at this place.
    top_k: _Count | None = None
    repetition_penalty: _Number | None = None
    min_p: _Number | None = None
    min_tokens: _Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[_Count] = []
    bad_words: list[_Text] = []
    allowed_token_ids: list[_Count] = []
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    trivium: Extension = Extension()

    @property
    def sticky_key(self) -> str:
        """Whoever is to stay with one version of a model that is tried out."""
        return self.safety_identifier or self.user

    @property
    def sent(self) -> dict[str, str]:
        """The name that this request has for each field of ours for which there are several: errors are told by it."""
        shapes = ("regex", "choice", "grammar")
        shape = next((name for name in shapes if getattr(self.trivium, name) is not None), None)
        return {
            "sticky_key": "user" if self.user and not self.safety_identifier else "safety_identifier",
            "collections": "trivium.collection" if self.trivium.collection else "trivium.collections",
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
    max_completion_tokens: _Count | None = None
    logprobs: bool = False
    top_logprobs: _Count | None = None
    response_format: ResponseFormat | None = None

    @property
    def sent(self) -> dict[str, str]:
        """As Generation, with the names that only chats have."""
        newer = self.max_tokens is None and self.max_completion_tokens is not None
        limit = "max_completion_tokens" if newer else "max_tokens"
        return {**super().sent, "sampling.max_tokens": limit, "sampling.logprobs": "top_logprobs"}


class TextCompletion(Generation):
    """POST /v1/completions."""

    prompt: _Text | Annotated[list[_Text], Field(min_length=1, max_length=1)]
    logprobs: _Count | None = None

    @property
    def text(self) -> str:
        """The one prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


Schema = TypeVar("Schema", bound=BaseModel)


def parse(schema: type[Schema], raw: bytes) -> Schema:
    """The request in ``raw``.  Raises BODY_NOT_DECODABLE, FIELD_INVALID, or PARAMETER_UNSUPPORTED by name."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Failure(Reason.BODY_NOT_DECODABLE, type="JSON") from None
    if not isinstance(body, dict):
        raise Failure(Reason.BODY_NOT_DECODABLE, type="a JSON object")
    try:
        return schema.model_validate(_asked(body))
    except ValidationError as error:
        raise _refusal(error) from None


def _asked(body: dict[str, Any]) -> dict[str, Any]:
    """The body without what asks for nothing; messages lose their nulls too (clients send answers back whole)."""
    asked = {
        name: value
        for name, value in body.items()
        if value is not None and not any(value == idle for idle in _NOTHING_ASKED.get(name, ()))
    }
    messages = asked.get("messages")
    if isinstance(messages, list):
        asked["messages"] = [_without_nulls(turn) for turn in messages]
    return asked


def _without_nulls(turn: object) -> object:
    if not isinstance(turn, dict):
        return turn
    return {name: value for name, value in turn.items() if value is not None}


def _refusal(error: ValidationError) -> Failure:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Branches of a union ("str", "list[TextPart]") stand in the path; the request has no such names.
    parts = [part for part in first["loc"] if isinstance(part, int) or part.replace("_", "").isidentifier()]
    parts = [part for part in parts if part not in ("str", "constrained-str")]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    if first["type"] == "extra_forbidden":
        return Failure(Reason.PARAMETER_UNSUPPORTED, field=field, why=_WHY.get(field, ""))
    return Failure(Reason.FIELD_INVALID, field=field, problem=first["msg"])
