"""Lives of a retriever's catalog, index and ingestion, each a fork that may be ended by SIGKILL at any step.

What a fork is made of is what ``services.retriever.verbs`` puts together, without a server,
with the parser in the process and an embedder that writes down what it is asked for.  A
life goes on with the first operation that no life before it finished.  Lives are forked in
milliseconds from a process that has loaded the code.  What a step is, is what ``chassis.steps`` names, and each side of the
embedder's answers and of the index's changes.
"""

import asyncio
import itertools
import json
import os
import tempfile
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from services.chassis import steps
from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.chassis.steps import Step
from services.retriever import catalog
from services.retriever.catalog import Collections
from services.retriever.changes import Changes
from services.retriever.collection import Draft
from services.retriever.documents.documents import Documents
from services.retriever.documents.media import Source
from services.retriever.documents.readers import SERVICE
from services.retriever.documents.removal import Removal
from services.retriever.documents.storing import Put
from services.retriever.index.gates import Gates
from services.retriever.index.places import Server
from services.retriever.index.repair import repair
from services.retriever.index.routing import Router
from services.retriever.ingestion.conversion import Conversions
from services.retriever.ingestion.ingestion import Ingestion, Pace, Tools
from services.retriever.ingestion.publishing import Publisher
from services.retriever.ingestion.queue import Queue
from services.retriever.text import texts
from services.retriever.text.blocks import outline
from tests.harness.forks import KillAt
from tests.robustness.retriever.hashed import HashedEmbeddings
from tests.robustness.retriever.kinds import kind_at
from tests.robustness.retriever.pictures import picture
from tests.robustness.retriever.sequences import COLLECTIONS
from tests.zygote import Zygote

TENANT = "ada"
_LIFE_SECONDS = 300.0


@dataclass(frozen=True)
class Life:
    """Where it is led, what is to happen in it, at which step it ends (0: when all is done), over which index.

    ``server`` is a Weaviate that has the index; without one the embedded index is led on.
    """

    folder: Path
    operations: list[dict[str, Any]]
    kill_at: int
    server: Server | None = None

    @classmethod
    def read(cls, line: str) -> "Life":
        """As :meth:`written`."""
        folder, operations, kill_at, server = json.loads(line)
        return cls(Path(folder), operations, kill_at, Server(*server) if server else None)

    @property
    def written(self) -> str:
        """In one line."""
        return json.dumps([str(self.folder), self.operations, self.kill_at, self.server and astuple(self.server)])


class Lives:
    """The process that lives are forked from.  Several may be led side by side."""

    def __init__(self) -> None:
        self._zygote = Zygote()
        self._zygote.prepare(f"{__name__}:{prepare.__name__}")

    def live(self, life: Life) -> int:
        """Lead a life; its exit status, negative for a signal.  Raises TimeoutExpired."""
        return self._zygote.call(f"{__name__}:{lead.__name__}", life.written).wait(_LIFE_SECONDS)

    def close(self) -> None:
        """End it."""
        self._zygote.close()


def prepare() -> None:
    """Lead an empty life: what is loaded when it is first needed is needed here, once and not in every fork."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_led(Life(Path(folder), [], 0)))
    steps.listener = None
    assert threading.active_count() == 1, "a process with threads cannot be forked"


def lead(written: str) -> None:
    """Lead a life, in a fork."""
    asyncio.run(_led(Life.read(written)))


class Fate:
    """Counts the steps of a life, or those of its index alone, and ends it at the one that it is told."""

    def __init__(self, kill_at: int, *, of_index: bool = False) -> None:
        self._kill = KillAt(kill_at)
        self._of_index = of_index

    def passed(self, step: object) -> None:
        """One more step.

        A death between two statements of a transaction leaves what a death at its beginning leaves: most steps are
        of this kind, and lives that died there would seldom come so far as to change the index.
        """
        if step is Step.WRITE_STATEMENT or (self._of_index and not str(step).startswith("index")):
            return
        self._kill(step)


class InProcess:
    """What ``services.retriever.ingestion.parsing.Parser`` does for Markdown and plain text, which of our own need no child."""

    async def outline(self, name: str, text: str, *, markdown: bool) -> Any:
        """As the Protocol says."""
        return outline(text, markdown=markdown)


class Watched:
    """An index whose changes are steps."""

    def __init__(self, index: Any, fate: Fate) -> None:
        self._index = index
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def replace(self, collection: int, add: Any, remove: Any) -> None:
        """As the Protocol says."""
        self._fate.passed("index begun")
        self._index.replace(collection, add, remove)
        self._fate.passed("index written")


@dataclass
class House:
    """What a life works with."""

    tools: Tools
    collections: Collections
    documents: Documents
    removal: Removal
    ingestion: Ingestion

    async def perform(self, operation: dict[str, Any]) -> None:
        """One operation; repeating one that a kill cut short ends well."""
        match operation["what"]:
            case "Put":
                await self._put(operation)
            case "Delete":
                await self._delete(operation["collection"], operation["document"])
            case "Settle":
                await self.settled()

    async def _put(self, operation: dict[str, Any]) -> None:
        source = Source(operation["document"], "", operation["text"].encode())
        metadata = {"language": operation["metadata"]} if operation["metadata"] else {}
        named = Put(operation["collection"], operation["document"], operation["title"], metadata)
        await self.documents.put(TENANT, named, texts.read(source, 10_000_000), _key())
        self.ingestion.wake()

    async def _delete(self, collection: str, document: str) -> None:
        try:
            await self.removal.document(TENANT, collection, document)
        except Failure as failure:
            if failure.reason is not Reason.DOCUMENT_NOT_FOUND:
                raise

    async def settled(self) -> None:
        """Wait until nothing waits."""
        for collection in COLLECTIONS:
            number = await self.collections.number(TENANT, collection)
            while True:
                changed = self.tools.changes.next(number)
                if not (await self.collections.statistics(TENANT, collection, SERVICE)).pending:
                    break
                await asyncio.wait_for(changed.wait(), 30)
            # As a search does: the catalog says ready a moment before the index has followed.
            async with self.tools.gates.search([number]):
                pass


@asynccontextmanager
async def _opened(life: Life, fate: Fate) -> AsyncIterator[House]:
    clock = itertools.count(1_700_000_000)
    url = f"sqlite:///{life.folder / 'catalog.db'}"
    async with open_database(url, "services.retriever.migrations") as database:
        catalog_id, of = await database.write(catalog.identity), kind_at(life.server)
        async with of.opened(life.folder, catalog_id, fate.passed) as index:
            watched: Any = Watched(index, fate)
            router = Router({of.kind: watched}, of.kind)
            parser: Any = InProcess()
            embeddings: Any = HashedEmbeddings(life.folder / "asked", fate.passed)
            await asyncio.to_thread(repair, database, router, of.kind)
            tools = Tools(
                queue=Queue(database),
                conversions=Conversions(database, lambda: next(clock), 10_000_000),
                publisher=Publisher(database),
                parser=parser,
                embeddings=embeddings,
                index=router,
                gates=Gates(),
                changes=Changes(),
                acting_for=_anybody,
                blocking=asyncio.to_thread,
                report=lambda *_: None,
            )
            ingestion = Ingestion(tools, Pace(24, 3, 0.05))
            collections, documents = (
                Collections(database, lambda: next(clock)),
                Documents(database, lambda: next(clock)),
            )
            removal = Removal(collections, documents, router, tools.gates, tools.changes, asyncio.to_thread)
            await tools.queue.recover()
            async with _working(ingestion):
                yield House(tools, collections, documents, removal, ingestion)
            await removal.finish()


@asynccontextmanager
async def _working(ingestion: Ingestion) -> AsyncIterator[None]:
    workers = [asyncio.create_task(_worker(ingestion)) for _ in range(2)]
    try:
        yield
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _worker(ingestion: Ingestion) -> None:
    """A worker without which the life is over."""
    try:
        await ingestion.run()
    except Exception:  # noqa: BLE001  # nobody waits for it, and the life would wait for ever
        traceback.print_exc()
        os._exit(1)


@asynccontextmanager
async def _anybody(_: str) -> AsyncIterator[None]:
    yield


async def _led(life: Life) -> None:
    # A server's index can be left half changed, which it takes a death there to show; and few lives are led on it.
    fate = Fate(life.kill_at, of_index=life.server is not None)
    steps.listener = fate.passed
    done = life.folder / "done"
    async with _opened(life, fate) as house:
        await _collections(house)
        for operation in life.operations[len(done.read_text()) if done.exists() else 0 :]:
            await house.perform(operation)
            with done.open("a") as acknowledged:
                acknowledged.write(".")
        await house.settled()
        found = await picture(life.folder, house.tools.index, kind_at(life.server))
        (life.folder / "picture.json").write_text(json.dumps(found, sort_keys=True))


async def _collections(house: House) -> None:
    for collection in COLLECTIONS:
        try:
            await house.collections.create(TENANT, Draft(collection), _key())
        except Failure as failure:
            if failure.reason is not Reason.COLLECTION_EXISTS:
                raise


def _key() -> IdempotencyKey:
    return IdempotencyKey(TENANT, "test", "", b"")
