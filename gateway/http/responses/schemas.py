"""OpenAI's requests for responses as far as we honour them.  What is not here is refused by name, never ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gateway.http.bodies import Body, Count, Described, Number, Text
from gateway.http.filters import Filter
from gateway.http.schemas import Manner
from gateway.http.vector_stores.requests import Ranking

RESULTS = "file_search_call.results"
MOST_ITEMS = 100
# What asks for nothing: clients send it unasked, or with what they were answered.
_NOTHING_ASKED: dict[str, tuple[object, ...]] = {
    "background": (False,),
    "service_tier": ("auto", "default"),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}


class InputText(Body):
    """One part of a message's content."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    # What an answer had beside its text, where a client sends it back.
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[dict[str, Any]] | None = None
    # What the client's own helper read in it: it says nothing more.
    parsed: Any = None


class InputRefusal(Body):
    """What an assistant said in place of an answer, sent back."""

    type: Literal["refusal"]
    refusal: Text

    @property
    def text(self) -> str:
        """Its words."""
        return self.refusal


class InputMessage(Body):
    """One turn of the input."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[InputText | InputRefusal]
    id: Text | None = None
    status: Text | None = None


class InputSearch(Body):
    """A search of an earlier output, sent back."""

    type: Literal["file_search_call"]
    id: Text
    queries: Annotated[list[Text], Field(default_factory=list)]
    status: Text | None = None
    results: list[dict[str, Any]] | None = None


class InputCall(Body):
    """A call of an earlier output, sent back."""

    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text
    # What the client's own helper read in them: it says nothing more.
    parsed_arguments: Any = None
    id: Text | None = None
    status: Text | None = None


class OutputPart(Body):
    """One part of what a function returned."""

    type: Literal["input_text"]
    text: Text


class InputOutput(Body):
    """What a function returned."""

    type: Literal["function_call_output"]
    call_id: Text
    output: Text | list[OutputPart]
    id: Text | None = None
    status: Text | None = None


InputItem = InputMessage | InputSearch | InputCall | InputOutput


class FileSearch(Body):
    """The tool that looks into vector stores."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Text], Field(min_length=1)]
    filters: Filter | None = None
    max_num_results: Count | None = None
    ranking_options: Ranking | None = None


class Function(Body):
    """A function of the caller's; ``parameters`` is a JSON Schema."""

    type: Literal["function"]
    name: Text
    description: Text = ""
    parameters: Annotated[dict[str, Any], Field(default_factory=dict)]
    strict: bool | None = None


class ChosenSearch(Body):
    """Passages are looked for in any case."""

    type: Literal["file_search"]


class ChosenFunction(Body):
    """The function that is called in any case."""

    type: Literal["function"]
    name: Text


Choice = Literal["auto", "none", "required"]


class Format(Body):
    """The shape of the answer, which is held to a schema whether ``strict`` demands that or not."""

    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextOptions(Body):
    """What is asked of the answer's text."""

    format: Format | None = None
    verbosity: Literal["medium"] | None = None


class StreamOptions(Body):
    """What a stream carries beside events."""

    include_obfuscation: Literal[False] = False


class CountInput(Body):
    """POST /v1/responses/input_tokens.  Items and tools are read one by one, so that each is refused by its own name."""

    idle: ClassVar[Mapping[str, tuple[object, ...]]] = {"truncation": ("disabled",)}

    model: Text = ""
    input: Text | Annotated[list[dict[str, Any]], Described(list[InputItem])]
    instructions: Text | None = None
    previous_response_id: Text | None = None
    text: TextOptions | None = None
    tools: Annotated[list[dict[str, Any]], Described(list[FileSearch | Function])] | None = None
    tool_choice: Choice | Annotated[dict[str, Any], Described(ChosenSearch | ChosenFunction)] | None = None
    parallel_tool_calls: bool | None = None
    safety_identifier: Text | None = None
    user: Text | None = None

    @property
    def sticky_key(self) -> str:
        """Whoever is to stay with one version of a model that is tried out."""
        return self.safety_identifier or self.user or ""

    @classmethod
    def asked(cls, said: dict[str, Any]) -> dict[str, Any]:
        """What was said, without what asks for nothing."""
        return {
            name: value
            for name, value in said.items()
            if value is not None and not any(value == idle for idle in cls.idle.get(name, ()))
        }


class Create(CountInput):
    """POST /v1/responses."""

    idle: ClassVar[Mapping[str, tuple[object, ...]]] = _NOTHING_ASKED

    store: bool | None = None
    metadata: dict[str, Text] | None = None
    max_output_tokens: Count | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    include: list[Literal["file_search_call.results"]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    trivium: Manner | None = None


class Shown(Body):
    """What a stored response tells beside itself; the client's own query names its list with brackets."""

    include: Literal["file_search_call.results"] | None = None
    included: list[Literal["file_search_call.results"]] | None = Field(None, alias="include[]")


class ItemsQuery(Shown):
    """Which items of an input, and how many."""

    limit: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str = ""
