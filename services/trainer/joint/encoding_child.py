"""The process that encodes a worker's datasets: `python -m services.trainer.joint.encoding_child BASE_FOLDER`.

A request is a line of JSON with the job's folder, where to write, and how much memory it may take; the answer is one
line.  Whoever started it kills it when a job takes longer than it may: also inside native code, where no signal of
Python's would come through.
Invariant: a job's arrays are complete before its answer is written.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from services.chassis.errors import Failure
from services.chassis.files import disk_full_named
from services.chassis.processes import die_with_parent
from services.trainer.conduct import Refused
from services.trainer.data.examples import ChatEncoder, Encoder
from services.trainer.joint.encoding import read
from services.trainer.tensor_files import system_errors
from services.trainer.work import Work

TRAINING = "training.safetensors"
HELD_OUT = "held_out.safetensors"
# Said when requests can be answered: what came before is no job's.
READY = b"ready\n"


def answer(request: dict[str, Any], encoder: Encoder) -> dict[str, Any]:
    """Encode one job's files into the folder `into`; say what they are, or why not."""
    _bound(request["memory_bytes"])
    try:
        found = read(Work.read(Path(request["folder"])), encoder)
        into = Path(request["into"])
        with disk_full_named("the training jobs"), system_errors():
            found.training.save(into / TRAINING)
            if found.held_out is not None:
                found.held_out.save(into / HELD_OUT)
    except Failure as failure:
        return {"reason": failure.reason.name, "message": failure.sentence}
    except Refused as refusal:
        return {"reason": refusal.reason, "message": str(refusal)}
    except MemoryError:
        return {
            "reason": "DATASET_UNCHECKED",
            "message": "Reading the dataset takes more memory than it may. Shorten its rows, or split the file.",
        }
    return {
        "kind": found.training.kind.value,
        "held_out": found.held_out is not None,
        "messages": list(found.messages),
    }


def _bound(memory_bytes: int) -> None:
    """Let this process take so much beyond what it has."""
    with open("/proc/self/status", encoding="ascii") as status:
        held = next(line for line in status if line.startswith("VmData:"))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(held.split()[1]) * 1024 + memory_bytes, most))


def main(base_folder: Path) -> None:
    """Answer requests until there are no more."""
    die_with_parent()
    # Libraries print to standard output; our lines keep a descriptor of their own.
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # Encoding needs no torch, whose import takes seconds and much memory: here it counts as not installed.
    sys.modules["torch"] = None  # type: ignore[assignment]  # the typing of sys.modules leaves out this use of it
    encoder = ChatEncoder.load(base_folder)
    lines.write(READY)
    for line in sys.stdin:
        said = json.dumps(answer(json.loads(line), encoder)).encode() + b"\n"
        while said:
            said = said[lines.write(said) :]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
