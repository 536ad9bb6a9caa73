"""When a job will start and end, as far as can be told.

Each node is taken to work off what it holds one job after another, the higher class first and then the shortest,
which is close to what joint steps do; and the jobs in line to start in their order as room comes free.  An estimate,
not a promise: jobs that are yet to be submitted are not in it, nor is work whose speed nobody has measured.
"""

import heapq
from dataclasses import replace

from services.trainer.scheduling.room import Room
from services.trainer.scheduling.state import Job, Phase, State

Span = tuple[float | None, float | None]


class Forecast:
    """What is to come, as seen at ``now``.  `admit` moves it forward, so jobs are asked about in their order."""

    def __init__(self, state: State, now: float) -> None:
        staying = tuple(job for job in state.jobs if job.phase is not Phase.STOPPING)
        self._room = Room(replace(state, jobs=staying))
        self._nodes = [*self._room.mine, *self._room.others]
        self._now = now
        self._busy_until = {node.node: now for node in self._nodes}
        self.finish: dict[str, float | None] = {}
        # Each with the order in which it was put there: jobs do not compare.
        self._ending: list[tuple[float, int, Job]] = []
        running = [job for job in staying if job.resident]
        for job in sorted(running, key=lambda job: (-job.priority, job.seconds_left or 0.0, job.job)):
            self._occupy(job, job.nodes, now)

    def admit(self, job: Job, earliest: float | None = None) -> Span:
        """When the job starts and ends, if it is the next to start; not before ``earliest``."""
        place = self._room.fits_now(job.needs, self._nodes)
        while place is None and self._ending:
            self._now, _, ended = heapq.heappop(self._ending)
            self._room.leave(ended.needs, ended.nodes)
            place = self._room.fits_now(job.needs, self._nodes)
        if place is None:
            self.finish[job.job] = None
            return None, None
        start = max(self._now, earliest or 0.0)
        self._room.start(job.needs, place)
        self._occupy(job, place, start)
        return start, self.finish[job.job]

    def _occupy(self, job: Job, nodes: tuple[str, ...], start: float) -> None:
        seconds = job.seconds_left
        known = [name for name in nodes if name in self._busy_until]
        if seconds is None or len(known) < len(nodes):
            self.finish[job.job] = None
            return
        end = max([start, *(self._busy_until[name] for name in known)]) + seconds
        for name in known:
            self._busy_until[name] = end
        self.finish[job.job] = end
        heapq.heappush(self._ending, (end, len(self.finish), replace(job, nodes=nodes)))
