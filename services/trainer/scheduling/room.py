"""What the nodes hold, by bytes: who fits where, now and once what is stopping has stopped.

Two ledgers a node.  ``now`` counts all that is in memory, what is stopping too.  ``soon`` leaves out what is stopping
and counts what was promised to jobs that wait; it may be overdrawn, and then nothing more starts there until enough
has left: that is how a large job, or a gang, is not starved by small ones.
Invariant: a job starts only where both ledgers have room.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.trainer.scheduling.state import Group, Job, Needs, Node, Phase, State

_GIB = 1024**3


@dataclass(slots=True)
class Ledger:
    """Bytes of one node: of jobs each by itself, and of a base once for each group that has members here.

    ``bases`` counts a group's members by what each needs of the base's process: the one that needs most decides.
    """

    memory_bytes: int
    job_bytes: int = 0
    bases: dict[Group, Counter[int]] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """Bytes that nobody holds; below 0 when more was promised than there is."""
        return self.memory_bytes - self.job_bytes - sum(map(max, self.bases.values()))

    def cost(self, needs: Needs) -> int:
        """Bytes that one process's worth of the job would add."""
        held = max(self.bases.get(needs.group, (0,))) if needs.group is not None else 0
        return needs.job_bytes + max(0, needs.base_bytes - held)

    def fitting(self, needs: Needs) -> int:
        """How many of its processes there is room for."""
        return max(0, self.free // max(1, self.cost(needs)))

    def add(self, needs: Needs) -> None:
        """Count it."""
        self.job_bytes += needs.job_bytes
        if needs.group is not None:
            self.bases.setdefault(needs.group, Counter())[needs.base_bytes] += 1

    def remove(self, needs: Needs) -> None:
        """Count it no more; the last of a group takes the base along."""
        self.job_bytes -= needs.job_bytes
        if needs.group is not None:
            members = self.bases[needs.group]
            members[needs.base_bytes] -= 1
            # What is counted no more is no part of the largest.
            self.bases[needs.group] = +members
            if not self.bases[needs.group]:
                del self.bases[needs.group]


class Room:
    """The nodes of a state, kept up as a plan is made."""

    def __init__(self, state: State) -> None:
        self._nodes = {node.node: node for node in state.nodes if node.alive}
        self.now = {name: Ledger(node.memory_bytes) for name, node in self._nodes.items()}
        self.soon = {name: Ledger(node.memory_bytes) for name, node in self._nodes.items()}
        self._jobs = dict.fromkeys(self._nodes, 0)
        self.mine = [node for node in self._nodes.values() if node.replica == state.replica]
        self.others = [node for node in self._nodes.values() if node.replica != state.replica]
        for job in state.jobs:
            if job.resident:
                self._count(self.now, job.needs, job.nodes)
            if job.phase is Phase.RUNNING:
                self._count(self.soon, job.needs, job.nodes)
            for name in job.nodes if job.resident else ():
                self._jobs[name] = self._jobs.get(name, 0) + 1

    def _count(self, ledgers: dict[str, Ledger], needs: Needs, nodes: Iterable[str]) -> None:
        for name in nodes:
            if name in ledgers:
                ledgers[name].add(needs)

    def fits_now(self, needs: Needs, nodes: Iterable[Node]) -> tuple[str, ...] | None:
        """Where it could start at this moment."""
        return self._place(needs, nodes, self.now, self.soon)

    def fits_soon(self, needs: Needs, nodes: Iterable[Node]) -> tuple[str, ...] | None:
        """Where it can start once what is stopping has stopped."""
        return self._place(needs, nodes, self.soon)

    def fits_empty(self, needs: Needs, nodes: Iterable[Node]) -> tuple[str, ...] | None:
        """Where it would fit if nothing else were there."""
        empty = {node.node: Ledger(node.memory_bytes) for node in nodes}
        return self._place(needs, nodes, empty)

    def start(self, needs: Needs, nodes: Iterable[str]) -> None:
        """Count a job that starts."""
        for name in nodes:
            self.now[name].add(needs)
            self.soon[name].add(needs)
            self._jobs[name] += 1

    def promise(self, needs: Needs, nodes: Iterable[str]) -> None:
        """Keep the place for a job that waits."""
        self._count(self.soon, needs, nodes)

    def stop(self, job: Job) -> None:
        """Count a job that is told to stop."""
        for name in job.nodes:
            if name in self.soon:
                self.soon[name].remove(job.needs)

    def stay(self, job: Job) -> None:
        """Take `stop` back."""
        self._count(self.soon, job.needs, job.nodes)

    def leave(self, needs: Needs, nodes: Iterable[str]) -> None:
        """Count a job no more that has ended."""
        for name in nodes:
            if name in self.now:
                self.now[name].remove(needs)
                self.soon[name].remove(needs)
                self._jobs[name] -= 1

    def shortage(self, needs: Needs, nodes: Iterable[str]) -> str:
        """Say what is missing for it on the fullest of ``nodes``."""
        tightest = min(nodes, key=lambda name: (self.now[name].free - self.now[name].cost(needs), name))
        ledger = self.now[tightest]
        wanted, free = ledger.cost(needs), max(0, ledger.free)
        if wanted <= free:
            return f"it needs {gib(wanted)}, and the {gib(free)} that are free are kept for jobs before it in line"
        return f"it needs {gib(wanted)} and {gib(free)} of {gib(ledger.memory_bytes)} are free"

    def _place(self, needs: Needs, nodes: Iterable[Node], *books: Mapping[str, Ledger]) -> tuple[str, ...] | None:
        """A node for each process, with room by all the ``books``; or None unless there is one for all.

        The least busy first, so that all nodes work; among equals one that has the base already, then the one with
        most room.  Processes of a gang go together on a node where its memory and cores allow.
        """

        def order(node: Node) -> tuple[float, bool, int, str]:
            ledger = books[-1][node.node]
            foreign = needs.group is not None and needs.group not in ledger.bases
            return self._jobs.get(node.node, 0) / node.cores, foreign, -ledger.free, node.node

        placed: list[str] = []
        for node in sorted(nodes, key=order):
            by_memory = min(book[node.node].fitting(needs) for book in books)
            by_cores = max(1, node.cores // needs.threads)
            placed += [node.node] * min(by_memory, by_cores, needs.processes - len(placed))
        return tuple(placed) if len(placed) == needs.processes else None


def gib(count: int) -> str:
    """Bytes for people."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / 1024**2:.0f} MiB"
