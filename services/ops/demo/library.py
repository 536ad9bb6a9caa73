"""The demo's handbook as a collection: stored once, searchable when this returns.

Pages that are there already, byte for byte, make no new version and are embedded no second time.
"""

from dataclasses import dataclass

from trivium_client import AsyncTrivium

from services.ops.demo.scoring import FOLDER
from services.ops.demo.stages import Bar, DemoError

COLLECTION = "handbook"


class IngestionFailedError(DemoError):
    """A page could not be made searchable; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What the collection holds."""

    pages: int
    chunks: int
    chunks_before: int


async def stock(client: AsyncTrivium, bar: Bar) -> Stock:
    """Store every page and wait until all are searchable.  Raises IngestionFailedError."""
    await client.collections.create(COLLECTION, "The handbook of a ferry house, invented", exist_ok=True)
    before = {document.document: document async for document in client.docs.list(COLLECTION)}
    pages = sorted((FOLDER / "handbook").glob("*.md"))
    for page in pages:
        await client.docs.add(page, collection=COLLECTION)
    bar.at(0, len(pages))
    async for document, pending in client.docs.watch(COLLECTION):
        bar.at(len(pages) - pending, len(pages), document.document)
    after = [document async for document in client.docs.list(COLLECTION)]
    for document in after:
        if document.state != "ready":
            raise IngestionFailedError(f"{document.document} is {document.state}: {document.reason}")
    return Stock(
        pages=len(after),
        chunks=sum(document.chunks for document in after),
        chunks_before=sum(document.chunks for document in before.values()),
    )
