"""Hangs the layers around every method of a servicer, once for all four kinds of RPC.

gRPC's own interceptors would build a handler for each call and differ for each kind;
here the chain is built when the server starts.  A streaming handler writes through the
RPC's own ``write``, so the four kinds have one inner form: an awaitable that answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
from google.protobuf import message_factory, symbol_database
from google.protobuf.message import Message

from services.chassis import permissions
from services.chassis.interceptors.call import Call, Layer, Method, MethodPolicy, Proceed, ServicerContext
from services.chassis.interceptors.handler import answer_once, answer_stream


class MethodCollector:
    """Stands in for the server when generated code registers a servicer, and keeps its methods."""

    def __init__(self) -> None:
        self.methods: dict[str, dict[str, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Ignored: the same methods come through the registered form."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Keep the methods of one service."""
        self.methods.setdefault(service, {}).update(handlers)


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """The ordered layers, ready to be hung around methods."""

    layers: Sequence[Layer]
    # Around the methods whose contract names an action of the audit log; None where no method's does.
    recording: Layer | None = None
    methods: list[Method] = field(default_factory=list)

    @property
    def records(self) -> bool:
        """Whether one of the methods changes what is recorded."""
        return any(map(_recorded, self.methods))

    def handlers(
        self, service: str, handlers: Mapping[str, Any], policies: Mapping[str, MethodPolicy]
    ) -> grpc.GenericRpcHandler:
        """The methods of one service with all layers around them, as gRPC registers them."""
        unknown = set(policies) - set(handlers)
        if unknown:
            raise ValueError(f"{service} has no method {', '.join(sorted(unknown))}")
        wrapped = {}
        for name, handler in handlers.items():
            method = _method(service, name, handler, policies.get(name))
            self.methods.append(method)
            wrapped[name] = self._wrap(method)
        return grpc.method_handlers_generic_handler(service, wrapped)

    def around(self, method: Method) -> Proceed:
        """The chain that serves a :class:`Call` of the method, whatever transport its ``rpc`` stands for."""
        chain: Proceed = answer_stream if method.response_streams else answer_once
        if self.recording is not None and _recorded(method):
            chain = partial(self.recording.__call__, chain)
        for layer in reversed(self.layers):
            chain = partial(layer.__call__, chain)
        return chain

    def _wrap(self, method: Method) -> Any:
        chain = self.around(method)
        return _KINDS[method.request_streams, method.response_streams](_entry(method, chain))


def _recorded(method: Method) -> bool:
    return method.permission is not None and bool(method.permission.action)


def _entry(method: Method, chain: Proceed) -> Any:
    async def enter(raw: Any, rpc: ServicerContext) -> bytes:
        call = Call(method, raw, rpc)
        await chain(call)
        return call.response

    return enter


# No (de)serialiser: bytes in, bytes out, so that both happen inside the errors layer.
_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _method(service: str, name: str, handler: Any, policy: MethodPolicy | None) -> Method:
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    descriptor = symbol_database.Default().pool.FindServiceByName(service).methods_by_name[name]
    return Method(
        path=f"/{service}/{name}",
        service=service,
        name=name,
        request_streams=handler.request_streaming,
        response_streams=handler.response_streaming,
        streams=handler.request_streaming or handler.response_streaming,
        request_type=descriptor.input_type.full_name,
        parse=handler.request_deserializer,
        serialize=handler.response_serializer,
        behaviour=behaviour,
        permission=permissions.of_method(descriptor),
        policy=policy or MethodPolicy(long_lived=handler.response_streaming and name.startswith("Watch")),
    )


def empty_request(method: Method) -> Message:
    """An empty request of the method's type, to warm the validation with."""
    descriptor = symbol_database.Default().pool.FindMessageTypeByName(method.request_type)
    return message_factory.GetMessageClass(descriptor)()
