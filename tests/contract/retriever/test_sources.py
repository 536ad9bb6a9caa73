"""Sources against real servers: a web server on the loopback and a real S3; what is fetched, and what is not again."""

import json
import sqlite3
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
import pytest
from obstore.store import S3Store
from trivium.access.v1 import access_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.desk import COMMAND, Desk
from tests.library import Library, Reader
from tests.stack import eventually, refused

PAGE = "# Storms\n\nThe gate closes below 980 hectopascals.\n"


class Site:
    """A web server whose pages a test writes: path to (content, etag).  A page that is held answers when it is let go."""

    def __init__(self) -> None:
        site = self
        self.pages: dict[str, tuple[str, str]] = {}
        self.held = threading.Event()
        self.held.set()
        self.asked: list[str] = []
        self.answered: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.held.wait(60)
                content, etag = site.pages.get(self.path, ("", ""))
                status = 404 if not content else 304 if etag and self.headers["If-None-Match"] == etag else 200
                site.answered.append(status)
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("ETag", etag)
                body = content.encode() if status == 200 else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


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


def test_a_url_is_fetched_once_and_again_only_when_it_changed(keeper, site):
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, '"1"')
    source = read(keeper, site.url(path)).source
    assert (source.state, counts(source)) == (pb.SOURCE_STATE_READY, (1, 1, 0, 0, 0))
    document = keeper.settled(site.url(path))
    # Its server calls it plain text; its name says more.
    assert (document.title, document.media_type) == ("Storms", "text/markdown")
    assert "980" in keeper.search("when does the gate close")[0].text

    source = read(keeper, site.url(path)).source
    assert (counts(source), site.answered[-1], source.fetched_bytes) == ((1, 0, 1, 0, 0), 304, 0)
    site.pages[path] = (PAGE.replace("980", "975"), '"2"')
    assert counts(read(keeper, site.url(path)).source) == (1, 1, 0, 0, 0)
    assert keeper.settled(site.url(path)).chunks_embedded == 1
    # Somebody puts another text over it: what the page says is fetched again.
    keeper.add(site.url(path), "# Other\n")
    assert counts(read(keeper, site.url(path)).source) == (1, 1, 0, 0, 0)
    keeper.settled()
    assert "975" in keeper.text(site.url(path))


def test_a_page_that_is_gone_is_told_and_pruned_if_that_is_wanted(keeper, site):
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, "")
    read(keeper, site.url(path))
    site.pages[path] = ("", "")
    answer = read(keeper, site.url(path))
    assert answer.source.state == pb.SOURCE_STATE_FAILED
    assert [(item.uri, item.reason) for item in answer.failures] == [(site.url(path), "it answers 404")]
    assert documents(keeper) == {site.url(path)}
    assert counts(read(keeper, site.url(path), prune=True).source) == (0, 0, 0, 0, 1)
    assert documents(keeper) == set()


def test_a_prefix_comes_whole_what_fails_is_named_and_again_only_what_changed_is_fetched(keeper, objects):
    objects.put("leave.md", "# Leave\n\nThirty days.\n")
    objects.put("quay/mooring.md", "# Mooring\n\nFourteen crowns.\n")
    objects.put("picture.md", b"\x89PNG\r\n\x1a\n\x00")
    objects.put("large.md", "word " * (11 * 1024 * 1024 // 5))
    answer = read(keeper, objects.url)
    assert counts(answer.source) == (4, 2, 0, 2, 0)
    assert answer.source.state == pb.SOURCE_STATE_READY
    assert answer.source.reason == "2 of 4 could not be stored"
    reasons = {item.uri.rpartition("/")[2]: item.reason for item in answer.failures}
    assert "TRIVIUM_RETRIEVER_MAX_DOCUMENT_BYTES" in reasons["large.md"]
    assert "PNG" in reasons["picture.md"]
    assert documents(keeper) == {f"{objects.url}/leave.md", f"{objects.url}/quay/mooring.md"}

    objects.put("quay/mooring.md", "# Mooring\n\nFifteen crowns.\n")
    objects.delete("leave.md")
    objects.put("picture.md", "# Picture\n\nWords after all.\n")
    source = read(keeper, objects.url).source
    # What could not be stored is tried again when somebody asks; the large one is not even fetched.
    assert counts(source) == (3, 2, 0, 1, 0)
    assert source.fetched_bytes < 100
    assert f"{objects.url}/leave.md" in documents(keeper)

    keeper.add("by-hand.md", "# By hand\n")
    source = read(keeper, objects.url, prune=True).source
    assert (counts(source), source.fetched_bytes) == ((3, 0, 2, 1, 1), 0)
    assert documents(keeper) == {f"{objects.url}/quay/mooring.md", f"{objects.url}/picture.md", "by-hand.md"}


def test_one_object_may_be_named(keeper, objects):
    objects.put("a/one.md", "# One\n")
    assert counts(read(keeper, f"{objects.url}/a/one.md").source) == (1, 1, 0, 0, 0)
    nothing = read(keeper, f"{objects.url}/a/two.md").source
    assert (nothing.state, nothing.found) == (pb.SOURCE_STATE_FAILED, 0)
    assert "no such bucket or object" in nothing.reason


def test_a_bucket_that_is_not_there_or_not_open_is_refused(keeper, objects, reading):
    missing = read(keeper, f"s3://b{uuid.uuid4().hex}/trivium").source
    assert missing.state == pb.SOURCE_STATE_FAILED
    for uri in (
        "s3://other/trivium",
        objects.url.removesuffix("/trivium"),
        objects.url + "-other",
        objects.url + "/../other",
        "s3://b.example#/trivium",
        "s3://",
    ):
        with refused("SOURCE_NOT_ALLOWED"):
            add(keeper, uri)
    foreign = reading.stack.tenant(f"u-{uuid.uuid4().hex[:8]}")
    outsider = Reader(reading.api(reading.stack.tenant_key(foreign)), foreign)
    outsider.create(outsider.collection)
    with refused("SOURCE_NOT_ALLOWED") as failures:
        add(outsider, objects.url)
    assert "TRIVIUM_RETRIEVER_BUCKETS" in failures[0].message


def test_a_deployment_that_opens_nothing_reads_nothing(library, site):
    reader = library.newcomer()
    site.asked.clear()
    for uri in (site.url("/a.md"), "https://docs.example/", "s3://bucket/prefix", "ftp://docs.example/", "a.md"):
        with refused("SOURCE_NOT_ALLOWED"):
            add(reader, uri)
    assert site.asked == []
    assert reader.api.ListSources(pb.ListSourcesRequest(collection=reader.collection)).sources == []


def test_what_is_allowed_is_judged_again_where_it_leads(keeper, site):
    with refused("SOURCE_NOT_ALLOWED"):
        add(keeper, f"http://127.0.0.1:{site.port + 1}/")
    with refused("SOURCE_NOT_ALLOWED") as failures:
        add(keeper, f"http://ada:secret@127.0.0.1:{site.port}/")
    assert "secret" not in failures[0].message


def test_a_source_is_listed_and_a_repeat_of_its_order_is_the_same(keeper, site):
    request_id = str(uuid.uuid4())
    first = add(keeper, site.url("/one"), request_id=request_id)
    assert add(keeper, site.url("/one"), request_id=request_id) == first
    second = add(keeper, site.url("/two"))
    page = keeper.api.ListSources(pb.ListSourcesRequest(collection=keeper.collection, page_size=1))
    rest = keeper.api.ListSources(
        pb.ListSourcesRequest(collection=keeper.collection, page_size=1, page_token=page.next_page_token)
    )
    assert [page.sources[0].source, rest.sources[0].source] == [first.source, second.source]
    assert not rest.next_page_token


def test_another_tenants_source_and_a_missing_one_look_the_same(keeper, reading, site):
    source = add(keeper, site.url("/none")).source
    stranger = reading.newcomer()
    for rpc, request in (
        ("GetSource", pb.GetSourceRequest),
        ("CancelSource", pb.CancelSourceRequest),
        ("DeleteSource", pb.DeleteSourceRequest),
    ):
        said = set()
        for name in (source, str(uuid.uuid4())):
            with refused("SOURCE_NOT_FOUND") as failures:
                getattr(stranger.api, rpc)(request(source=name))
            said.add(failures[0].message.replace(name, "NAME"))
        assert len(said) == 1
    key = reading.stack.tenant_key(keeper.tenant, access_pb2.ROLE_READER)
    visitor = reading.api(key)
    assert visitor.GetSource(pb.GetSourceRequest(source=source)).source.source == source
    for change in (
        lambda: visitor.IngestSource(pb.IngestSourceRequest(collection=keeper.collection, uri=site.url("/none"))),
        lambda: visitor.CancelSource(pb.CancelSourceRequest(source=source)),
        lambda: visitor.DeleteSource(pb.DeleteSourceRequest(source=source)),
    ):
        with refused("ROLE_MISSING"):
            change()


def test_what_a_source_brings_has_its_readers_and_hides_behind_them(keeper, reading, site):
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, '"1"')
    first = Reader(reading.api(reading.stack.tenant_key(keeper.tenant, access_pb2.ROLE_MEMBER)), keeper.tenant)
    second = Reader(reading.api(reading.stack.tenant_key(keeper.tenant, access_pb2.ROLE_MEMBER)), keeper.tenant)
    first.collection = second.collection = keeper.collection
    source = read(first, site.url(path), readers=["night-watch"]).source
    assert list(keeper.settled(site.url(path)).readers) == ["night-watch"]
    assert documents(second) == set()
    with refused("SOURCE_NOT_FOUND"):
        second.api.GetSource(pb.GetSourceRequest(source=source.source))
    assert second.api.ListSources(pb.ListSourcesRequest(collection=keeper.collection)).sources == []
    with refused("SOURCE_NOT_ALLOWED"):
        add(second, site.url(path))
    # Another list counts, though the page has not changed.
    assert counts(read(first, site.url(path)).source) == (1, 0, 1, 0, 0)
    assert documents(second) == {site.url(path)}

    hidden = f"/{uuid.uuid4().hex}.md"
    site.pages[hidden] = (PAGE, "")
    keeper.add(site.url(hidden), "# Ours\n", readers=["ours"])
    answer = read(second, site.url(hidden))
    assert answer.source.state == pb.SOURCE_STATE_FAILED
    assert keeper.text(site.url(hidden)) == "# Ours\n"


def test_a_source_that_is_cancelled_writes_nothing_more(keeper, site):
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, "")
    site.held.clear()
    source = add(keeper, site.url(path), refresh_seconds=60).source
    eventually(lambda: path in site.asked, "the page is asked for")
    stopped = keeper.api.CancelSource(pb.CancelSourceRequest(source=source)).source
    assert (stopped.state, stopped.HasField("due_time")) == (pb.SOURCE_STATE_CANCELLED, False)
    site.held.set()
    # The tenant's sources are read one after another: this one is read when the other's reading is over.
    site.pages["/next.md"] = ("# Next\n", "")
    read(keeper, site.url("/next.md"))
    assert documents(keeper) == {site.url("/next.md")}
    assert counts(keeper.api.GetSource(pb.GetSourceRequest(source=source)).source) == (0, 0, 0, 0, 0)
    assert counts(read(keeper, site.url(path)).source) == (1, 1, 0, 0, 0)


def test_a_source_is_forgotten_with_its_documents_or_without(keeper, objects):
    for number in range(3):
        objects.put(f"{number}.md", f"# Number {number}\n")
    source = read(keeper, objects.url).source.source
    keeper.add(f"{objects.url}/0.md", "# Put over it by hand\n")
    assert keeper.api.DeleteSource(pb.DeleteSourceRequest(source=source)).documents == 0
    assert len(documents(keeper)) == 3
    source = read(keeper, objects.url).source.source
    keeper.add(f"{objects.url}/0.md", "# Put over it by hand\n")
    assert keeper.api.DeleteSource(pb.DeleteSourceRequest(source=source, delete_documents=True)).documents == 3
    eventually(lambda: documents(keeper) == {f"{objects.url}/0.md"}, "what it brought is deleted")

    def gone():
        return not keeper.api.ListSources(pb.ListSourcesRequest(collection=keeper.collection)).sources

    eventually(gone, "the source is forgotten")


def test_a_deleted_collection_takes_its_sources_along(keeper, site):
    site.held.clear()
    source = add(keeper, site.url("/held")).source
    eventually(lambda: "/held" in site.asked, "the page is asked for")
    keeper.api.DeleteCollection(pb.DeleteCollectionRequest(collection=keeper.collection))
    site.pages["/held"] = (PAGE, "")
    site.held.set()
    with refused("SOURCE_NOT_FOUND"):
        keeper.api.GetSource(pb.GetSourceRequest(source=source))
    keeper.create(keeper.collection)
    assert counts(read(keeper, site.url("/held")).source) == (1, 1, 0, 0, 0)


def test_a_bucket_that_is_away_is_waited_for_and_said(stack, embedder_address, tmp_path, site, s3):
    environment = settings(site, s3)
    grant = json.loads(environment["TRIVIUM_RETRIEVER_BUCKETS"])[0] | {"endpoint": "http://127.0.0.1:9"}
    environment["TRIVIUM_RETRIEVER_BUCKETS"] = json.dumps([grant])
    library = Library(stack, tmp_path / "library", embedder_address, environment)
    try:
        reader = library.newcomer()
        source = add(reader, "s3://bucket/trivium").source

        def waits():
            found = reader.api.GetSource(pb.GetSourceRequest(source=source)).source
            return "does not answer" in found.reason

        eventually(waits, "it says what it waits for", 60)
    finally:
        library.close()


def test_after_a_kill_a_reading_goes_on_and_fetches_nothing_twice(stack, embedder_address, tmp_path, site, s3, objects):
    library = Library(stack, tmp_path / "library", embedder_address, settings(site, s3))
    try:
        reader = library.newcomer()
        many = 60
        for number in range(many):
            objects.put(f"{number:03}.md", f"# Section {number}\n\nSection {number} costs {number * 7} crowns.\n")
        source = add(reader, objects.url).source

        def begun():
            return 3 < reader.api.GetSource(pb.GetSourceRequest(source=source)).source.stored < many

        eventually(begun, "some objects are stored")
        library.restart()
        answer = ended(reader, source)
        found, stored, unchanged, failed, _ = counts(answer.source)
        assert (found, stored + unchanged, failed) == (many, many, 0)
        assert unchanged > 3
        reader.settled()
        assert len(documents(reader)) == many
        assert reader.statistics().vectors_computed == reader.statistics().chunks == many
        # Neither what was written down nor what was logged holds the key.
        secret = s3.environment["AWS_SECRET_ACCESS_KEY"]
        kept = b"".join(file.read_bytes() for file in (tmp_path / "library" / "retriever").glob("retriever.db*"))
        assert secret not in library.process.log()
        assert secret.encode() not in kept
        with closing(sqlite3.connect(tmp_path / "library" / "retriever" / "retriever.db")) as catalog:
            assert catalog.execute("SELECT count(*) FROM source_objects").fetchone() == (many,)
    finally:
        library.close()


@pytest.mark.parametrize("reading", ["sqlite"], indirect=True)
def test_the_command_line_adds_lists_shows_and_removes(reading, site):
    desk = Desk(reading)
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, "")
    _, environment = desk.command()

    def run(*words):
        command = [*COMMAND, "docs", "source", *words, "-c", desk.collection]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    added = run("add", site.url(path), "--json")
    assert added.returncode == 0, added.stderr
    assert (json.loads(added.stdout)["state"], json.loads(added.stdout)["stored"]) == ("ready", 1)
    assert site.url(path) in run("list").stdout
    assert json.loads(run("show", site.url(path), "--json").stdout)["uri"] == site.url(path)
    broken = run("add", site.url("/nothing"))
    assert (broken.returncode, "it answers 404" in broken.stderr) == (4, True)
    closed = run("add", "http://169.254.169.254/latest")
    assert (closed.returncode, "SOURCE_HOSTS" in closed.stderr) == (4, True)
    assert run("remove", site.url(path), "--documents").stdout == "Removed the source, and 1 document.\n"
    assert desk.documents() == {}
    desk.client.close()


def test_a_setting_that_cannot_be_used_stops_the_start_and_does_not_repeat_a_key(stack, tmp_path, site, s3):
    broken = json.dumps([{"bucket": "b", "tenants": ["*"], "secret_access_key": "not-to-be-told", "endpont": ""}])
    environment = settings(site, s3) | {"TRIVIUM_RETRIEVER_BUCKETS": broken}
    with pytest.raises(AssertionError, match="TRIVIUM_RETRIEVER_BUCKETS") as died:
        Library(stack, tmp_path / "library", "127.0.0.1:9", environment)
    assert "endpont" in str(died.value)
    assert "not-to-be-told" not in str(died.value)
