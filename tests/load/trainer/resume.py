"""Does a killed job end with the bits that it would have had?  Workers killed at every write point, and at random.

At the numbered points of the checkpoint protocol workers on a tiny base kill themselves, one point after the other; at
random they are killed from outside, on the default base with two threads.  What a kill leaves is gone on with by a new
worker in other company, and compared with a run that nothing disturbed.
"""

from __future__ import annotations

import random
import select
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from services.trainer.work import Said
from tests.load.scaled import scaled
from tests.load.trainer.mixture import Drawn, mixture
from tests.load.trainer.parts import Figures, say
from tests.load.trainer.workers import THREADS, Base, adapter_digest, write_order
from tests.unit.trainer.joint.workers import Mother, Running, is_last, join
from tests.unit.trainer.tiny import make_base

_KILLS = 25
_TOGETHER = 4
# A preference job, whose checkpoints hold references, and one that evaluates.
_STRUCK = (3, 1)
# Jobs of killed workers that one worker makes good together.
_MADE_GOOD = 24
_MOST_POINTS = 1000
_MOST_PAUSE_SECONDS = 0.4


def figures(scale: float) -> Figures:
    """Kill, go on, compare."""
    with tempfile.TemporaryDirectory(prefix="trivium-resume-") as folder:
        points, numbered_wrong = at_every_point(Path(folder) / "points", _MOST_POINTS if scale >= 1 else 6)
        say(f"killed at {points} write points: {numbered_wrong} adapters differ (target: 0)")
        kills, jobs, random_wrong = at_random(Path(folder) / "random", scaled(_KILLS, scale, least=2))
        say(f"killed {kills} times at random, {jobs} jobs: {random_wrong} adapters differ (target: 0)")
    return {
        "resume_mismatches": numbered_wrong + random_wrong,
        "resume_kills": points + kills,
        "resume_kills_at_random": kills,
        "resume_write_points": points,
    }


def at_every_point(root: Path, most: int) -> tuple[int, int]:
    """Kill workers on a tiny base at one write point after the other; how many points there are, how many jobs differ."""
    nursery = _Nursery(root, Base(make_base(root / "tiny"), "tiny", ""))
    drawn = mixture(max(_STRUCK) + 1)
    jobs = [replace(drawn[number], name=f"job-{number}") for number in _STRUCK]
    try:
        calm = [nursery.write(job, "calm") for job in jobs]
        nursery.until_done(calm, epoch=1)
        expected = [adapter_digest(folder) for folder in calm]
        struck: list[list[Path]] = []
        for point in range(1, most + 1):
            folders = [nursery.write(job, f"point-{point}") for job in jobs]
            if not nursery.worker(kill_at=point).trains_until_killed(folders):
                break
            struck.append(folders)
        every = [folder for folders in struck for folder in folders]
        for begin in range(0, len(every), _MADE_GOOD):
            nursery.until_done(every[begin : begin + _MADE_GOOD][::-1], epoch=2)
        found = [[adapter_digest(folder) for folder in folders] for folders in struck]
    finally:
        nursery.mother.close()
    wrong = sum(one != other or not one for each in found for one, other in zip(each, expected, strict=True))
    return len(struck), wrong


def at_random(root: Path, kills: int) -> tuple[int, int, int]:
    """Kill workers on the default base until so many kills; kills, jobs, and how many differ from undisturbed ones."""
    nursery = _Nursery(root, Base.default())
    draw, done_kills, wrong, number = random.Random(11), 0, 0, 0
    try:
        while done_kills < kills:
            jobs = [replace(job, name=f"{job.name}-{number}") for job in mixture(_TOGETHER, seed=100 + number)]
            calm = [nursery.write(job, "calm") for job in jobs]
            nursery.until_done(calm, epoch=1)
            killed = [nursery.write(job, "killed") for job in jobs]
            done_kills += nursery.until_done_through_kills(killed, draw, kills - done_kills)
            wrong += sum(
                adapter_digest(one) != adapter_digest(other) or not adapter_digest(one)
                for one, other in zip(killed, calm, strict=True)
            )
            number += 1
            say(f"killed {done_kills} of {kills} times")
    finally:
        nursery.mother.close()
    return done_kills, number * _TOGETHER, wrong


class _Nursery:
    """Workers as forks of one process that has loaded torch, over one base."""

    def __init__(self, root: Path, base: Base) -> None:
        self._root = root
        # Beside what the mother keeps, whoever owns the base's own folder.
        linked = root / "mother" / "base"
        linked.parent.mkdir(parents=True)
        linked.symlink_to(base.path)
        self.mother = Mother(linked)
        self._base = base

    def write(self, job: Drawn, company: str) -> Path:
        """Write the job's order below a folder of that name."""
        return job.write(self._root / company, self._base, THREADS)

    def worker(self, kill_at: int = 0) -> Running:
        """A new worker."""
        return self.mother.fork(write_order(self._root / "worker", self._base), kill_at=kill_at)

    def until_done(self, folders: Sequence[Path], *, epoch: int) -> None:
        """Train the jobs to their ends in one worker."""
        worker = self.worker()
        # The folder's name is the job's: two runs of a job need names of their own.
        left = {f"{folder.parent.parent.name}-{folder.name}": folder for folder in folders}
        for name, folder in left.items():
            worker.tell(replace(join(folder, epoch), job=name))
        while left:
            line = worker.until(is_last)
            assert line.said is Said.DONE, line
            del left[line.job]
        worker.end()

    def until_done_through_kills(self, folders: Sequence[Path], draw: random.Random, most: int) -> int:
        """Train the jobs to their ends through up to `most` kills at random moments; return how many there were."""
        left = {folder.name: folder for folder in folders}
        kills = 0
        while left:
            worker = self.worker()
            for name in draw.sample(sorted(left), len(left)):
                worker.tell(join(left[name], epoch=kills + 1))
            lines_until = draw.randint(2, 14) if kills < most else _MOST_POINTS
            for _, line in zip(range(lines_until), worker.lines(), strict=False):
                if is_last(line):
                    assert line.said is Said.DONE, line
                    del left[line.job]
                    if not left:
                        break
            if not left or kills == most:
                worker.end()
                continue
            # Also between two lines: within a pass, or a write.
            worker.said.clear()
            _pause(draw.uniform(0.0, _MOST_PAUSE_SECONDS), worker)
            worker.kill()
            kills += 1
        return kills


def _pause(seconds: float, worker: Running) -> None:
    """Wait so long, or until the worker has ended."""
    select.select([worker.handle], [], [], seconds)
