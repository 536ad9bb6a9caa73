"""Every RPC of the suite as its contracts describe it, and how to call any of them by descriptor alone.

Invariant: a service that is new in the contracts is here without a line of ours.
"""

import importlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from services.chassis import permissions
from services.chassis.context import Role
from services.chassis.status import from_rpc_error

# A watch is left; what it would have told at once has come by then.
_WATCH_SECONDS = 0.5
_CALL_SECONDS = 60.0
_STREAM_MESSAGES = 20
# What changes state only of what is there already.
_POINTS = (
    *("Update", "Delete", "Cancel", "Pause", "Resume", "Restore", "Tag", "Record", "Revoke", "Rotate", "Publish"),
    *("Reembed", "Reindex", "Tune", "Disable", "SetAlias", "SetCanary", "CreateGate", "Unload", "Load", "Pin"),
)
# These are of the whole tenant, or keep something under an id that the caller says: a receipt, a response.
_MAKES = (
    *("UpdatePolicy", "UpdateQuota", "RecordUsage", "RecordUsages", "PutResponse"),
    *("Ask", "Chat", "Complete", "CreateResponse", "ReplayAnswer", "Generate"),
)


@dataclass(frozen=True)
class Rpc:
    """One method: whose it is, its path, and its messages."""

    service: str
    path: str
    method: MethodDescriptor

    @cached_property
    def request(self) -> type[Message]:
        """The class of its requests."""
        return message_factory.GetMessageClass(self.method.input_type)

    @cached_property
    def response(self) -> type[Message]:
        """The class of its responses."""
        return message_factory.GetMessageClass(self.method.output_type)

    @cached_property
    def roles(self) -> frozenset[Role]:
        """Those of which a caller has to have one; none where anybody may call it."""
        return permissions.of_method(self.method).roles

    @cached_property
    def may_be_asked(self) -> bool:
        """Whether the owner of a tenant may call it, or anybody."""
        return not self.roles or Role.OWNER in self.roles

    @cached_property
    def makes(self) -> bool:
        """Whether it may leave its caller with something new, whatever it names."""
        name, changes = self.method.name, permissions.of_method(self.method).changes_state
        return name in _MAKES or (changes and not name.startswith(_POINTS))


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back: the code, the catalogue's reason and sentence of a refusal, the messages of an answer."""

    code: str
    reason: str = ""
    sentence: str = ""
    messages: tuple[Message, ...] = ()
    # What a refusal says beside, in the variables of its sentence.
    variables: tuple[str, ...] = ()

    @property
    def is_answer(self) -> bool:
        """Whether it was answered rather than refused."""
        return self.code == "OK"


def rpcs() -> Iterator[Rpc]:
    """Every RPC of every service of the contracts, in their order."""
    described = descriptor_pb2.FileDescriptorSet.FromString((files("trivium") / "descriptors.binpb").read_bytes())
    for file in described.file:
        # A policy is judged by the operator's own server.
        if not file.package.startswith("trivium.") or not file.service or file.package == "trivium.policy.v1":
            continue
        importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
        for service in file.service:
            found = descriptor_pool.Default().FindServiceByName(f"{file.package}.{service.name}")
            for method in found.methods:
                noun = file.package.split(".")[1]
                yield Rpc(noun, f"/{file.package}.{service.name}/{method.name}", method)


class Caller:
    """Calls any RPC with one key."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], key: str) -> None:
        self._channels = channels
        self._metadata = (("authorization", f"Bearer {key}"),)
        self.key = key

    async def call(self, rpc: Rpc, request: Message) -> Answered:
        """Call once; a stream is read until it ends or waits."""
        try:
            return Answered("OK", messages=tuple([it async for it in self._messages(rpc, request)]))
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            told = sorted(f"{name}={value}" for name, value in failure.variables.items() if name != "correlation_id")
            return Answered(failure.code.name, failure.reason, failure.message, variables=tuple(told))

    async def _messages(self, rpc: Rpc, request: Message) -> AsyncIterator[Any]:
        channel = self._channels[rpc.service]
        kind = ("stream" if rpc.method.client_streaming else "unary") + "_"
        kind += "stream" if rpc.method.server_streaming else "unary"
        method = getattr(channel, kind)(
            rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
        )
        sent = iter([request]) if rpc.method.client_streaming else request
        if not rpc.method.server_streaming:
            yield await method(sent, metadata=self._metadata, timeout=_CALL_SECONDS)
            return
        watches = rpc.method.name.startswith("Watch")
        call = method(sent, metadata=self._metadata, timeout=_WATCH_SECONDS if watches else _CALL_SECONDS)
        read = 0
        try:
            async for message in call:
                yield message
                read += 1
                if read == _STREAM_MESSAGES:
                    break
        except grpc.aio.AioRpcError as error:
            if not watches or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        finally:
            call.cancel()
