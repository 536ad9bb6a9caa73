"""What holds for every source, whatever it is read from: its order, its end, who sees it, and the command line."""

import json
import uuid

import pytest
from trivium.access.v1 import access_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.desk import Desk, ran_in_process
from tests.contract.retriever.places_to_read import PAGE, add, counts, documents, ended, read
from tests.harness.wording import missing
from tests.library import Reader
from tests.stack import eventually, refused
from tests.unit.retriever.formats import building


def test_a_deployment_that_opens_nothing_reads_nothing(library, site):
    reader = library.newcomer()
    site.asked.clear()
    for uri in (site.url("/a.md"), "https://docs.example/", "s3://bucket/prefix", "ftp://docs.example/", "a.md"):
        with refused("SOURCE_NOT_ALLOWED"):
            add(reader, uri)
    assert site.asked == []
    assert reader.api.ListSources(pb.ListSourcesRequest(collection=reader.collection)).sources == []


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
    first = Reader(reading.api(reading.stack.tenant_key(keeper.tenant, access_pb2.ROLE_DEVELOPER)), keeper.tenant)
    second = Reader(reading.api(reading.stack.tenant_key(keeper.tenant, access_pb2.ROLE_DEVELOPER)), keeper.tenant)
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


@pytest.mark.parametrize("reading", ["sqlite"], indirect=True)
def test_the_command_line_adds_lists_shows_and_removes(reading, site):
    desk = Desk(reading)
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, "")
    _, environment = desk.command()

    def run(*words):
        return ran_in_process("docs", "source", *words, "-c", desk.collection, environment=environment)

    added = run("add", site.url(path), "--json")
    assert added.returncode == 0, added.stderr
    assert (json.loads(added.stdout)["state"], json.loads(added.stdout)["stored"]) == ("ready", 1)
    assert site.url(path) in run("list").stdout
    assert json.loads(run("show", site.url(path), "--json").stdout)["uri"] == site.url(path)
    broken = run("add", site.url("/nothing"))
    assert (broken.returncode, "it answers 404" in broken.stderr) == (4, True)
    closed = run("add", "http://169.254.169.254/latest")
    assert (closed.returncode, "SOURCE_HOSTS" in closed.stderr) == (4, True)
    unasked = run("remove", site.url(path), "--documents")
    assert (unasked.returncode, "--yes" in unasked.stderr, len(desk.documents())) == (2, True, 1)
    assert not missing(run("remove", site.url(path), "--documents", "--yes").stdout, "1 document")
    assert desk.documents() == {}
    desk.client.close()


def test_an_object_whose_conversion_fails_after_it_was_stored_counts_as_failed(keeper, objects):
    objects.put("leave.md", "# Leave\n\nThirty days.\n")
    objects.put("broken.docx", building.plain_word("Forty days.")[:-60])
    objects.put("cut.pdf", building.pdf("Fifty days.")[:200])
    source = add(keeper, objects.url).source
    ended(keeper, source)
    keeper.settled()
    answer = keeper.api.GetSource(pb.GetSourceRequest(source=source))
    assert counts(answer.source) == (3, 1, 0, 2, 0)
    assert answer.source.state == pb.SOURCE_STATE_READY
    assert not missing(answer.source.reason, "2 of 3")
    told = {item.uri: item.reason for item in answer.failures}
    assert told == {uri: keeper.get(uri).reason for uri in (f"{objects.url}/broken.docx", f"{objects.url}/cut.pdf")}
    assert all("not a whole" in reason for reason in told.values())
    # Mended, they are stored; asked for again as they are, they fail again and are counted once.
    objects.put("cut.pdf", building.pdf("Fifty days."))
    again = read(keeper, objects.url).source
    keeper.settled()
    again = keeper.api.GetSource(pb.GetSourceRequest(source=again.source)).source
    assert (again.found, again.stored, again.unchanged, again.failed) == (3, 1, 1, 1)
    objects.delete("leave.md")
    objects.delete("cut.pdf")
    last = read(keeper, objects.url).source
    keeper.settled()
    last = keeper.api.GetSource(pb.GetSourceRequest(source=last.source)).source
    assert (last.state, last.failed, last.found) == (pb.SOURCE_STATE_FAILED, 1, 1)
