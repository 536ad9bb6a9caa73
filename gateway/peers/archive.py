"""The service of files over its stub, as responses are kept there: payloads are our own messages, which it does not read."""

import grpc
from trivium.files.v1 import file_pb2, response_pb2, response_pb2_grpc
from trivium.gateway.v1 import responses_pb2

from gateway.peers import failures
from gateway.receipts import RECORD_SECONDS
from gateway.responses import wire
from gateway.responses.nouns import Item, Listing, Response
from services.chassis.errors import Failure, Reason

NAME = "files"
_DEFAULT_LIMIT = 20
# How long an answer's end may wait for its response to be durable: as long as for its receipt.  Said with the call, because
# gRPC makes up to two seconds less of a timeout in the service config.
_KEEP_SECONDS = RECORD_SECONDS
# Many times what a model reads of text, with the passages that were found on the way: no more is held of one conversation.
_MOST_BYTES = 32 * 1024 * 1024


class RemoteArchive:
    """Implements :class:`gateway.responses.peers.Archive`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: response_pb2_grpc.ResponseServiceAsyncStub = response_pb2_grpc.ResponseServiceStub(channel)

    async def keep(self, response: Response, asked: tuple[Item, ...]) -> None:
        """As the Protocol says."""
        stored = response_pb2.StoredResponse(
            response=response.response,
            previous_response=response.settings.previous,
            model=response.settings.model,
            payload=wire.to_response(response).SerializeToString(),
        )
        items = [
            response_pb2.InputItem(item=item.item, payload=wire.to_item(item).SerializeToString()) for item in asked
        ]
        with failures.of(NAME, {"response": "settings.previous_response"}):
            request = response_pb2.PutResponseRequest(response=stored, input_items=items)
            await self._stub.PutResponse(request, timeout=_KEEP_SECONDS)

    async def response(self, response: str) -> Response:
        """As the Protocol says."""
        with failures.of(NAME):
            found = await self._stub.GetResponse(response_pb2.GetResponseRequest(response=response))
        return _response(found.response)

    async def conversation(self, newest: str) -> list[Item]:
        """As the Protocol says."""
        said: list[Item] = []
        answered: tuple[Item, ...] = ()
        size_bytes = 0
        reading = self._stub.ReadConversation(response_pb2.ReadConversationRequest(response=newest))
        with failures.of(NAME, {"response": "settings.previous_response"}):
            async for part in reading:
                size_bytes += part.ByteSize()
                if size_bytes > _MOST_BYTES:
                    reading.cancel()
                    problem = f"the conversation has more than {_MOST_BYTES} bytes; begin another"
                    raise Failure(Reason.FIELD_INVALID, field="settings.previous_response", problem=problem)
                # The payload comes once, with the first part of a response's input.
                answered = _response(part.response).output if part.response.payload else answered
                said += map(_item, part.input_items)
                if not part.continues:
                    said += answered
        return said

    async def remove(self, response: str) -> None:
        """As the Protocol says."""
        with failures.of(NAME):
            await self._stub.DeleteResponse(response_pb2.DeleteResponseRequest(response=response))

    async def input_items(self, response: str, listing: Listing) -> tuple[list[Item], bool]:
        """As the Protocol says."""
        request = response_pb2.ListInputItemsRequest(
            response=response,
            page_size=listing.limit or _DEFAULT_LIMIT,
            after=listing.after,
            order=file_pb2.ORDER_ASCENDING if listing.oldest_first else file_pb2.ORDER_DESCENDING,
        )
        with failures.of(NAME):
            page = await self._stub.ListInputItems(request)
        return [_item(it) for it in page.input_items], page.has_more


def _response(stored: response_pb2.StoredResponse) -> Response:
    return wire.of_response(responses_pb2.Response.FromString(stored.payload))


def _item(stored: response_pb2.InputItem) -> Item:
    return wire.of_item(responses_pb2.ResponseItem.FromString(stored.payload))
