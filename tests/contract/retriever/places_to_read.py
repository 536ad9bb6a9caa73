"""What sources are read from in tests: a web server on the loopback, a real S3, and a retriever that may reach both."""

import json
import threading
from collections.abc import Iterator

import obstore
import pytest
from obstore.store import S3Store
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.harness.http_server import Handler, serve_http
from tests.library import Library, Reader
from tests.stack import eventually

PAGE = "# Storms\n\nThe gate closes below 980 hectopascals.\n"


class Site:
    """A web server whose pages a test writes: path to (content, etag).  A page that is held answers when it is let go."""

    def __init__(self) -> None:
        self.address = ""
        self.pages: dict[str, tuple[str, str]] = {}
        self.held = threading.Event()
        self.held.set()
        self.asked: list[str] = []
        self.answered: list[int] = []

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def url(self, path: str) -> str:
        return self.address + path


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    made = Site()

    class Requests(Handler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.held.wait(60)
            content, etag = made.pages.get(self.path, ("", ""))
            status = 404 if not content else 304 if etag and self.headers["If-None-Match"] == etag else 200
            made.answered.append(status)
            headers = {"Content-Type": "text/plain; charset=utf-8", "ETag": etag}
            self.answer(status, headers, content.encode() if status == 200 else b"")

    with serve_http(Requests) as made.address:
        try:
            yield made
        finally:
            made.held.set()


def settings(site: Site, s3) -> dict[str, str]:
    """What a deployment opens: the site, and every bucket below prefixes, with a key."""
    grant = {
        "bucket": "b*",
        "tenants": ["t-*"],
        "prefix": "trivium",
        "endpoint": s3.environment["AWS_ENDPOINT"],
        "access_key_id": s3.environment["AWS_ACCESS_KEY_ID"],
        "secret_access_key": s3.environment["AWS_SECRET_ACCESS_KEY"],
    }
    return {
        "TRIVIUM_RETRIEVER_SOURCE_HOSTS": "127.0.0.1",
        "TRIVIUM_RETRIEVER_SOURCE_NETWORKS": "127.0.0.1/32",
        "TRIVIUM_RETRIEVER_SOURCE_PORTS": str(site.port),
        "TRIVIUM_RETRIEVER_RETRY_SECONDS": "0.05",
        "TRIVIUM_RETRIEVER_BUCKETS": json.dumps([grant]),
        # Of something else in the same environment: nothing of it may be used.
        "AWS_ACCESS_KEY_ID": "stranger",
        "AWS_SECRET_ACCESS_KEY": "stranger",
        "AWS_SESSION_TOKEN": "stranger",
        "AWS_ENDPOINT": "http://127.0.0.1:9",
    }


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def reading(request, stack, embedder_address, tmp_path_factory, site, s3) -> Iterator[Library]:
    """A retriever that may read the site and the buckets, over a catalog of each kind."""
    environment = settings(site, s3)
    if request.param == "postgres":
        environment["TRIVIUM_RETRIEVER_DATABASE_URL"] = request.getfixturevalue("postgres").database()
    running = Library(stack, tmp_path_factory.mktemp(f"sources-{request.param}"), embedder_address, environment)
    yield running
    running.close()


@pytest.fixture
def keeper(reading: Library) -> Reader:
    return reading.newcomer()


class Bucket:
    """A bucket that a test fills."""

    def __init__(self, s3) -> None:
        self.url = s3.bucket()
        name = self.url.removeprefix("s3://").partition("/")[0]
        self._store = S3Store(
            name,
            endpoint=s3.environment["AWS_ENDPOINT"],
            access_key_id=s3.environment["AWS_ACCESS_KEY_ID"],
            secret_access_key=s3.environment["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def put(self, key: str, content: str | bytes) -> None:
        obstore.put(self._store, f"trivium/{key}", content.encode() if isinstance(content, str) else content)

    def delete(self, key: str) -> None:
        obstore.delete(self._store, f"trivium/{key}")


@pytest.fixture
def objects(s3) -> Bucket:
    return Bucket(s3)


def add(reader: Reader, uri: str, **fields) -> pb.Source:
    request = pb.IngestSourceRequest(collection=reader.collection, uri=uri, **fields)
    answer: pb.IngestSourceResponse = reader.api.IngestSource(request)
    return answer.source


def ended(reader: Reader, source: str) -> pb.GetSourceResponse:
    """The source once it is under way no more."""
    busy = (pb.SOURCE_STATE_QUEUED, pb.SOURCE_STATE_RUNNING, pb.SOURCE_STATE_DELETING)

    def settled():
        answer = reader.api.GetSource(pb.GetSourceRequest(source=source))
        return answer if answer.source.state not in busy else None

    answer: pb.GetSourceResponse = eventually(settled, "the source was read", 60)
    return answer


def read(reader: Reader, uri: str, **fields) -> pb.GetSourceResponse:
    return ended(reader, add(reader, uri, **fields).source)


def counts(source: pb.Source) -> tuple[int, int, int, int, int]:
    return source.found, source.stored, source.unchanged, source.failed, source.deleted


def documents(reader: Reader) -> set[str]:
    listed = reader.api.ListDocuments(pb.ListDocumentsRequest(collection=reader.collection)).documents
    return {item.document for item in listed}
