"""The service of files over its stub, as responses are kept there: payloads are our own messages, which it does not read."""

import grpc
from trivium.files.v1 import file_pb2, response_pb2, response_pb2_grpc
from trivium.gateway.v1 import responses_pb2

from gateway.peers import failures
from gateway.responses import wire
from gateway.responses.nouns import Item, Listing, Response
from services.chassis.errors import Failure, Reason

NAME = "files"
_DEFAULT_LIMIT = 20
# How long an answer's end may wait for its response to be durable.  A service that is not there is known sooner, by the
# retries of the service config; for one that is slow it is worth more than for a receipt, since a response has no other
# place to wait in.  Said with the call, because gRPC makes up to two seconds less of a timeout in the service config.
KEEP_SECONDS = 2.0
# As much as a message may have, many times what a model reads: no more is held of one conversation.
_MOST_BYTES = 4 * 1024 * 1024
# The same with the passages that were found on the way, which are read with it and not held.
_MOST_READ_BYTES = 32 * 1024 * 1024


class RemoteArchive:
    """Implements :class:`gateway.responses.peers.Archive`."""

    def __init__(
        self, channel: grpc.aio.Channel, *, most_bytes: int = _MOST_BYTES, most_read_bytes: int = _MOST_READ_BYTES
    ) -> None:
        self._stub: response_pb2_grpc.ResponseServiceAsyncStub = response_pb2_grpc.ResponseServiceStub(channel)
        self._most_bytes = most_bytes
        self._most_read_bytes = most_read_bytes

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
            await self._stub.PutResponse(request, timeout=KEEP_SECONDS)

    async def response(self, response: str) -> Response:
        """As the Protocol says."""
        with failures.of(NAME):
            found = await self._stub.GetResponse(response_pb2.GetResponseRequest(response=response))
        return _response(found.response)

    async def conversation(self, newest: str) -> list[Item]:
        """As the Protocol says."""
        said: list[Item] = []
        answered: list[responses_pb2.ResponseItem] = []
        held_bytes = read_bytes = 0
        reading = self._stub.ReadConversation(response_pb2.ReadConversationRequest(response=newest))
        with failures.of(NAME, {"response": "settings.previous_response"}):
            async for part in reading:
                read_bytes += part.ByteSize()
                # The payload comes once, with the first part of a response's input.
                answered = _answered(part.response) if part.response.payload else answered
                items = [_asked(it) for it in part.input_items] + ([] if part.continues else answered)
                held_bytes += sum(it.ByteSize() for it in items)
                if held_bytes > self._most_bytes or read_bytes > self._most_read_bytes:
                    reading.cancel()
                    most = self._most_bytes if held_bytes > self._most_bytes else self._most_read_bytes
                    problem = f"the conversation has more than {most} bytes; begin another"
                    raise Failure(Reason.FIELD_INVALID, field="settings.previous_response", problem=problem)
                said += map(wire.of_item, items)
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


def _asked(stored: response_pb2.InputItem) -> responses_pb2.ResponseItem:
    return responses_pb2.ResponseItem.FromString(stored.payload)


def _item(stored: response_pb2.InputItem) -> Item:
    return wire.of_item(_asked(stored))


def _answered(stored: response_pb2.StoredResponse) -> list[responses_pb2.ResponseItem]:
    """Its output without the passages that were found, which say nothing to who goes on from it."""
    output = responses_pb2.Response.FromString(stored.payload).output
    for item in output:
        if item.HasField("file_search_call"):
            item.file_search_call.ClearField("results")
    return list(output)
