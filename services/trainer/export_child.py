"""The process that makes a version's files of a checkpoint: `python -m services.trainer.export_child FOLDER BASE`.

A process of its own, since a full model takes gigabytes for as long as this takes.  BASE is the folder of the base that a
full model takes its other files from, `-` for an adapter.
Invariant: a folder `result` below FOLDER is complete and durable; a line of JSON says why there is none.
"""

import os
import sys
from functools import partial
from pathlib import Path

from services.chassis.errors import Failure
from services.trainer import checkpoints, exports
from services.trainer.conduct import Refused
from services.trainer.results import publish_result
from services.trainer.work import Exit

# Behind whoever answers people.
_NICE = 10


def main(folder: Path, base: Path) -> int:
    """Make them of the checkpoint in `folder`; return the exit code."""
    os.nice(_NICE)
    checkpoint = checkpoints.newest(folder)
    assert checkpoint is not None, "the checkpoint was verified before"
    try:
        publish_result(folder, partial(exports.save, checkpoint, base), exports.facts_of(checkpoint))
    except Failure as failure:
        sys.stdout.buffer.write(Refused.by(failure).line().encode())
        return Exit.REFUSED
    return Exit.DONE


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    # All is durable; taking down what a full model needed takes seconds.
    os._exit(status)
