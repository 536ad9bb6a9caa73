"""Who computes: the cores of each node go from process to process, a quantum at a time.

Two trainings at once on the same cores are each slower than half, so they take turns.  A job that is admitted stays
in memory; its process computes when it has the cores, and rests at a step boundary when another one's turn has come.
A process asks for as many cores as it has threads: what fits beside one another runs at once, and on a small machine
a joint group and a solo job alternate.  A group stands as high as the best of its jobs; which of them take part in
a step is `choosing`'s affair.
Invariant: the threads of those that compute are never more than the node's cores, unless one process alone has more;
a process keeps the cores for a quantum; and a gang computes on all its nodes or on none.
"""

from collections import defaultdict
from collections.abc import Iterable

from services.trainer.scheduling.actions import Go, Hold
from services.trainer.scheduling.limits import spent
from services.trainer.scheduling.ranking import Shares, lifted, pressing
from services.trainer.scheduling.state import Job, Phase, Process, State, Turn, processes_of


def turns(state: State, now: float) -> list[Go | Hold]:
    """Who is to begin and who is to cease computing, on this trainer's nodes; who ceases first."""
    members = _members(state)
    known = {turn.process: turn for turn in state.turns}
    standing = {process: _turn(known.get(process), process, jobs) for process, jobs in members.items()}
    shares = Shares(state, now)
    pressed = pressing(state, now)
    idle = {process for process, jobs in members.items() if not _able(state, jobs, now)}

    def rank(process: Process) -> tuple[int, bool, float, bool, float, str]:
        turn = standing[process]
        lift = 0 if turn.computing else lifted(now - turn.since, state.policy.ageing_seconds)
        best = min(
            (-job.priority, job.job not in pressed, shares.used(job.tenant))
            for job in _able(state, members[process], now)
        )
        # Who has the cores keeps them where all else is equal.
        return best[0] - lift, best[1], best[2], not turn.computing, turn.since, process.name

    def kept(process: Process) -> bool:
        turn = standing[process]
        return turn.computing and now - turn.since < state.policy.quantum_seconds

    wanting = members.keys() - idle
    ordered = sorted((process for process in wanting if kept(process)), key=rank)
    ordered += sorted((process for process in wanting if not kept(process)), key=rank)
    computing = _fit(state, ordered, members)
    holds = [Hold(process) for process in _by_name(members) if standing[process].computing and process not in computing]
    gos = [Go(process) for process in _by_name(computing) if not standing[process].computing]
    return [*holds, *gos]


def _fit(state: State, ordered: list[Process], members: dict[Process, list[Job]]) -> set[Process]:
    """Of the processes, best first, those whose threads find cores.

    One that finds none keeps what there is from those behind it: otherwise a process of many threads, or on many
    nodes, would wait for ever while small ones come and go.
    """
    cores = {node.node: node.cores for node in state.nodes}
    left = dict(cores)
    computing = set()
    for process in ordered:
        threads = members[process][0].needs.threads
        wanted = {node: min(cores[node], threads * process.nodes.count(node)) for node in set(process.nodes)}
        if all(left[node] >= count for node, count in wanted.items()):
            computing.add(process)
        for node, count in wanted.items():
            left[node] -= count
    return computing


def _members(state: State) -> dict[Process, list[Job]]:
    """The processes on this trainer's living nodes, each with its jobs; one that is stopping still rests there."""
    mine = {node.node for node in state.nodes if node.alive and node.replica == state.replica}
    found: dict[Process, list[Job]] = defaultdict(list)
    for job in state.jobs:
        if job.resident and job.nodes and mine.issuperset(job.nodes):
            for process in processes_of(job):
                found[process].append(job)
    return found


def _able(state: State, jobs: list[Job], now: float) -> list[Job]:
    """Those that could take a step."""
    return [job for job in jobs if job.phase is Phase.RUNNING and not spent(state, job.tenant, now)]


def _turn(known: Turn | None, process: Process, jobs: list[Job]) -> Turn:
    """How the process stands; one that nothing was told yet rests."""
    return known or Turn(process, False, min(job.idle_since for job in jobs))


def _by_name(processes: Iterable[Process]) -> list[Process]:
    return sorted(processes, key=lambda process: process.name)
