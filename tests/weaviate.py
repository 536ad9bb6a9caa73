"""A Weaviate server of its own on free ports: what is promised of the embedded index holds there too."""

import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from services.ops import gotools
from services.retriever.index.places import Server
from tests import tied
from tests.harness.ports import bind_port, port_of
from tests.stack import eventually

API_KEY = "only-for-tests"
_PORT_TAKEN = "address already in use"


class Weaviate:
    """A server over a folder; killed, it starts again at the same ports with what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._has_answered = False
        self._held = ExitStack()
        self._take_ports()

    def _take_ports(self) -> None:
        """Hold four ports until this server is closed, the last two with their next ones: on one machine it counts on these."""
        self._held.close()
        self._http, self._grpc = self._hold(), self._hold()
        self._raft, self._gossip = self._hold_pair(), self._hold_pair()

    def _hold(self, port: int = 0) -> int:
        return port_of(self._held.enter_context(bind_port(port)))

    def _hold_pair(self) -> int:
        while True:
            first = self._hold()
            with suppress(OSError):
                return self._hold(first + 1) - 1

    @property
    def server(self) -> Server:
        """How an index reaches it."""
        return Server(f"http://127.0.0.1:{self._http}", self._grpc, API_KEY)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a retriever that keeps its index there."""
        return {
            "TRIVIUM_RETRIEVER_INDEX": "weaviate",
            "TRIVIUM_RETRIEVER_WEAVIATE_URL": self.server.url,
            "TRIVIUM_RETRIEVER_WEAVIATE_GRPC_PORT": str(self._grpc),
            "TRIVIUM_RETRIEVER_WEAVIATE_API_KEY": API_KEY,
        }

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until it answers."""
        self._launch()
        if wait:
            eventually(self._answers, "Weaviate answers")
            self._has_answered = True

    def _launch(self) -> None:
        ours = {name: value for name, value in os.environ.items() if name not in ("GOMAXPROCS", "GRPC_PORT")}
        with (self._folder / "log").open("ab") as log:
            # It takes its gRPC and data ports on every interface; the key keeps others out.
            self._child = tied.start(
                [
                    gotools.program("weaviate-server"),
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self._http),
                    "--scheme",
                    "http",
                ],
                env={**ours, **self._settings()},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(30)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._held.close()

    def _settings(self) -> dict[str, str]:
        return {
            "PERSISTENCE_DATA_PATH": str(self._folder / "state"),
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": API_KEY,
            "AUTHENTICATION_APIKEY_USERS": "trivium",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "LOG_LEVEL": "error",
            "GRPC_PORT": str(self._grpc),
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_IN_LOCALHOST": "true",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_BIND_ADDR": "127.0.0.1",
            "CLUSTER_GOSSIP_BIND_PORT": str(self._gossip),
            "CLUSTER_DATA_BIND_PORT": str(self._gossip + 1),
            "RAFT_PORT": str(self._raft),
            "RAFT_INTERNAL_RPC_PORT": str(self._raft + 1),
            "RAFT_BOOTSTRAP_EXPECT": "1",
        }

    def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            said = (self._folder / "log").read_text()[-2000:]
            # Somebody had the UDP port of the gossip, which is not held; once it has answered, others know its ports.
            assert _PORT_TAKEN in said and not self._has_answered, f"Weaviate died:\n{said}"  # noqa: PT018 - one reason
            self._take_ports()
            self._launch()
            return False
        try:
            with urllib.request.urlopen(f"{self.server.url}/v1/.well-known/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="session")
def weaviate() -> Iterator[Weaviate]:
    """A server for the whole session; each test takes a catalog of its own."""
    folder = Path(tempfile.mkdtemp(prefix="trivium-weaviate-"))
    server = Weaviate(folder)
    server.start()
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
