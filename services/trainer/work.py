"""What the trainer and its child process say to one another: an order in a file, lines of JSON back.

Invariant: a line is one whole message; a reader that meets half a line (the writer was
killed) drops it and loses nothing that the next process will not say again.
"""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from services.chassis.files import write_atomically
from services.trainer.job import Progress
from services.trainer.settings import Settings, settings_from

ORDER = "order.json"
CHECKPOINTS = "checkpoints"
RESULT = "result"
RESULT_MANIFEST = "result.json"


class Exit:
    """Exit codes of the child; anything else is a crash, and crashes are tried again."""

    DONE = 0
    STOPPED = 75
    REFUSED = 65


class Said(StrEnum):
    """What a line from the child reports."""

    STARTED = "started"
    STEP = "step"
    CHECKPOINT = "checkpoint"
    MESSAGE = "message"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Line:
    """One line from the child.  `reason` names the catalogue entry of a refusal."""

    said: Said
    progress: Progress = field(default_factory=Progress)
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    message: str = ""
    reason: str = ""

    def encode(self) -> bytes:
        """Return the line with its end."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Line | None":
        """Return the message in `line`, or None when the writer was killed inside it."""
        try:
            fields = json.loads(line)
            fields["said"] = Said(fields["said"])
            fields["progress"] = Progress(**fields["progress"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Work:
    """All that the child needs to know.  Threads are part of it: results are exact for one count.

    `data_dir` is the deployment's: its run files say whether anything serves on this machine.
    """

    base_folder: str
    base_name: str
    dataset_path: str
    settings: Settings
    threads: int
    data_dir: str

    def write(self, folder: Path) -> None:
        """Store the order in the job's folder, durably."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ORDER, json.dumps(asdict(self), sort_keys=True).encode())

    @classmethod
    def read(cls, folder: Path) -> "Work":
        """Read the order in the job's folder."""
        fields = json.loads((folder / ORDER).read_text())
        fields["settings"] = settings_from(fields["settings"])
        return cls(**fields)
