"""The leaf that reads and splits: in a child process with limits, because nobody vouches for a document.

Invariant: whatever a document does to the child (time, memory, a crash, taking it over), this process goes on, runs
nothing that comes from there, and the document alone fails, with a sentence that says so.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.processes import say
from services.retriever.formats.convert import Raw
from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted
from services.retriever.ingestion import answers
from services.retriever.ingestion.answers import Answer, Kind, NotAsked, Rubbish
from services.retriever.ingestion.reading import REQUEST
from services.retriever.text.blocks import Outline


class Parser(Protocol):
    """Documents to texts, and texts to blocks."""

    async def outline(self, name: str, text: str, *, markdown: bool) -> Outline:
        """The blocks of a text.  Raises DOCUMENT_NOT_PARSED; ``name`` is for its message."""

    async def convert(self, name: str, raw: Raw) -> Converted:
        """The text of a document with its blocks.  Raises DOCUMENT_UNREADABLE; ``name`` is for its message."""


# A child that neither ends nor uses its time is stopped all the same.
_WALL_FACTOR = 20
# A library that leaks does so for a while only.
_MOST_DOCUMENTS = 1000
# Its program: this process' paths, and of its environment nothing that is secret.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import serve; serve({memory}, {parent})"
)
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ")


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one document may take: processor time and address space."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of the child.  ``text`` is what ``content`` says, where that is ours already."""

    description: dict[str, Any]
    content: bytes
    most_characters: int
    text: str | None = None


@dataclass(slots=True)
class ChildParser:
    """Works in one child process, which is replaced when a document breaks it.  ``module`` holds what it serves."""

    limits: Limits
    module: str = "services.retriever.ingestion.reading"
    _child: Process | None = None
    _documents: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def outline(self, name: str, text: str, *, markdown: bool) -> Outline:
        """As the Protocol says."""
        described = {"outline": True, "markdown": markdown}
        request = _Request(described, await asyncio.to_thread(text.encode), len(text), text)
        try:
            return (await self._do(lambda problem: _unparsed(name, problem), request)).outline
        except Unreadable as error:
            raise _unparsed(name, error.problem) from None

    async def convert(self, name: str, raw: Raw) -> Converted:
        """As the Protocol says."""
        described = {
            "outline": False,
            "media_type": raw.media_type,
            "charset": raw.charset,
            "most_characters": raw.most_characters,
        }

        def failed(problem: str) -> Failure:
            return _unreadable(name, Unreadable(problem, "Split it, or send its text."))

        try:
            return await self._do(failed, _Request(described, raw.content, raw.most_characters))
        except Unreadable as error:
            raise _unreadable(name, error) from None

    async def _do(self, failed: Callable[[str], Failure], request: _Request) -> Converted:
        """What the child makes of it; ``failed`` makes a failure of what went wrong with it."""
        out_of_time = f"it took more than {self.limits.seconds:g} s of processor time"
        out_of_memory = f"it took more than {self.limits.memory_bytes} bytes of memory, or crashed"
        async with self._turn:
            try:
                async with asyncio.timeout(self.limits.seconds * _WALL_FACTOR):
                    answer = await self._answered(request)
                if answer.kind is Kind.OUT_OF_TIME:
                    raise TimeoutError
                if answer.kind is Kind.OUT_OF_MEMORY:
                    raise MemoryError
                return await asyncio.to_thread(answers.converted, answer, request.text, request.most_characters)
            except TimeoutError:
                await self.stop()
                raise failed(out_of_time) from None
            except (MemoryError, EOFError, ConnectionError):
                ended = await self.stop()
                raise failed(out_of_time if ended == -signal.SIGPROF else out_of_memory) from None
            except Rubbish:
                await self.stop()
                raise failed("reading it ended in an answer that no reader gives") from None
            except asyncio.CancelledError:
                await self.stop()
                raise

    async def _answered(self, request: _Request) -> Answer:
        """The answer of a child that no former document has left another one in.  Raises as :meth:`_asked`."""
        try:
            return await self._asked(request)
        except NotAsked:
            await self.stop()
        try:
            return await self._asked(request)
        except NotAsked as error:
            raise Rubbish from error

    async def _asked(self, request: _Request) -> Answer:
        """The child's answer.  Raises Rubbish, NotAsked, and EOFError or ConnectionError where it died."""
        if self._child is not None and self._child.returncode is not None:
            # Somebody ended it while it had nothing to read: no document is to blame.
            await self.stop()
        child = self._child or await self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        description = json.dumps({**request.description, "seconds": self.limits.seconds}).encode()
        token = os.urandom(16)
        say(child, REQUEST.pack(token, len(description), len(request.content)) + description)
        say(child, request.content)
        await child.stdin.drain()
        if await child.stdout.readexactly(len(token)) != token:
            raise NotAsked
        header = await child.stdout.readexactly(answers.HEADER.size)
        kind, lengths = answers.lengths(header, request.most_characters)
        text, heads, places = [await child.stdout.readexactly(length) for length in lengths]
        self._documents += 1
        if self._documents >= _MOST_DOCUMENTS:
            await self.stop()
        return Answer(Kind(kind), text, heads, places)

    async def stop(self) -> int | None:
        """End the child, whatever it does; how it had ended, None where there was none."""
        child, self._child, self._documents = self._child, None, 0
        if child is None:
            return None
        with suppress(ProcessLookupError):
            child.kill()
        # With what it still had to say, for as long as nobody reads that it counts as running.
        await child.communicate()
        return child.returncode

    async def _start(self) -> Process:
        program = _PROGRAM.format(module=self.module, memory=self.limits.memory_bytes, parent=os.getpid())
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            json.dumps(sys.path),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            limit=1024 * 1024,
        )
        return self._child


@asynccontextmanager
async def opened(limits: Limits) -> AsyncIterator[ChildParser]:
    """A parser whose child ends with the block."""
    parser = ChildParser(limits)
    try:
        yield parser
    finally:
        await parser.stop()


def _unparsed(name: str, problem: str) -> Failure:
    return Failure(Reason.DOCUMENT_NOT_PARSED, name=name, problem=problem)


def _unreadable(name: str, error: Unreadable) -> Failure:
    return Failure(Reason.DOCUMENT_UNREADABLE, name=name, problem=error.problem, remedy=error.remedy)
