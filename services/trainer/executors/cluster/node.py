"""What runs on each machine of a cluster: this machine's training processes, behind calls of the trainer's.

An actor of Ray's (`connection.Connection.actor`), but no line here knows Ray: a `LocalExecutor` on an event loop of its
own, in a thread that lives as long as the actor.  So a job runs in the very processes that it would have on one machine.
Invariants: what processes said is handed over once, in order, with how they stand then; when the actor ends, however,
its processes end with it.
"""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from services.chassis import native, resources
from services.chassis.code_version import code_version
from services.chassis.logs import logger
from services.chassis.processor import processor
from services.trainer.conduct import libraries
from services.trainer.executors.executor import News, Training
from services.trainer.executors.local import LocalExecutor, Machine
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.state import Process, Turn

T = TypeVar("T")

# Calls that wait for news run beside the others, of which one runs at a time.
NEWS = "news"
GROUPS = {NEWS: 1}
# The bank's machine code, without which it computes with torch; importing its package would load torch here.
_KERNELS = Path(__file__).parents[2] / "bank"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine brings: what training may use of it, what results depend on, and the word that it read."""

    cores: int
    memory_bytes: int
    made_of: Mapping[str, str]
    instructions: frozenset[str]
    word: str


@dataclass(frozen=True, slots=True)
class Told:
    """What was heard since the last time, and how processes stand; of two the one of the higher ``number`` is later."""

    news: tuple[News, ...]
    turns: tuple[Turn, ...]
    number: int
    # Nothing more will come.
    ended: bool = False


def made_of() -> dict[str, str]:
    """What results depend on, and must be the same on all machines, as the processor's instructions must."""
    compiled = all(native.available(source) for source in _KERNELS.glob("*.cpp"))
    kernels = "compiled" if compiled else "not compiled for want of g++"
    return libraries() | {"trivium": code_version(), "processor": processor().vendor, "kernels": kernels}


class NodeHost:
    """Training on one machine.  ``machine`` says how; of cores and memory the least counts, Ray's word or its own."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        share = resources.shares()[resources.Role.TRAINER]
        self._machine = replace(
            machine,
            cores=max(1, min(machine.cores or share.threads, share.threads)),
            memory_bytes=min(machine.memory_bytes or share.memory_bytes, share.memory_bytes),
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._executor = LocalExecutor(folder, self._machine, logger("trainer"))
        self._number = 0
        self._ended = False
        # Ray's choice of a loop, uvloop, cannot have children in a thread that is not the main one; this process is ours.
        asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="training", daemon=True).start()
        self._open = AsyncExitStack()
        self._do(self._open.enter_async_context(self._executor.at_work()))

    def facts(self, word: Path) -> Facts:
        """The machine's; ``word`` is a file that the trainer wrote, to see whether the folders are the same."""
        found = ""
        with suppress(OSError):
            found = word.read_text()
        return Facts(self._machine.cores, self._machine.memory_bytes, made_of(), processor().instructions, found)

    def start(self, training: Training) -> Told:
        """As Executor.start.  Raises OSError, too, for a path that is not there on this machine."""
        work = training.work
        paths = (str(training.folder), work.base_folder, work.dataset_path, work.validation_path, work.start_path)
        for path in filter(None, paths):
            if not Path(path).exists():
                raise FileNotFoundError(
                    f"{path} is not there on machine {self._machine.node}: all machines of the cluster need the "
                    "trainer's data folder (TRIVIUM_DATA_DIR) and models (TRIVIUM_MODEL_CACHE_DIR) at the same paths"
                )
        return self._after(self._executor.start(training))

    def stop(self, job: str) -> Told:
        """As Executor.stop."""
        return self._after(self._executor.stop(job))

    def drop(self, job: str) -> Told:
        """As Executor.drop."""
        return self._after(self._executor.drop(job))

    def go(self, process: Process) -> Told:
        """As Executor.go."""
        return self._after(self._executor.go(process))

    def hold(self, process: Process) -> Told:
        """As Executor.hold."""
        return self._after(self._executor.hold(process))

    def share(self, shares: Mapping[str, Share]) -> None:
        """As Executor.share."""
        self._do(self._executor.share(shares))

    def end(self, stop_seconds: float) -> None:
        """End every process, those of many jobs after a checkpoint of each; what they said is still to be heard.

        How long that may take is the machine's to say.
        """
        self._do(self._open.aclose())
        self._ended = True

    def news(self, wait_seconds: float) -> Told:
        """What was heard since the last call, in order; waits for something, at most so long."""
        return self._do(self._news(wait_seconds))

    async def _news(self, wait_seconds: float) -> Told:
        if self._ended:
            return self._told(self._executor.left(), ended=True)
        heard: list[News] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                heard = await self._executor.news()
        return self._told(heard)

    def _after(self, doing: Coroutine[Any, Any, None]) -> Told:
        async def done() -> Told:
            await doing
            return self._told([])

        return self._do(done())

    def _told(self, heard: list[News], *, ended: bool = False) -> Told:
        self._number += 1
        return Told(tuple(heard), tuple(self._executor.turns()), self._number, ended)

    def _do(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()
