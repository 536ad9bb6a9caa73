"""The process that trains one job alone: `python -m services.trainer.child JOB_FOLDER`.

It reads its order from the folder, goes on from the newest checkpoint there, and writes lines of JSON to its standard
output.  Who starts it sees that it dies with its parent (`chassis.processes`).  SIGTERM asks for a checkpoint and an
end.
Invariant: it may be killed at any moment: all that it leaves behind is complete or ignored.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.chassis.child_side import own_output, write_whole
from services.chassis.code_version import code_version
from services.chassis.errors import Failure
from services.trainer import checkpoints, material
from services.trainer.conduct import Refused
from services.trainer.solo.process import train as solo
from services.trainer.work import Exit, Line, Said, Work

Say = Callable[[Line], None]

# What reading a dataset may take: as the check of it may, whose template was another.
_RENDER_SECONDS = 60.0
_RENDER_BYTES_PER_SECOND = 32 * 1024


def train(
    folder: Path,
    say: Say,
    stopping: Callable[[], bool],
    at: checkpoints.WritePoint = lambda _: None,
) -> int:
    """Train the job in `folder` to its end or to the next step after `stopping`; return the exit code.

    Raises Refused, and DISK_FULL from the catalogue.
    """
    work = Work.read(folder)
    # Now, and not when the version waits for it.
    code = code_version()
    return solo(work, folder, say, stopping, at, code=code, bounded=rendering(material.size_bytes(work)))


@contextmanager
def rendering(dataset_bytes: int, least_seconds: float = _RENDER_SECONDS) -> Iterator[None]:
    """Bound the processor time inside the block: the chat template comes with the base, which may be a tenant's.

    Raises Refused.
    """
    cpu_seconds = least_seconds + dataset_bytes / _RENDER_BYTES_PER_SECOND

    def overrun(*_: object) -> None:
        raise Refused(
            "SETTINGS_UNFIT", f"rendering the dataset with the base's template takes over {cpu_seconds:.0f} s"
        )

    before = signal.signal(signal.SIGPROF, overrun)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def main(folder: Path) -> int:
    """Train and report; return the exit code."""
    lines = own_output()
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    # The terminal's Ctrl-C goes to the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def say(line: Line) -> None:
        write_whole(lines, line.encode())

    try:
        ended = train(folder, say, lambda: bool(asked))
        say(Line(Said.DONE if ended == Exit.DONE else Said.STOPPED))
        return ended
    except checkpoints.LeaseLost:
        # Whoever holds the job now says all that is to be said.
        return Exit.STOPPED
    except Refused as refusal:
        say(refusal.line())
    except Failure as failure:
        say(Refused.by(failure).line())
    return Exit.REFUSED


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # All is durable and said.  Taking the interpreter down takes seconds, for which the version would wait.
    os._exit(status)
