"""Uploads a dataset in processes that each end at another step: `python -m tests.robustness.trainer.dataset_kills FOLDER`.

After each the next process looks at what is there, uploads again, and sweeps.  It prints how many steps there are.
"""

import asyncio
import hashlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from services.chassis import steps
from services.chassis.blobs import key_of
from services.chassis.database import open_database
from services.chassis.streams import Piece
from services.trainer.data.checker import Checker, Say
from services.trainer.data.checking import Counted
from services.trainer.data.dataset_rows import Incoming
from services.trainer.data.datasets import Datasets
from services.trainer.data.rows import Format
from tests.harness.forks import KillAt, run_in_fork
from tests.harness.plugin_sampling import sample
from tests.unit.trainer.verbs import datasets_over

CONTENT = b'{"text": "once"}\n' * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
INCOMING = Incoming("", "tales.jsonl", len(CONTENT), SHA256, 0, None)


class Trusting(Checker):
    """Takes every file for a good one: what is tested is what becomes of it."""

    async def count(self, tenant: str, path: Path, expected: Format | None, say: Say = lambda _: None) -> Counted:
        """Count nothing."""
        return Counted(Format.TEXT, 100, 1, 1, 1)


async def chunks() -> AsyncIterator[Piece]:
    """The content in two pieces."""
    yield Piece(0, CONTENT[:500])
    yield Piece(500, CONTENT[500:])


async def upload(datasets: Datasets) -> None:
    """Upload from the beginning."""
    assert (await datasets.upload("acme", INCOMING, chunks())).version == 1


async def recover(datasets: Datasets) -> None:
    """What is listed is whole; another upload makes it so; a sweep leaves that and nothing else."""
    for listed in await datasets.page("acme", 10, None):
        assert (await datasets.file(listed.digest)).read_bytes() == CONTENT
    await upload(datasets)
    await datasets.sweep(time.time() + 1)
    folder = Path(sys.argv[1])
    left = [path for part in ("stored", "uploads") for path in (folder / part).rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in left] == [CONTENT], left
    assert left[0].is_relative_to(folder / "stored" / Path(key_of(SHA256)).parent)
    await datasets.delete("acme", "tales@1")
    assert not any(path.is_file() for path in (folder / "stored").rglob("*"))


def forked(work: Callable[[Datasets], Awaitable[None]], die_at: int = 0, steps_into: Path | None = None) -> int:
    """Do the work in a child process, which ends at a step; return its exit status.

    How many steps there were is written into a file, where one is named.
    """
    kill = KillAt(die_at)

    async def run() -> None:
        folder = Path(sys.argv[1])
        async with open_database(f"sqlite:///{folder}/trainer.db", "services.trainer.migrations") as database:
            steps.listener = kill if die_at or steps_into else None
            await work(datasets_over(database, folder, Trusting(folder), max_bytes=len(CONTENT)))

    def in_fork() -> None:
        asyncio.run(run())
        if steps_into:
            steps_into.write_text(str(kill.passed))

    return run_in_fork(in_fork)


def main() -> None:
    """Kill at the first step, at a sample of the others and behind the last, one after another."""
    passed = steps_of_an_upload()
    for die_at in [1, *sample(range(2, passed), every=3), passed]:
        assert forked(upload, die_at) == -signal.SIGKILL, f"no kill at step {die_at} of {passed}"
        status = forked(recover)
        assert status == 0, f"after a kill at step {die_at}"
        # A number is never given again: the next round begins with an empty folder.
        clear()
    sys.stdout.write(f"{passed}\n")


def steps_of_an_upload() -> int:
    """Return how many steps an undisturbed upload has; what it leaves is cleared as after a kill."""
    counted = Path(sys.argv[1]) / "steps"
    assert forked(upload, steps_into=counted) == 0
    assert forked(recover) == 0
    clear()
    return int(counted.read_text())


def clear() -> None:
    """Remove the database."""
    for path in Path(sys.argv[1]).glob("trainer.db*"):
        path.unlink()


if __name__ == "__main__":
    main()
