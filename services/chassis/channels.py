"""Channels to peers that carry the facts of the current request: who, until when, which trace.

Transport retries come from the one service config beside the protos; nothing else
retries these calls.  The four kinds of call are covered by wrapping the channel, once.
Invariant: a peer never gets more time than our own caller has left.
"""

import importlib.resources
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from services.chassis.config import ServiceSettings
from services.chassis.context import RequestContext, current_or_none
from services.chassis.errors import Failure, Reason
from services.chassis.refused_streams import streamed
from services.chassis.status import CORRELATION_KEY
from services.chassis.tls import channel_credentials, is_loopback

# Neither the suite's own names and timeouts, nor pings while nobody calls.
_OUTSIDE_OPTIONS = {
    "grpc.enable_retries",
    "grpc.max_receive_message_length",
    "grpc.initial_reconnect_backoff_ms",
    "grpc.max_reconnect_backoff_ms",
    "grpc.min_reconnect_backoff_ms",
}

Metadata = Sequence[tuple[str, str | bytes]]


def channel_options(settings: ServiceSettings, *, retries: bool = True, host: str = "") -> list[tuple[str, Any]]:
    """Options of every channel: keepalive 30 s / 10 s, 4 MiB, the shared service config.

    ``host`` is the name in the peer's certificate where the address is not it.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", int(retries)),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # A peer that restarts is found again within the shortest retries of the service config (0.4 s at least), not
        # after gRPC's two minutes; "min" is how long one attempt to connect may take.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 250),
        ("grpc.min_reconnect_backoff_ms", 2_000),
    ]
    if settings.tls_peer_name or host:
        options.append(("grpc.ssl_target_name_override", settings.tls_peer_name or host))
    return options


def service_config() -> str:
    """Timeouts, retries and load balancing of every method, as shipped with the stubs."""
    return (importlib.resources.files("trivium") / "service_config.json").read_text()


def open_channel(address: str, settings: ServiceSettings, *, retries: bool = True, host: str = "") -> grpc.aio.Channel:
    """A plain channel to ``address``: mutual TLS where certificates are set, with the name ``host`` in the peer's.

    Raises ValueError for a peer on another machine without certificates.
    """
    target = address if "://" in address or address.startswith("unix:") else f"dns:///{address}"
    credentials = channel_credentials(settings)
    if credentials is not None:
        options = channel_options(settings, retries=retries, host=host)
        return grpc.aio.secure_channel(target, credentials, options=options)
    if not is_loopback(address):
        raise ValueError(f"{address} is not on this machine: calls to it need certificates (TRIVIUM_TLS_*)")
    return grpc.aio.insecure_channel(target, options=channel_options(settings, retries=retries))


def open_outside_channel(address: str, settings: ServiceSettings) -> grpc.aio.Channel:
    """A plain channel to a server that is no part of the suite: clear text on this machine, mutual TLS elsewhere.

    Its certificate has the name that it is called by.  No retries: a call has as long as whoever makes it says.  Raises
    ValueError for a server on another machine without certificates.
    """
    options = [(name, value) for name, value in channel_options(settings, retries=False) if name in _OUTSIDE_OPTIONS]
    target = f"dns:///{address}"
    if is_loopback(address):
        return grpc.aio.insecure_channel(target, options=options)
    credentials = channel_credentials(settings)
    if credentials is None:
        raise ValueError(f"{address} is not on this machine: calls to it need certificates (TRIVIUM_TLS_*)")
    return grpc.aio.secure_channel(target, credentials, options=options)


class ContextChannel(grpc.aio.Channel):
    """A channel whose calls take deadline, assertion, correlation id and trace from the current request."""

    def __init__(self, inner: grpc.aio.Channel, margin_seconds: float) -> None:
        self._inner = inner
        self._margin = margin_seconds

    def _bind(self, call: Callable[..., Any]) -> Any:
        def start(
            request: Any = None, *, timeout: float | None = None, metadata: Metadata | None = None, **rest: Any
        ) -> Any:
            current = current_or_none()
            if current is None:
                return call(request, timeout=timeout, metadata=metadata, **rest)
            return call(request, timeout=self._timeout(current, timeout), metadata=carried(current, metadata), **rest)

        return start

    def _timeout(self, current: RequestContext, asked: float | None) -> float | None:
        remaining = current.remaining_seconds()
        if remaining is None:
            return asked
        left = remaining - self._margin
        if left <= 0:
            raise Failure(Reason.DEADLINE_EXCEEDED)
        return left if asked is None else min(asked, left)

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._bind(self._inner.unary_unary(*arguments, **named))

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._bind(self._inner.unary_stream(*arguments, **named))

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._bind(streamed(self._inner.stream_unary(*arguments, **named)))

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._bind(streamed(self._inner.stream_stream(*arguments, **named)))

    async def __aenter__(self) -> "ContextChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """As grpc.aio.Channel."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As grpc.aio.Channel."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As grpc.aio.Channel."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As grpc.aio.Channel."""
        await self._inner.channel_ready()


def carried(current: RequestContext, given: Metadata | None) -> list[tuple[str, str | bytes]]:
    """The metadata of an outgoing call: what was given, and the request's facts where it is silent."""
    metadata = list(given or ())
    names = {name for name, _ in metadata}
    if current.assertion and "authorization" not in names:
        metadata.append(("authorization", f"Bearer {current.assertion}"))
    if CORRELATION_KEY not in names:
        metadata.append((CORRELATION_KEY, current.correlation_id))
    if current.traceparent and "traceparent" not in names:
        metadata.append(("traceparent", current.traceparent))
    return metadata


class Channels:
    """One channel a peer, opened when first asked for, closed together."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._plain: dict[str, grpc.aio.Channel] = {}
        self._context: dict[str, ContextChannel] = {}

    def plain(self, service: str) -> grpc.aio.Channel:
        """The channel without the request's facts: for the chassis' own calls."""
        if service not in self._plain:
            self._plain[service] = open_channel(self._settings.address(service), self._settings)
        return self._plain[service]

    def to(self, service: str) -> ContextChannel:
        """The channel to a peer by its service name (``"registry"``)."""
        if service not in self._context:
            self._context[service] = ContextChannel(self.plain(service), self._settings.deadline_margin_seconds)
        return self._context[service]

    def alone(self, address: str, host: str = "") -> ContextChannel:
        """A channel of its own to one of several replicas, for whoever closes it.

        Without the transport's retries: another replica answers sooner than this one comes back.
        """
        plain = open_channel(address, self._settings, retries=False, host=host)
        return ContextChannel(plain, self._settings.deadline_margin_seconds)

    async def close(self) -> None:
        """Close them all; calls in flight are cancelled."""
        for channel in self._plain.values():
            await channel.close()
