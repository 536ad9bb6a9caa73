"""Writes the questions that chunks answer, in the background, and has them embedded.

Invariants: a text is asked for once, and what was written or embedded survives a kill; an
absent generator or embedder makes questions wait, and say so, while searches go on without.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever.generation import Generator, Speaker, Turn
from services.retriever.ingestion.embeddings import Embeddings
from services.retriever.ingestion.ingestion import WAIT_FOR, ActingFor
from services.retriever.questions import rows
from services.retriever.questions.rows import Unembedded, Unwritten
from services.retriever.search.expansion import lines

_BATCH = 16
_TOKENS = 28
_MOST_CHARACTERS = 3000
_FIRST_RETRY_SECONDS = 0.2
_SYSTEM = Turn(Speaker.SYSTEM, "You write short questions that a passage answers, as people would ask them.")


@dataclass(slots=True)
class QuestionWriting:
    """One worker.  ``changed`` hears which collections have other question vectors now."""

    database: Database
    generator: Generator
    embeddings: Embeddings
    acting_for: ActingFor
    changed: Callable[[int], None]
    retry_seconds: float
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Something may be to be written."""
        self._woken.set()

    async def run(self) -> None:
        """The worker; runs until it is cancelled."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            self._woken.clear()
            embedding = await self.database.read(partial(rows.unembedded, most=_BATCH))
            writing = [] if embedding else await self.database.read(partial(rows.unwritten, most=_BATCH))
            tasks: list[Unwritten | Unembedded] = [*embedding, *writing]
            done = [await self._try(task) for task in tasks]
            if done and all(done):
                retry_seconds = _FIRST_RETRY_SECONDS
            elif done:
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, self.retry_seconds)
            else:
                await self._idle()

    async def _idle(self) -> None:
        """Until there may be something to do.  What came in a way that wakes nobody is looked for now and then."""
        watched = await self.database.read(rows.any_wanted)
        try:
            async with asyncio.timeout(self.retry_seconds if watched else None):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _try(self, task: Unwritten | Unembedded) -> bool:
        """Do the task; False when it has to wait for a peer."""
        try:
            async with self.acting_for(task.tenant):
                await (self._write(task) if isinstance(task, Unwritten) else self._embed(task))
        except Failure as failure:
            if failure.code not in WAIT_FOR and failure.reason is not Reason.GENERATOR_NOT_SET:
                await self._give_up(task)
                return True
            await self.database.write(partial(rows.stumble, collection=task.collection, sentence=failure.sentence))
            return False
        return True

    async def _write(self, task: Unwritten) -> None:
        wanted = f"Write {task.wanted} short questions that this passage answers, one a line."
        asked = Turn(Speaker.USER, f"{wanted}\n\n{task.text[:_MOST_CHARACTERS]}")
        written = await self.generator.complete([_SYSTEM, asked], _TOKENS * task.wanted)
        questions = lines(written.text, but="", complete=written.complete)[: task.wanted]
        await self.database.write(partial(rows.keep_questions, task=task, writer=written.digest, questions=questions))

    async def _embed(self, task: Unembedded) -> None:
        packed = b""
        if task.questions:
            answer = await self.embeddings.of(task.model_digest).queries(task.questions, no_store=True)
            if answer.digest != task.model_digest:
                raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")
            packed = b"".join(answer.packed)
        for collection in await self.database.write(partial(rows.keep_vectors, task=task, packed=packed)):
            self.changed(collection)

    async def _give_up(self, task: Unwritten | Unembedded) -> None:
        """A text that nothing can be written of, or whose questions nobody embeds, has none."""
        if isinstance(task, Unwritten):
            await self.database.write(partial(rows.keep_questions, task=task, writer="", questions=[]))
        else:
            await self.database.write(partial(rows.keep_vectors, task=task, packed=b""))
