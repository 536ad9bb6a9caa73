"""Does a job's result depend on its neighbours?  Mixed jobs trained together, and each again in a fresh process alone.

Half of the jobs join while others train, or leave with a checkpoint midway and come back in other company.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.trainer.work import Command, Do, Line, Said
from tests.load.scaled import scaled
from tests.load.trainer.mixture import Drawn, mixture
from tests.load.trainer.parts import Figures, say
from tests.load.trainer.workers import THREADS, Base, adapter_digest, fresh_worker
from tests.unit.trainer.joint.workers import Running, is_last, join

_JOBS = 40
# Solo processes side by side: loading takes one core, and what trains is as exact beside another.
_SIDE_BY_SIDE = 2


@dataclass(slots=True)
class Company:
    """A run of all jobs in one worker: who joined while others trained, who left midway and came back."""

    worker: Running
    folders: dict[str, Path]
    waiting: deque[str]
    leaving: set[str]
    epochs: dict[str, int] = field(default_factory=dict)
    joined_midway: set[str] = field(default_factory=set)
    left_midway: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    def join(self, name: str) -> None:
        """Have the worker take the job, under its next lease."""
        self.epochs[name] = self.epochs.get(name, 0) + 1
        self.worker.tell(join(self.folders[name], self.epochs[name]))

    def take(self, line: Line) -> None:
        """Go on with the script: after each step of a job one of the waiting joins; who is to leave leaves then."""
        if line.said is Said.STEP:
            if self.waiting:
                self.joined_midway.add(self.waiting[0])
                self.join(self.waiting.popleft())
            if line.job in self.leaving:
                self.leaving.remove(line.job)
                self.worker.tell(Command(Do.STOP, job=line.job, epoch=self.epochs[line.job]))
        elif line.said is Said.STOPPED:
            self.left_midway.add(line.job)
            # Others go on for a while before it comes back.
            self.waiting.append(line.job)
            if len(self.ended) + len(self.waiting) == len(self.folders):
                self.join(self.waiting.popleft())
        elif is_last(line):
            assert line.said is Said.DONE, line
            self.ended.add(line.job)
            if self.waiting and len(self.ended) + len(self.waiting) == len(self.folders):
                self.join(self.waiting.popleft())


def figures(scale: float) -> Figures:
    """Train all together, then each alone; how many adapters differ in any bit."""
    jobs = mixture(scaled(_JOBS, scale, least=4))
    base = Base.default()
    with tempfile.TemporaryDirectory(prefix="trivium-exact-") as folder:
        joint, run = together(Path(folder), base, jobs)
        say(f"{len(jobs)} jobs have trained together, {len(run.joined_midway | run.left_midway)} came or left midway")
        alone = one_by_one(Path(folder), base, jobs)
    differing = sorted(name for name in alone if joint[name] != alone[name] or not alone[name])
    say(f"adapters that differ: {differing or 'none'} (target: none)")
    midway = run.joined_midway | run.left_midway
    assert 2 * len(midway) >= len(jobs), f"only {len(midway)} of {len(jobs)} joined or left midway"
    return {
        "joint_equals_solo_mismatches": len(differing),
        "joint_equals_solo_jobs": len(jobs),
        "joint_equals_solo_joined_midway": len(run.joined_midway),
        "joint_equals_solo_left_midway": len(run.left_midway),
        "joint_equals_solo_threads": THREADS,
    }


def together(root: Path, base: Base, jobs: Sequence[Drawn]) -> tuple[dict[str, str], Company]:
    """The adapters' digests after a run in one worker, by job, and who joined and left."""
    folders = {job.name: job.write(root / "joint", base, THREADS) for job in jobs}
    names = list(folders)
    begin = max(2, len(names) // 2)
    with fresh_worker(root / "joint" / "worker", base) as worker:
        # Every third leaves after its first step.
        run = Company(worker, folders, deque(names[begin:]), set(names[::3]))
        for name in names[:begin]:
            run.join(name)
        for line in worker.lines():
            run.take(line)
            if len(run.ended) == len(names):
                break
        worker.end()
    assert len(run.ended) == len(names), f"the worker ended early: {(root / 'joint/worker/process.log').read_text()}"
    return {name: adapter_digest(folder) for name, folder in folders.items()}, run


def one_by_one(root: Path, base: Base, jobs: Sequence[Drawn]) -> dict[str, str]:
    """The adapters' digests when each job had a fresh process."""
    found: dict[str, str] = {}
    for begin in range(0, len(jobs), _SIDE_BY_SIDE):
        some = jobs[begin : begin + _SIDE_BY_SIDE]
        found |= _alone(root, base, some)
        say(f"alone: {len(found)} of {len(jobs)}")
    return found


def _alone(root: Path, base: Base, jobs: Sequence[Drawn]) -> dict[str, str]:
    """Some jobs side by side, each in a process and folder of its own."""
    if not jobs:
        return {}
    job, rest = jobs[0], jobs[1:]
    own = root / f"alone-{job.name}"
    folder = job.write(own, base, THREADS)
    with fresh_worker(own / "worker", base) as worker:
        worker.tell(join(folder))
        # Started before this one is waited for; nested, so that all start from the main thread.
        found = _alone(root, base, rest)
        last = worker.until(is_last)
        assert last.said is Said.DONE, last
        worker.end()
    return {**found, job.name: adapter_digest(folder)}
