"""The index dies, or the retriever between catalog and index: afterwards the index is what the catalog says."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from signal import SIGKILL

import grpc
import numpy as np
import pytest
import weaviate
from trivium.retriever.v1 import retriever_pb2 as pb
from weaviate.classes.data import DataObject
from weaviate.classes.init import Auth
from weaviate.classes.query import Filter

from services.chassis.errors import Failure
from services.chassis.status import from_rpc_error
from services.retriever.index.index import Entry
from services.retriever.index.weaviate import WeaviateIndex
from services.retriever.index.weaviate_schema import VECTOR, class_of
from tests.harness.plugin_sampling import sample
from tests.library import Library, Reader
from tests.robustness.test_retriever_survives import QUERIES, handbook, ranking
from tests.stack import eventually, refused
from tests.weaviate import Weaviate

# Starts a Weaviate server and retrievers that use it.
ON_WEAVIATE = pytest.mark.sampled(every=2, family="robustness on Weaviate")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Weaviate]:
    """A Weaviate that a test may kill and start again; each test has a separate catalog in it."""
    running = Weaviate(tmp_path_factory.mktemp("weaviate"))
    running.start()
    yield running
    running.close()


@contextmanager
def opened(stack, folder, embedder_address, environment, prelude=""):
    library = Library(stack, folder, embedder_address, environment, prelude=prelude)
    try:
        yield library
    finally:
        library.close()


@ON_WEAVIATE
def test_on_weaviate_the_service_answers_to_the_bit_as_on_the_embedded_index(stack, tmp_path, embedder_address, server):
    with (
        opened(stack, tmp_path / "one", embedder_address, {}) as embedded,
        opened(stack, tmp_path / "two", embedder_address, server.environment) as remote,
    ):
        answers = []
        for library in (embedded, remote):
            reader = library.newcomer()
            for number in range(12):
                reader.put(f"d{number}.md", handbook(*range(number * 3, number * 3 + 5)))
            reader.delete("d3.md")
            reader.put("d4.md", handbook(70, 71))
            reader.settled()
            answers.append(ranking(reader))
        assert answers[0] == answers[1]
        assert any(answers[0])
        assert not list((tmp_path / "two" / "retriever").glob("*-graphs"))


@ON_WEAVIATE
def test_weaviate_killed_in_mid_ingestion_holds_afterwards_what_the_catalog_says(
    stack, tmp_path, embedder_address, server
):
    with opened(stack, tmp_path / "library", embedder_address, server.environment) as library:
        reader = library.newcomer()
        reader.add("first.md", handbook(90, 91))
        names = [f"d{number}.md" for number in range(12)]
        for number, name in enumerate(names):
            reader.put(name, handbook(*range(number * 3, number * 3 + 4)))
        eventually(lambda: reader.statistics().chunks > 4, "ingestion has begun")
        server.kill()
        with refused("PEER_UNAVAILABLE") as failures:
            reader.search("herring")
        assert failures[0].variables["service"] == "weaviate"
        assert failures[0].retry_after_seconds
        # What is deleted meanwhile is deleted, and what is put waits and says for what.
        reader.delete("first.md")
        reader.put("late.md", handbook(80))
        waiting = [*names, "late.md"]
        eventually(lambda: any("weaviate" in reader.get(name).reason for name in waiting), "one says what it waits for")
        assert reader.get("late.md").state == pb.INGESTION_STATE_PENDING
        server.start()
        reader.settled()
        eventually(lambda: not away(reader), "searches are answered again")
        assert {hit.document for hit in reader.search("section", top_k=1000)} == {*names, "late.md"}
        grown = ranking(reader)
        with opened(stack, tmp_path / "fresh", embedder_address, {}) as embedded:
            fresh = embedded.newcomer()
            for number, name in enumerate(names):
                fresh.put(name, handbook(*range(number * 3, number * 3 + 4)))
            fresh.put("late.md", handbook(80))
            fresh.settled()
            for one, other in zip(ranking(fresh), grown, strict=True):
                assert set(one) - set(other) == set() == set(other) - set(one)


@ON_WEAVIATE
def test_a_retriever_starts_without_its_weaviate_and_serves_once_that_is_there(
    stack, tmp_path, embedder_address, server
):
    with opened(stack, tmp_path / "library", embedder_address, server.environment) as library:
        reader = library.newcomer()
        reader.add("a.md", handbook(1, 2))
        before = ranking(reader)
        library.restart(meanwhile=server.kill)
        with refused("PEER_UNAVAILABLE"):
            reader.search("herring", mode=pb.SEARCH_MODE_SPARSE)
        assert reader.get("a.md").state == pb.INGESTION_STATE_READY
        server.start()
        eventually(lambda: not away(reader), "searches are answered again")
        assert ranking(reader) == before


@ON_WEAVIATE
def test_vectors_that_weaviate_acknowledged_are_found_after_it_was_killed(server):
    catalog = uuid.uuid4().hex
    index = WeaviateIndex(server.server, catalog)
    entries = [Entry(chunk, "herring", unit_vector(chunk).astype("<f2").tobytes()) for chunk in range(3)]
    index.replace(1, entries[:1], ())
    index.replace(2, entries, ())
    lose_vectors(server, catalog, "c2")
    index.replace(1, entries[1:], ())
    # At once: in a second it flushes its logs by itself.
    server.kill()
    server.start()
    eventually(lambda: found_by_vector(index, 1) is not None, "Weaviate answers")
    assert found_by_vector(index, 1) == {0, 1, 2}
    # A repeated change completes what an interrupted one left.
    index.replace(2, entries, ())
    assert found_by_vector(index, 2) == {0, 1, 2}
    index.close()


def unit_vector(number: int) -> np.ndarray:
    vector = np.zeros(4, dtype=np.float32)
    vector[number] = 1
    return vector


def found_by_vector(index: WeaviateIndex, collection: int) -> set[int] | None:
    """The chunks that a search by vector finds; None where the server does not answer."""
    with suppress(Failure):
        return set(index.nearest(collection, unit_vector(0), 10, None))
    return None


def lose_vectors(server: Weaviate, catalog: str, tenant: str) -> None:
    """Store a tenant's objects anew as a change does that is interrupted: most often their vectors are not flushed yet."""
    address = server.server
    client = weaviate.connect_to_custom(
        http_host="127.0.0.1",
        http_port=int(address.url.rpartition(":")[2]),
        http_secure=False,
        grpc_host="127.0.0.1",
        grpc_port=address.grpc_port,
        grpc_secure=False,
        auth_credentials=Auth.api_key(address.api_key),
        skip_init_checks=True,
    )
    with client:
        shard = client.collections.use(class_of(catalog)).with_tenant(tenant)
        objects = [
            DataObject(properties=it.properties, uuid=it.uuid, vector={VECTOR: it.vector[VECTOR]})
            for it in shard.iterator(include_vector=True)
        ]
        assert objects
        shard.data.delete_many(where=Filter.by_id().contains_any([str(it.uuid) for it in objects]))
        assert not shard.data.insert_many(objects).errors


@pytest.mark.parametrize("kind", ["embedded", pytest.param("weaviate", marks=ON_WEAVIATE)])
def test_killed_between_catalog_and_index_the_retriever_makes_them_one_at_its_next_start(
    stack, tmp_path, embedder_address, request, kind
):
    armed = tmp_path / "armed"
    environment = {"TRIVIUM_TEST_ARMED": str(armed)}
    if kind == "weaviate":
        environment |= request.getfixturevalue("server").environment
    prelude = "tests.robustness.dying_before_the_index"
    with opened(stack, tmp_path / "library", embedder_address, environment, prelude) as library:
        reader = library.newcomer()
        for name, numbers in {"a.md": (1, 2, 3), "b.md": (3, 4)}.items():
            reader.add(name, handbook(*numbers))
        changes = (
            lambda: reader.put("a.md", handbook(2, 7)),
            lambda: reader.delete("b.md"),
            lambda: reader.put("c.md", handbook(9)),
        )
        deadly = sample(changes, every=len(changes))
        for change in changes:
            if change not in deadly:
                change()
                reader.settled()
                continue
            # The catalog has the change when the process dies; the index does not.
            armed.touch()
            with suppress(grpc.RpcError):
                change()
            assert library.process.died() == -SIGKILL
            library.restart(meanwhile=armed.unlink)
        reader.settled()
        fresh = library.newcomer()
        for name, numbers in {"a.md": (2, 7), "c.md": (9,)}.items():
            fresh.add(name, handbook(*numbers))
        assert ranking(reader) == ranking(fresh)
        assert any(ranking(reader))


def away(reader: Reader) -> bool:
    """Whether a search is refused."""
    try:
        reader.search(QUERIES[0])
    except grpc.RpcError as error:
        return from_rpc_error(error).reason == "PEER_UNAVAILABLE"
    return False
