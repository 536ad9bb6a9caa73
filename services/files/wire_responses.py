"""Between protobuf and the stored responses of the domain."""

from collections.abc import Iterator, Sequence

from trivium.files.v1 import file_pb2
from trivium.files.v1 import response_pb2 as pb

from services.chassis import paging
from services.chassis.errors import Failure, Reason
from services.files.responses import InputItem, Response, Turn
from services.files.wire import time

_DEFAULT_SIZE = 20


def turn(request: pb.PutResponseRequest) -> Turn:
    """What is to be stored; output-only fields are ignored."""
    message = request.response
    expires = message.expire_time.ToMicroseconds() / 1e6 if message.HasField("expire_time") else None
    response = Response(message.response, message.previous_response, message.model, message.payload, expires_at=expires)
    return Turn(response, tuple(InputItem(item.item, item.payload) for item in request.input_items))


def response(value: Response, *, whole: bool = True) -> pb.StoredResponse:
    """A response as the API shows it; ``whole`` adds the payload."""
    return pb.StoredResponse(
        response=value.response,
        previous_response=value.previous,
        model=value.model,
        payload=value.payload if whole else b"",
        create_time=time(value.created_at),
        expire_time=time(value.expires_at),
    )


def item(value: InputItem) -> pb.InputItem:
    """An input item as the API shows it."""
    return pb.InputItem(item=value.item, payload=value.payload)


def messages(value: Turn) -> Iterator[pb.ReadConversationResponse]:
    """A response with its items, in as many messages as they need."""
    items = [item(one) for one in value.items]
    message = pb.ReadConversationResponse(response=response(value.response))
    while items:
        room = paging.PAGE_BYTES - message.response.ByteSize()
        some = _within(items, room, at_least=0 if message.response.payload else 1)
        message.input_items.extend(some)
        items = items[len(some) :]
        message.continues = bool(items)
        if items:
            yield message
            message = pb.ReadConversationResponse(response=response(value.response, whole=False))
    yield message


def _within(items: Sequence[pb.InputItem], room_bytes: int, at_least: int) -> Sequence[pb.InputItem]:
    for count, one in enumerate(items):
        room_bytes -= one.ByteSize()
        if room_bytes < 0 and count >= at_least:
            return items[:count]
    return items


def listed(request: pb.ListInputItemsRequest, found: Sequence[InputItem]) -> pb.ListInputItemsResponse:
    """A page of a response's items.  Raises FIELD_INVALID for one behind an item that is not the response's."""
    ordered = list(found) if request.order == file_pb2.ORDER_ASCENDING else list(found)[::-1]
    names = [one.item for one in ordered]
    if request.after and request.after not in names:
        raise Failure(Reason.FIELD_INVALID, field="after", problem="is no input item of this response")
    start = names.index(request.after) + 1 if request.after else 0
    behind = ordered[start:]
    shown = paging.fitting([item(one) for one in behind[: request.page_size or _DEFAULT_SIZE]])
    return pb.ListInputItemsResponse(input_items=shown, has_more=len(behind) > len(shown))
