"""The process that encodes datasets: `python -m services.trainer.joint.encoding_child BASE_FOLDER`.

A request is a line of JSON with the job's folder and what answering it may take; the answer is a line of JSON, and
behind it, as bytes, the splits whose sizes it says.
Invariant: no dataset is read before the limits hold: this process writes no file, and ends when a job takes longer or
more than it may.
"""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from services.chassis.child_side import (
    OUT_OF_MEMORY,
    bound_memory,
    confine,
    leave_out,
    own_output,
    processor_time,
    write_whole,
)
from services.chassis.processes import die_with_parent
from services.trainer.conduct import Refused
from services.trainer.data.examples import ChatEncoder, Encoder
from services.trainer.joint.encoding import read
from services.trainer.work import Work

# Said when requests can be answered: what came before is no job's.
READY = b"ready\n"


def answer(request: dict[str, Any], encoder: Encoder) -> tuple[dict[str, Any], list[bytes]]:
    """Encode one job's files; say what they are and give their splits, or say why not."""
    bound_memory(request["memory_bytes"])
    try:
        found = read(Work.read(Path(request["folder"])), encoder)
        splits = [rows.encode() for rows in (found.training, found.held_out) if rows is not None]
    except Refused as refusal:
        return {"reason": refusal.reason, "message": str(refusal)}, []
    except OSError as error:
        # The other side decides whether it passes.
        return {"errno": error.errno or errno.EIO}, []
    said = {
        "kind": found.training.kind.value,
        "messages": list(found.messages),
        "facts": found.facts,
        "turn_ends": found.turn_ends,
        "sizes": [len(part) for part in splits],
    }
    return said, splits


def main(base_folder: Path) -> int:
    """Answer requests until there are no more; return the exit code."""
    die_with_parent()
    lines = own_output()
    # Encoding needs no torch, whose import takes seconds and much memory.
    leave_out("torch")
    encoder = ChatEncoder.load(base_folder)
    confine()
    lines.write(READY)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with processor_time(request["cpu_seconds"]):
                said, splits = answer(request, encoder)
        except MemoryError:
            # At once: else the output closes first, and whoever listens kills what has not yet said why it ends.
            os._exit(OUT_OF_MEMORY)
        for part in (json.dumps(said).encode() + b"\n", *splits):
            write_whole(lines, part)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
