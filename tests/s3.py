"""An S3 server of its own over a folder, and buckets in it: what is promised of blobs in a folder holds there too."""

import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from services.ops import gotools
from tests import tied
from tests.stack import eventually

_KEY_ID = "trivium"
_SECRET = "only-for-tests"


class S3:
    """A server on a port of the system's choice; a bucket is a folder below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._listen = "127.0.0.1:0"

    def start(self) -> None:
        """Start it and wait until it listens; after the first time where it listened before."""
        environment = {**os.environ, "ROOT_ACCESS_KEY": _KEY_ID, "ROOT_SECRET_KEY": _SECRET}
        program = gotools.program("versitygw")
        command: list[str | Path] = [program, "--quiet", "--port", self._listen, "posix", self._folder]
        self._child = tied.start(command, env=environment, stdout=subprocess.DEVNULL)
        self._listen = eventually(self._address, "the S3 server listens")

    def stop(self) -> None:
        """End it as a power cut would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(30)

    def _address(self) -> str:
        assert self._child is not None
        assert self._child.poll() is None, "the S3 server died"
        for connection in psutil.Process(self._child.pid).net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return f"{connection.laddr.ip}:{connection.laddr.port}"
        return ""

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        assert self._child is not None
        return self._child.pid

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables under which a process reaches it."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_ENDPOINT": f"http://{self._listen}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }

    def bucket(self) -> str:
        """The URL of a prefix in a new, empty bucket."""
        name = f"b{uuid.uuid4().hex}"
        (self._folder / name).mkdir()
        return f"s3://{name}/trivium"

    def folder_of(self, url: str) -> Path:
        """The folder that is the prefix at ``url``."""
        return self._folder / url.removeprefix("s3://")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server for the whole session; each test takes buckets of its own."""
    server = S3(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of this test alone, with the way to it in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.bucket()
