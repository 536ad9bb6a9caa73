"""What the published client's own helpers do with files and stores, over a real retriever and service of files."""

import io
from collections.abc import Iterator

import openai
import pytest
from trivium.retriever.v1 import retriever_pb2

from tests.front import Front, Visitor
from tests.library import Library
from tests.stack import eventually

FARES = b"# Fares\n\nAn adult's day ticket is 9 crowns.\n"
FOG = b"# Fog\n\nIn fog the boats sail at half speed.\n"


@pytest.fixture
def client(front: Front, visitor: Visitor) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=front.http, api_key=visitor.key, max_retries=0) as opened:
        yield opened


@pytest.fixture
def store(client: openai.OpenAI) -> str:
    return client.vector_stores.create(name="Ferry").id


def stored(client: openai.OpenAI, store: str) -> dict[str, str]:
    return {it.id: it.status for it in client.vector_stores.files.list(store)}


def test_a_file_is_there_at_once_and_read_as_text_by_its_older_name(client: openai.OpenAI) -> None:
    made = client.files.create(file=("fares.md", FARES), purpose="assistants")
    assert client.files.wait_for_processing(made.id) == made
    with pytest.warns(DeprecationWarning, match="content"):
        assert client.files.retrieve_content(made.id) == FARES.decode()


def test_files_are_put_into_a_store_and_waited_for_in_each_way_that_there_is(
    client: openai.OpenAI, store: str, visitor: Visitor
) -> None:
    created = client.vector_stores.files.create(store, file_id=visitor.file(FARES), attributes={"about": "money"})
    uploaded = client.vector_stores.files.upload(vector_store_id=store, file=("fog.md", io.BytesIO(FOG)))
    assert {created.status, uploaded.status} <= {"in_progress", "completed"}
    waited = [client.vector_stores.files.poll(it.id, vector_store_id=store) for it in (created, uploaded)]
    assert [(it.id, it.status) for it in waited] == [(created.id, "completed"), (uploaded.id, "completed")]
    at_once = client.vector_stores.files.create_and_poll(visitor.file(FOG), vector_store_id=store)
    assert at_once.status == "completed"
    found = client.vector_stores.files.retrieve(created.id, vector_store_id=store)
    assert (found.attributes, found.vector_store_id) == ({"about": "money"}, store)
    # What was uploaded there is a file as any other.
    assert client.files.retrieve(uploaded.id).filename == "fog.md"
    assert stored(client, store) == dict.fromkeys([created.id, uploaded.id, at_once.id], "completed")


def test_files_that_are_put_there_as_one_are_waited_for_and_told_of(
    client: openai.OpenAI, store: str, visitor: Visitor
) -> None:
    batches = client.vector_stores.file_batches
    made = client.vector_stores.file_batches.create(store, file_ids=[visitor.file(FARES), visitor.file(FOG)])
    waited = client.vector_stores.file_batches.poll(made.id, vector_store_id=store)
    assert (waited.status, waited.file_counts.completed, waited.file_counts.total) == ("completed", 2, 2)
    assert client.vector_stores.file_batches.retrieve(made.id, vector_store_id=store) == waited
    at_once = client.vector_stores.file_batches.create_and_poll(store, file_ids=[visitor.file(FOG)])
    assert (at_once.status, at_once.file_counts.completed) == ("completed", 1)
    assert len(list(batches.list_files(made.id, vector_store_id=store, limit=1))) == 2


def test_what_of_a_batch_is_not_searchable_yet_is_taken_out_again(
    client: openai.OpenAI, store: str, visitor: Visitor
) -> None:
    files = [visitor.file(f"# Pier {n}\n\nThe pier {n} is made of wood.\n") for n in range(6)]
    made = client.vector_stores.file_batches.create(store, file_ids=files)
    cancelled = client.vector_stores.file_batches.cancel(made.id, vector_store_id=store)
    assert cancelled.status == "cancelled"
    counts = cancelled.file_counts
    assert (counts.completed + counts.cancelled, counts.failed, counts.total) == (6, 0, 6)
    eventually(lambda: list(stored(client, store).values()) == ["completed"] * counts.completed, "only those stay")
    again = client.vector_stores.file_batches.cancel(made.id, vector_store_id=store)
    assert again == cancelled
    # Files that are taken out of a store are files all the same.
    assert {it.id for it in client.files.list(purpose="assistants")} == set(files)


def test_a_store_that_nobody_used_for_its_time_is_told_as_expired_and_its_files_stay(
    client: openai.OpenAI, visitor: Visitor, library: Library
) -> None:
    made = client.vector_stores.create(name="Ferry", expires_after={"anchor": "last_active_at", "days": 1})
    file = visitor.file(FARES)
    client.vector_stores.files.create_and_poll(file, vector_store_id=made.id)
    # A day is the least that the client can say.
    soon = retriever_pb2.UpdateCollectionRequest(collection=made.id, expire_after_seconds=1)
    library.api(visitor.key).UpdateCollection(soon)
    eventually(lambda: client.vector_stores.retrieve(made.id).status == "expired", "the store expires")
    expired = client.vector_stores.retrieve(made.id)
    assert (expired.name, expired.file_counts.total, expired.usage_bytes) == ("Ferry", 0, 0)
    assert [it.status for it in client.vector_stores.list()] == ["expired"]
    for use in (
        lambda: client.vector_stores.search(made.id, query="day ticket"),
        lambda: client.vector_stores.files.create(made.id, file_id=file),
        lambda: client.vector_stores.update(made.id, name="Ferries"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            use()
        assert (refused.value.code, refused.value.param) == ("collection_expired", "vector_store_id")
    assert client.files.content(file).content == FARES
    assert client.vector_stores.delete(made.id).deleted
