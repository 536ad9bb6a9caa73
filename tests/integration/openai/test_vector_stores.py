"""Vector stores by the published client alone: upload, search with a filter, and what its helpers wait for."""

import io
from collections.abc import Iterator

import openai
import pytest

from services.ops.supervisor import Suite

FARES = b"# Fares\n\nAn adult's day ticket is 9 crowns. A child's day ticket is 4 crowns. Dogs travel free.\n"
FOG = b"# Fog\n\nIn fog the boats sail at half speed and sound one long blast every two minutes.\n"
MOORING = b"# Mooring\n\nA boat moors with two lines at the bow and one at the stern.\n"


@pytest.fixture(scope="module")
def client(suite: Suite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=240, max_retries=0) as opened:
        yield opened


def named(content: bytes, name: str) -> tuple[str, io.BytesIO]:
    return name, io.BytesIO(content)


def test_a_store_is_made_changed_listed_and_deleted(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(
        name="Ferry", metadata={"line": "north"}, expires_after={"anchor": "last_active_at", "days": 7}
    )
    assert (store.name, store.metadata, store.status, store.file_counts.total) == (
        "Ferry",
        {"line": "north"},
        "completed",
        0,
    )
    assert store.expires_at is not None
    assert store.last_active_at is not None
    assert store.expires_at - store.last_active_at == 7 * 86400
    changed = client.vector_stores.update(store.id, name="Ferries", metadata={"line": "south"})
    assert (changed.name, changed.metadata, changed.expires_after) == (
        "Ferries",
        {"line": "south"},
        store.expires_after,
    )
    assert client.vector_stores.retrieve(store.id).name == "Ferries"
    assert store.id in [item.id for item in client.vector_stores.list(limit=1)]
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)


def test_documents_are_uploaded_searched_with_a_filter_and_read_again(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="Ferry documents")
    fares = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=named(FARES, "fares.md"))
    assert (fares.status, fares.last_error) == ("completed", None)
    batch = client.vector_stores.file_batches.upload_and_poll(
        vector_store_id=store.id, files=[named(FOG, "fog.md"), named(MOORING, "mooring.md")]
    )
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    assert len(list(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=1))) == 2
    client.vector_stores.files.update(fares.id, vector_store_id=store.id, attributes={"year": 2026, "open": True})
    found = client.vector_stores.search(
        store.id,
        query="How do boats sail in fog?",
        filters={"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2020}]},
        max_num_results=5,
    )
    (hit,) = found.data
    assert (hit.file_id, hit.filename, hit.attributes) == (fares.id, "fares.md", {"year": 2026, "open": True})
    everywhere = client.vector_stores.search(store.id, query="How do boats sail in fog?", max_num_results=1)
    assert [item.filename for item in everywhere.data] == ["fog.md"]
    content = "".join(
        part.text or "" for part in client.vector_stores.files.content(fares.id, vector_store_id=store.id)
    )
    about = hit.model_extra["trivium"] if hit.model_extra else {}
    assert content == FARES.decode()
    assert content[about["start"] : about["end"]] == hit.content[0].text
    client.vector_stores.files.delete(fares.id, vector_store_id=store.id)
    assert client.files.retrieve(fares.id).filename == "fares.md"
    assert fares.id not in [item.id for item in client.vector_stores.files.list(store.id)]


def test_a_file_that_cannot_be_read_is_told_as_the_client_knows_it(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="Unread")
    photo = client.files.create(file=named(b"\x89PNG", "photo.md"), purpose="assistants")
    with pytest.raises(openai.BadRequestError) as refused:
        client.vector_stores.files.create(store.id, file_id=photo.id)
    assert refused.value.code == "document_not_text"
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[photo.id])
    assert (batch.status, batch.file_counts.failed) == ("failed", 1)
    (failed,) = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    assert failed.last_error is not None
    assert failed.last_error.code == "unsupported_file"
