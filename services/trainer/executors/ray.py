"""Training on the machines of a Ray cluster: on each the same processes as on one machine alone.

Ray starts an actor on every machine, carries calls and tells who is gone; where a job runs is the scheduler's decision.
The machines share the trainer's folders (data, models), so a job goes on anywhere from the checkpoint that it left.
Invariants: a machine counts as alive while its actor answers; when it does not, each of its jobs is lost, once, and
nothing that it says later is heard.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from services.chassis.files import write_atomically
from services.chassis.logs import Log
from services.chassis.processor import processor
from services.trainer.executors.cluster.connection import Connection, NoCluster, RayNode
from services.trainer.executors.cluster.gang import GangHost, groups
from services.trainer.executors.cluster.host import Gone, Host
from services.trainer.executors.cluster.node import GROUPS, Facts, NodeHost, made_of
from services.trainer.executors.executor import News, Training, Unheard
from services.trainer.executors.local import Machine
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.state import Node, Process, Turn

_LOOK_SECONDS = 1.0
# Until a machine's actor says its first word: Python starts there.
_START_SECONDS = 60.0
_WORD = "cluster.word"


class RayExecutor:
    """An `Executor` over a cluster.

    ``machine`` is what all machines have in common; ``folder``, which all of them see, holds what workers need, a
    folder for each machine.
    """

    def __init__(self, connection: Connection, folder: Path, machine: Machine, log: Log) -> None:
        self._connection = connection
        self._folder = folder
        self._machine = machine
        self._log = log
        self._hosts: dict[str, Host] = {}
        # Jobs of several processes, by job.
        self._gangs: dict[str, Host] = {}
        # Those that do not answer any more, as they were; those that may not train, until they are started anew.
        self._gone: dict[str, Node] = {}
        self._refused: set[str] = set()
        self._unheard = Unheard()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["RayExecutor"]:
        """Inside the block processes may be started; at its end all of them have ended."""
        word = uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / _WORD, word.encode())
        # Before anything is planned: a job is not judged by the machines that came first.
        await self._see(word)
        looking = asyncio.create_task(self._look(word))
        try:
            yield self
        finally:
            looking.cancel()
            await asyncio.gather(*(host.end(self._machine.stop_seconds) for host in self._all()))
            # What was said last is heard, too.
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for host in self._all():
                self._connection.kill(host.actor)

    @property
    def gangs(self) -> bool:
        """As Executor.gangs."""
        return True

    def nodes(self) -> Sequence[Node]:
        """As Executor.nodes: those that answer, and those that did."""
        return (*(host.node for host in self._hosts.values()), *self._gone.values())

    def turns(self) -> Sequence[Turn]:
        """As Executor.turns."""
        return tuple(turn for host in self._all() for turn in host.turns)

    async def start(self, training: Training) -> None:
        """As Executor.start.  Raises OSError for a machine that is gone, or does not see the job's files."""
        if missing := [name for name in training.nodes if name not in self._hosts]:
            raise OSError(f"machine {missing[0][:8]} is gone")
        host = self._hosts[training.nodes[0]] if training.processes == 1 else self._gang(training)
        host.jobs[training.job] = training
        try:
            await host.tell("start", training)
        except (OSError, Gone) as error:
            host.jobs.pop(training.job, None)
            self._lose_if_gone(host, error)
            raise OSError(str(error)) from error

    def _gang(self, training: Training) -> Host:
        """What steers the processes of a job that has several."""
        if training.job in self._gangs:
            # Its job was let go of, but Ray Train has not ended yet: nobody would end it once its place is taken.
            self._end_gang(training.job)
        cores = tuple(self._hosts[name].node.cores for name in training.nodes)
        actor = self._connection.actor(GangHost, training.nodes[0], groups(training.processes), training, cores)
        gang = self._gangs[training.job] = Host(self._connection, actor)
        self._hear(gang)
        return gang

    async def stop(self, job: str) -> None:
        """As Executor.stop."""
        if host := self._holder(job):
            await self._tell(host, "stop", job)

    async def drop(self, job: str) -> None:
        """As Executor.drop."""
        if host := self._holder(job):
            host.jobs.pop(job)
            if job in self._gangs:
                self._end_gang(job)
            else:
                await self._tell(host, "drop", job)

    async def go(self, process: Process) -> None:
        """As Executor.go."""
        await self._turn("go", process)

    async def hold(self, process: Process) -> None:
        """As Executor.hold."""
        await self._turn("hold", process)

    async def share(self, shares: Mapping[str, Share]) -> None:
        """As Executor.share: a gang has one job, and chooses nothing."""
        await asyncio.gather(*(self._tell(host, "share", shares) for host in self._hosts.values()))

    async def news(self) -> list[News]:
        """As Executor.news."""
        return await self._unheard.wait()

    def left(self) -> list[News]:
        """As Executor.left."""
        return self._unheard.take()

    async def _turn(self, what: str, process: Process) -> None:
        if host := self._gangs.get(process.job) or self._hosts.get(process.nodes[0]):
            await self._tell(host, what, process)

    async def _tell(self, host: Host, what: str, *arguments: object) -> None:
        try:
            await host.tell(what, *arguments)
        except (OSError, Gone) as error:
            self._lose_if_gone(host, error)

    def _holder(self, job: str) -> Host | None:
        return next((host for host in self._all() if job in host.jobs), None)

    def _all(self) -> list[Host]:
        return [*self._hosts.values(), *self._gangs.values()]

    # Machines that come and go.

    async def _look(self, word: str) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._see(word)
            except NoCluster as why:
                # Training goes on; Ray ends this process when the head stays away.
                self._log.warning("cluster_silent", why=str(why))

    async def _see(self, word: str) -> None:
        """Take in machines that are new, or whose actor ended while they live; lose those that are dead."""
        listed = {node.node: node for node in await self._connection.nodes()}
        for name in self._hosts.keys() - listed.keys():
            self._lose(self._hosts[name], "the machine is gone")
        new = [node for name, node in listed.items() if name not in self._hosts and name not in self._refused]
        await asyncio.gather(*(self._take_in(node, word) for node in new))

    async def _take_in(self, listed: RayNode, word: str) -> None:
        machine = replace(
            self._machine,
            node=listed.node,
            cores=listed.cores,
            memory_bytes=_least(self._machine.memory_bytes, listed.memory_bytes),
        )
        folder = self._folder / listed.node
        host = Host(self._connection, self._connection.actor(NodeHost, listed.node, GROUPS, folder, machine))
        try:
            facts: Facts = await host.ask("facts", self._folder / _WORD, within_seconds=_START_SECONDS)
        except (OSError, Gone) as error:
            # Ray may list it for some seconds after its death; it is tried again for as long as it does.
            self._connection.kill(host.actor)
            self._log.warning("machine_silent", machine=listed.hostname, node=listed.node, why=str(error))
            return
        if why := unlike(facts, word, self._folder):
            self._refused.add(listed.node)
            self._connection.kill(host.actor)
            self._log.error("machine_refused", machine=listed.hostname, node=listed.node, why=why)
            return
        host.node = Node(listed.node, facts.memory_bytes, facts.cores, self._machine.replica)
        self._hosts[listed.node] = host
        self._gone.pop(listed.node, None)
        self._log.info("machine_joined", machine=listed.hostname, node=listed.node, cores=facts.cores)
        self._hear(host)

    def _hear(self, host: Host) -> None:
        listening = asyncio.create_task(self._listen(host))
        self._tasks.add(listening)
        listening.add_done_callback(self._tasks.discard)

    async def _listen(self, host: Host) -> None:
        try:
            async for heard in host.heard():
                self._put(heard)
        except Gone as gone:
            self._lose(host, str(gone))
            return
        for job in [job for job, gang in self._gangs.items() if gang is host]:
            self._end_gang(job)

    def _put(self, heard: Iterable[News]) -> None:
        for news in heard:
            self._unheard.put(news)

    def _lose_if_gone(self, host: Host, error: Exception) -> None:
        if isinstance(error, Gone):
            self._lose(host, str(error))

    def _lose(self, host: Host, why: str) -> None:
        """Count a machine, or a gang, as dead, and all that it trained as lost."""
        for job in [job for job, gang in self._gangs.items() if gang is host]:
            self._end_gang(job, f"the machine that led its processes was lost ({why})")
        if self._hosts.get(host.node.node) is not host:
            return
        del self._hosts[host.node.node]
        self._gone[host.node.node] = replace(host.node, alive=False)
        self._log.error("machine_lost", node=host.node.node, jobs=len(host.jobs), why=why)
        # It may live and only not answer us: it must not go on beside whoever takes its jobs over.
        self._connection.kill(host.actor)
        how = f"machine {host.node.node[:8]} was lost ({why})"
        self._put(host.forget_all(how))
        for job, gang in list(self._gangs.items()):
            if any(host.node.node in training.nodes for training in gang.jobs.values()):
                self._end_gang(job, how)

    def _end_gang(self, job: str, how: str = "") -> None:
        """Let go of a gang; its processes end with it.  What it still held is lost, as ``how`` says."""
        gang = self._gangs.pop(job)
        self._connection.kill(gang.actor)
        self._put(gang.forget_all(how))


def _least(*sizes: int) -> int:
    """The least of the sizes that are given; 0 for none."""
    return min(filter(None, sizes), default=0)


def unlike(facts: Facts, word: str, folder: Path) -> str:
    """Why a machine may not train with the others; empty when it may."""
    if facts.word != word:
        return (
            f"it does not see {folder} as this machine does: mount the trainer's data folder (TRIVIUM_DATA_DIR) there "
            "at the same path, then restart Ray on it"
        )
    other = [
        f"{name} {facts.made_of.get(name, 'missing')} instead of {version}"
        for name, version in made_of().items()
        if facts.made_of.get(name) != version
    ]
    ours, theirs = processor().instructions, facts.instructions
    if ours != theirs:
        named = ", ".join([*(f"no {name}" for name in sorted(ours - theirs)), *sorted(theirs - ours)])
        other.append(f"a processor of other instructions ({named})")
    return f"it has {', '.join(other)}: results would differ; make it the same, then restart Ray on it" if other else ""
