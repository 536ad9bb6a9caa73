"""The connection to a Weaviate server, which may go at any moment.

Invariant: who asks a server that is away is told so within seconds, and what was given up
never reaches the server later: its connection is closed.  (The client itself would repeat a
call for a minute, while the caller waits and others wait for the caller.)
"""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import weaviate
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.exceptions import WeaviateBaseError

from services.chassis.errors import Failure, Reason
from services.retriever.index.places import Server

T = TypeVar("T")
_RETRY_AFTER_SECONDS = 1.0
_TIMEOUT = Timeout(init=5, query=30, insert=60)
# Between looks whether the server is still there while it works.
_LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 2.0
_THREADS = 16


class Link:
    """A client that is connected when it is first used, and anew when the server was away.  Thread-safe.

    ``prepare`` is called with every new client before it is used.
    """

    def __init__(self, server: Server, prepare: Callable[[weaviate.WeaviateClient], None]) -> None:
        parts = urlsplit(server.url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._secure else 80)
        self._server = server
        self._prepare = prepare
        self._lock = threading.Lock()
        self._client: weaviate.WeaviateClient | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="weaviate")

    def ask(self, work: Callable[[weaviate.WeaviateClient], T]) -> T:
        """What the work gives.  Raises PEER_UNAVAILABLE; then the work has been told to nobody, or in part."""
        self._require_server()
        answer = self._threads.submit(self._work, work)
        while True:
            try:
                return answer.result(timeout=_LOOK_SECONDS)
            except TimeoutError:
                if answer.done():
                    raise
                self._require_server()

    def close(self) -> None:
        """Close the connection; what goes on over it fails."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def end(self) -> None:
        """Close for good."""
        self.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work(self, work: Callable[[weaviate.WeaviateClient], T]) -> T:
        client: weaviate.WeaviateClient | None = None
        try:
            client = self._connected()
            return work(client)
        except (WeaviateBaseError, httpx.HTTPError, OSError) as error:
            raise away() from error
        except (ValueError, RuntimeError) as error:
            # What libraries say of a connection that was closed under a call.
            if client is not self._client:
                raise away() from error
            raise

    def _connected(self) -> weaviate.WeaviateClient:
        with self._lock:
            if self._client is None:
                client = self._connect()
                self._prepare(client)
                self._client = client
            return self._client

    def _connect(self) -> weaviate.WeaviateClient:
        key = self._server.api_key
        return weaviate.connect_to_custom(
            http_host=self._host,
            http_port=self._port,
            http_secure=self._secure,
            grpc_host=self._host,
            grpc_port=self._server.grpc_port,
            grpc_secure=self._secure,
            auth_credentials=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(timeout=_TIMEOUT, trust_env=False),
            # They ask the package index for a newer client; an absent server shows without them.
            skip_init_checks=True,
        )

    def _require_server(self) -> None:
        """Raise PEER_UNAVAILABLE, and give up what is under way, where nothing takes connections."""
        try:
            with socket.create_connection((self._host, self._port), timeout=_CONNECT_SECONDS):
                pass
        except OSError as error:
            self.close()
            raise away() from error


def away() -> Failure:
    """The failure of a server that cannot be reached, or does not do what it is asked."""
    return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_AFTER_SECONDS, service="weaviate")
