"""The process that trains one job alone: `python -m services.trainer.child JOB_FOLDER`.

It reads its order from the folder, goes on from the newest checkpoint there, and writes lines of JSON to its standard
output.  Who starts it sees that it dies with its parent (`chassis.processes`).  SIGTERM asks for a checkpoint and an
end.
Invariant: it may be killed at any moment: all that it leaves behind is complete or ignored.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from services.chassis.child_side import own_output, write_whole
from services.chassis.code_version import code_version
from services.chassis.errors import Failure
from services.trainer import checkpoints
from services.trainer.conduct import Manners, Refused, lost
from services.trainer.joint.encoder import DatasetEncoder, Encoder
from services.trainer.solo.process import train as solo
from services.trainer.work import Exit, Line, Said, Work

Say = Callable[[Line], None]


def train(
    folder: Path,
    say: Say,
    stopping: Callable[[], bool],
    at: checkpoints.WritePoint = lambda _: None,
    *,
    encoder: DatasetEncoder | None = None,
) -> int:
    """Train the job in `folder` to its end or to the next step after `stopping`; return the exit code.

    Its files are read by ``encoder``, else by a process of their own.  Raises Refused, and DISK_FULL from the catalogue.
    """
    work = Work.read(folder)
    # Now, and not when the version waits for it.
    code = code_version()
    manners = Manners(Path(work.data_dir))
    encoder = encoder or Encoder(Path(work.base_folder), keep=manners.keep)
    return solo(work, folder, say, stopping, at, code=code, encoder=encoder, manners=manners)


def main(folder: Path, *, encoder: DatasetEncoder | None = None) -> int:
    """Train as `train` does and report; return the exit code."""
    lines = own_output()
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    # The terminal's Ctrl-C goes to the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def say(line: Line) -> None:
        write_whole(lines, line.encode())

    try:
        ended = train(folder, say, lambda: bool(asked), encoder=encoder)
        say(Line(Said.DONE if ended == Exit.DONE else Said.STOPPED))
        return ended
    except checkpoints.LeaseLost:
        # Whoever holds the job now says all that is to be said.
        return Exit.STOPPED
    except Refused as refusal:
        say(refusal.line())
    except Failure as failure:
        say(Refused.by(failure).line())
    except OSError as error:
        traceback.print_exc()
        say(lost(error))
        return Exit.LOST
    return Exit.REFUSED


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # All is durable and said.  Taking the interpreter down takes seconds, for which the version would wait.
    os._exit(status)
