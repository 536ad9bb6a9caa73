"""The events of a response's stream: the document of the API is made of these."""

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from gateway.http.answers import Error
from gateway.http.parsing import Strict
from gateway.http.responses.answers import (
    AnnotationShown,
    ItemShown,
    OutputTextShown,
    RefusalShown,
    ResponseShown,
)


class _Numbered(Strict):
    """Its place in the stream, from 0."""

    sequence_number: int


class ResponseEvent(_Numbered):
    """The response at its beginning, and at its end."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseShown


class ItemEvent(_Numbered):
    """An item begins, or is whole."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: ItemShown


class SearchEvent(_Numbered):
    """A search goes on."""

    type: Literal[
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
    ]
    output_index: int
    item_id: str


class _Placed(_Numbered):
    """Where in the output it happens."""

    item_id: str
    output_index: int
    content_index: Literal[0]


class PartEvent(_Placed):
    """The text of an answer begins, or is whole."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: OutputTextShown | RefusalShown


class DeltaEvent(_Placed):
    """More text."""

    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: list[dict[str, Any]] = Field(max_length=0)


class TextEvent(_Placed):
    """The text, all of it."""

    type: Literal["response.output_text.done"]
    text: str
    logprobs: list[dict[str, Any]] = Field(max_length=0)


class RefusalDelta(_Placed):
    """More of what is said in place of an answer."""

    type: Literal["response.refusal.delta"]
    delta: str


class RefusalEvent(_Placed):
    """What is said in place of an answer, all of it."""

    type: Literal["response.refusal.done"]
    refusal: str


class AnnotationEvent(_Placed):
    """A citation of the text, told before the text is done."""

    type: Literal["response.output_text.annotation.added"]
    annotation_index: int
    annotation: AnnotationShown


class ArgumentsEvent(_Numbered):
    """More of the arguments of a call, as text."""

    type: Literal["response.function_call_arguments.delta"]
    item_id: str
    output_index: int
    delta: str


class CalledEvent(_Numbered):
    """The arguments of a call, all of them."""

    type: Literal["response.function_call_arguments.done"]
    item_id: str
    output_index: int
    arguments: str


_Event = (
    ArgumentsEvent
    | CalledEvent
    | ResponseEvent
    | ItemEvent
    | SearchEvent
    | PartEvent
    | DeltaEvent
    | TextEvent
    | RefusalDelta
    | RefusalEvent
    | AnnotationEvent
)


class ResponseStreamed(RootModel[Annotated[_Event, Field(discriminator="type")]]):
    """One event of a response that is streamed; each is named by its ``type``."""


class FailureEvent(Error):
    """The last event of a stream that fails, named ``error``.

    What is in ``error`` stands beside it too: OpenAI's clients raise what they find there, and its reference tells it here.
    """

    type: Literal["error"]
    sequence_number: int
    code: str
    message: str
    param: str | None
