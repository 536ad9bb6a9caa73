"""A model hub on this machine: the two requests that huggingface_hub makes, over folders, for imports without a network."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """Repositories by name, files by name; ``asked`` is what was downloaded, in order, with the first byte wanted.

    While ``open`` is not set, no file is answered.
    """

    repositories: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()


class _Server(ThreadingHTTPServer):
    def __init__(self, here: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.here = here


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _here(self) -> Hub:
        assert isinstance(self.server, _Server)
        return self.server.here

    def do_GET(self) -> None:  # the name that http.server calls
        if self.path.startswith("/api/models/"):
            self._describe()
        else:
            self._file(body=True)

    def do_HEAD(self) -> None:  # the name that http.server calls
        self._file(body=False)

    def _describe(self) -> None:
        repository = "/".join(self.path.split("?")[0].removeprefix("/api/models/").split("/")[:2])
        files = self._here.repositories.get(repository)
        if files is None:
            self._answer(HTTPStatus.NOT_FOUND, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        told = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False}
        self._answer(HTTPStatus.OK, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _file(self, *, body: bool) -> None:
        owner, name, _, commit, filename = self.path.split("?")[0].lstrip("/").split("/", 4)
        content = self._here.repositories.get(f"{owner}/{name}", {}).get(filename)
        if content is None or commit != COMMIT:
            self._answer(HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "EntryNotFound"})
            return
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if not body:
            self._answer(HTTPStatus.OK, b"", etag, length=len(content))
            return
        self._here.asked.append((filename, str(first)))
        self._here.open.wait()
        status = HTTPStatus.PARTIAL_CONTENT if first else HTTPStatus.OK
        span = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        self._answer(status, content[first:], {**etag, **span})

    def _answer(
        self, status: HTTPStatus, content: bytes, headers: Mapping[str, str], length: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that serves until the block ends."""
    here = Hub()
    server = _Server(here)
    here.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
