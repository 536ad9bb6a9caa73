"""Serves the HTTP transport in the process and on the loop of the gRPC server.

Invariant: API keys never cross a network in clear text.  Off this machine the listener
needs a certificate, or the operator's word that something before it ends TLS.  The two
transports live and die together: a gateway whose HTTP server has ended ends too, so that
whoever supervises it starts it again.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette

from gateway.config import GatewaySettings
from gateway.http import connections, descriptors
from services.chassis.config import split_address
from services.chassis.runtime import Runtime
from services.chassis.tls import is_loopback

_BACKLOG = 2048
# By the time uvicorn stops, the layers have drained the calls.
_GRACE_SECONDS = 2
# For a client to end its TLS handshake: until then its connection is counted nowhere.
_HANDSHAKE_SECONDS = 10.0
# What uvicorn says of each request that would go on as another protocol; that nothing here does is no fault to be mended.
_OF_UPGRADES = ("Unsupported upgrade request.", "No supported WebSocket library detected.")


class _Server(uvicorn.Server):
    """Leaves signals to the chassis, which drains both servers in order."""

    asked = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn.Server, but takes none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn.Server, whose listeners would wait a minute for each handshake."""
        await super().startup(sockets=[])
        reading: Any = self.config.http_protocol_class
        made = partial(reading, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        handshake_seconds = _HANDSHAKE_SECONDS if self.config.ssl else None
        for listener in sockets or []:
            server = await asyncio.get_running_loop().create_server(
                made,
                sock=listener,
                ssl=self.config.ssl,
                backlog=self.config.backlog,
                ssl_handshake_timeout=handshake_seconds,
            )
            self.servers.append(server)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without lines in the log that anybody can have written who reaches the door, with a key or without."""

    def worth_a_line(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_OF_UPGRADES)

    log = logging.getLogger("uvicorn.error")
    log.addFilter(worth_a_line)
    try:
        yield
    finally:
        log.removeFilter(worth_a_line)


@asynccontextmanager
async def serving(app: Starlette, runtime: Runtime) -> AsyncIterator[str]:
    """The app, served inside the block at the address that is yielded.  Raises ValueError off this machine in clear text."""
    settings = cast("GatewaySettings", runtime.settings)
    address = settings.http_listen
    secure = settings.http_tls_cert_file is not None
    if not (secure or settings.http_tls_ended_before or is_loopback(address)):
        raise ValueError(
            f"{address} is not on this machine: set TRIVIUM_GATEWAY_HTTP_TLS_CERT_FILE and _KEY_FILE, "
            "or TRIVIUM_GATEWAY_HTTP_TLS_ENDED_BEFORE=true behind a proxy that ends TLS"
        )
    listener = _bind(address)
    server = _Server(_config(app, settings))
    task = runtime.spawn(_serve(server, listener), "http")
    try:
        host, port = listener.getsockname()[:2]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        server.should_exit = server.asked = True
        # What it died of is told by the runtime.
        await asyncio.wait([task])


async def _serve(server: _Server, listener: socket.socket) -> None:
    with _quiet(), listener:
        try:
            await server.serve(sockets=[listener])
        except Exception:
            # uvicorn that dies closes nothing: neither its listener nor its connections.
            if server.started:
                await server.shutdown(sockets=[listener])
            raise
    if not server.asked:
        raise RuntimeError("the HTTP server ended, and nobody had asked it to")


def _http() -> type[asyncio.Protocol] | str:
    """What reads requests: it leaves every offer of another protocol."""
    try:
        from gateway.http.protocol import OneProtocol
    except ImportError:
        # Without httptools uvicorn reads by h11, which leaves them too.
        return "h11"
    return OneProtocol


def _config(app: Starlette, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        # Nothing is spoken over a web socket: whoever asks for one is told so as anybody is who asks for what is not served.
        ws="none",
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=settings.http_tls_cert_file,
        ssl_keyfile=settings.http_tls_key_file,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
        # uvicorn's own limit would refuse every request in plain text while anybody holds as many connections.
        http=connections.limited(descriptors.for_connections(4 * settings.max_calls), _http()),
    )


def _bind(address: str) -> socket.socket:
    """A listening socket: connections wait in its backlog from here on, even before the loop accepts."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or the loop would not switch Nagle's delay off: 40 ms a token.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
