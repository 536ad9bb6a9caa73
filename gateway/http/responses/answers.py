"""What the routes of responses answer with: the document of the API is made of these, and tests hold answers to them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.http.answers import MadeOf, Span
from gateway.http.parsing import Strict
from gateway.http.vector_stores.answers import Attributes

_Progress = Literal["in_progress", "completed", "incomplete"]


class CitedSpan(Span):
    """The characters that an annotation points at; its marker ends at ``end_index`` of the text, in code points."""

    end_index: int


class AnnotationShown(Strict):
    """A citation: at ``index`` of the text, in code points, begins its marker."""

    type: Literal["file_citation"]
    index: int
    file_id: str
    filename: str
    trivium: CitedSpan


class OutputTextShown(Strict):
    """The text of an answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[AnnotationShown]
    logprobs: list[dict[str, Any]] = Field(max_length=0)


class RefusalShown(Strict):
    """What is said in place of an answer of a shape, where the sources do not hold it."""

    type: Literal["refusal"]
    refusal: str


class InputTextShown(Strict):
    """What was said to the model."""

    type: Literal["input_text"]
    text: str


class MessageShown(Strict):
    """A turn."""

    id: str
    type: Literal["message"]
    status: _Progress
    role: Literal["system", "user", "assistant"]
    content: list[OutputTextShown | RefusalShown | InputTextShown]


class PassageShown(Strict):
    """A passage that was found."""

    file_id: str
    filename: str
    score: float
    text: str
    attributes: Attributes
    vector_store_id: str
    trivium: Span


class SearchShown(Strict):
    """A search; its passages where they were asked for."""

    id: str
    type: Literal["file_search_call"]
    status: _Progress
    queries: list[str]
    results: list[PassageShown] | None


class CallShown(Strict):
    """A call of one of the caller's functions; ``arguments`` is JSON as text."""

    id: str
    type: Literal["function_call"]
    status: _Progress
    call_id: str
    name: str
    arguments: str


class OutputShown(Strict):
    """What a function returned."""

    id: str
    type: Literal["function_call_output"]
    status: _Progress
    call_id: str
    output: str


ItemShown = Annotated[MessageShown | SearchShown | CallShown | OutputShown, Field(discriminator="type")]


class ItemsShown(Strict):
    """A page of what a response was asked."""

    object: Literal["list"]
    data: list[ItemShown]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FailureFacts(Strict):
    """The catalogue's reason, in lower case."""

    reason: str


class ResponseFailure(Strict):
    """Why a response failed."""

    code: Literal["rate_limit_exceeded", "server_error"]
    message: str
    trivium: FailureFacts


class Incompleteness(Strict):
    """Why a response was cut off."""

    reason: Literal["max_output_tokens"]


class ReasoningShown(Strict):
    """No model here reasons apart from its answer."""

    effort: None
    summary: None


class FormatShown(Strict):
    """The shape that the answer was forced into."""

    type: Literal["text", "json_object", "json_schema"]
    name: str = ""
    schema_: dict[str, Any] = Field({}, alias="schema")
    strict: Literal[True] = True


class TextShown(Strict):
    """What was asked of the answer's text."""

    format: FormatShown


class WeightsShown(Strict):
    """What vectors weigh beside keywords; together 1."""

    embedding_weight: float
    text_weight: float


class RankingShown(Strict):
    """How passages are ordered."""

    ranker: str
    score_threshold: float
    hybrid_search: WeightsShown | None = None


class FileSearchShown(Strict):
    """Where passages are looked for; the filter where OpenAI's words can say it."""

    type: Literal["file_search"]
    vector_store_ids: list[str]
    filters: dict[str, Any] | None
    max_num_results: int | None
    ranking_options: RankingShown


class FunctionShown(Strict):
    """A function that may be called."""

    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class ChoiceShown(Strict):
    """The function that is called in any case."""

    type: Literal["function"]
    name: str


class InputDetails(Strict):
    """Of the prompt's tokens those that an earlier prompt of the tenant had computed; none are written for a price."""

    cached_tokens: int
    cache_write_tokens: Literal[0]


class OutputDetails(Strict):
    """None of the tokens reason apart from the answer."""

    reasoning_tokens: Literal[0]


class ResponseUsage(Strict):
    """Tokens that a response cost."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Window(Strict):
    """Most tokens that prompt and answer may have together."""

    context_tokens: int


class ResponseShown(Strict):
    """A response as far as it is."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: ResponseFailure | None
    incomplete_details: Incompleteness | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[ItemShown]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningShown
    store: bool
    temperature: float | None
    text: TextShown
    tool_choice: Literal["auto", "none", "required"] | ChoiceShown
    tools: list[Annotated[FileSearchShown | FunctionShown, Field(discriminator="type")]]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    trivium: MadeOf | None


class InputTokens(Strict):
    """How long the prompt of a response would be; ``trivium`` has what prompt and answer may have together."""

    object: Literal["response.input_tokens"]
    input_tokens: int
    trivium: Window


class ResponseDeleted(Strict):
    """A response that is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]
