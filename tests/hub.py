"""A model hub on this machine: the two requests that huggingface_hub makes, over folders, for imports without a network."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from tests.harness.http_server import Handler, serve_http

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


class _Requests(Handler):
    protocol_version = "HTTP/1.1"
    here: Hub

    def do_GET(self) -> None:  # the name that http.server calls
        if self.path.startswith("/api/models/"):
            self._describe()
        else:
            self._file(body=True)

    def do_HEAD(self) -> None:  # the name that http.server calls
        self._file(body=False)

    def _describe(self) -> None:
        repository = "/".join(self.path.split("?")[0].removeprefix("/api/models/").split("/")[:2])
        files = self.here.repositories.get(repository)
        if files is None:
            self.answer(HTTPStatus.NOT_FOUND, {"X-Error-Code": "RepoNotFound"}, b"{}")
            return
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        told = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False}
        self.answer(HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _file(self, *, body: bool) -> None:
        owner, name, _, commit, filename = self.path.split("?")[0].lstrip("/").split("/", 4)
        content = self.here.repositories.get(f"{owner}/{name}", {}).get(filename)
        if content is None or commit != COMMIT:
            self.answer(HTTPStatus.NOT_FOUND, {"X-Error-Code": "EntryNotFound"})
            return
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if not body:
            self.answer(HTTPStatus.OK, etag, length=len(content))
            return
        self.here.asked.append((filename, str(first)))
        self.here.open.wait()
        status = HTTPStatus.PARTIAL_CONTENT if first else HTTPStatus.OK
        span = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        self.answer(status, {**etag, **span}, content[first:])


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that serves until the block ends."""
    opened = Hub()

    class Requests(_Requests):
        here = opened

    with serve_http(Requests) as opened.url:
        try:
            yield opened
        finally:
            opened.open.set()
