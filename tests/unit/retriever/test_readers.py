"""Who deletes a file is told that it is a document which he may not read; of any other id nobody is told such a thing."""

import itertools

import pytest

from services.chassis.database import open_database
from services.chassis.idempotency import IdempotencyKey
from services.retriever.catalog import Collections
from services.retriever.collection import Draft
from services.retriever.documents.documents import Documents
from services.retriever.documents.media import Source
from services.retriever.documents.readers import SERVICE, Viewer
from services.retriever.documents.storing import Put
from services.retriever.text import texts

FILE, OTHER = "file-" + "a" * 32, "file-" + "b" * 32
# The ids that somebody has, and what they make of the two documents.
STORER = Viewer(frozenset({"anna"}), "anna")
READER = Viewer(frozenset({"ben", "hr"}), "ben")
STRANGER = Viewer(frozenset({"carl"}), "carl")


@pytest.fixture
async def collections(tmp_path):
    clock = itertools.count(1_700_000_000).__next__
    async with open_database(f"sqlite:///{tmp_path / 'catalog.db'}", "services.retriever.migrations") as database:
        made, documents = Collections(database, clock), Documents(database, clock)
        text = texts.read(Source("a.md", "", b"The lighthouse is sold."), 10_000)
        stored = [
            ("ada", "open", FILE, ()),
            ("ada", "closed", FILE, ("hr",)),
            ("ada", "closed", "plans.md", ("hr",)),
            ("ada", "closed", OTHER, ()),
        ]
        for tenant in ("ada", "bob"):
            for name in ("open", "closed"):
                await made.create(tenant, Draft(name), IdempotencyKey(tenant, "create", "", b""))
        for tenant, collection, document, readers in stored:
            put = Put(collection, document, "", {}, readers=readers, viewer=Viewer(frozenset(), "anna"))
            await documents.put(tenant, put, text, IdempotencyKey(tenant, "put", "", document.encode()))
        yield made


async def test_a_file_that_is_a_hidden_document_somewhere_is_told_to_whom_it_is_hidden_from(collections):
    told = [await collections.hides("ada", FILE, viewer) for viewer in (SERVICE, STORER, READER, STRANGER)]
    assert told == [False, False, False, True]


async def test_of_an_id_that_may_be_guessed_what_is_hidden_looks_like_what_is_missing(collections):
    for document in ("plans.md", OTHER, "file-" + "c" * 32, f"{FILE}0", ""):
        assert not await collections.hides("ada", document, STRANGER)
    assert not await collections.hides("bob", FILE, STRANGER)
