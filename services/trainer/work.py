"""What the trainer and its processes say to one another: orders in files, commands in, lines back, all JSON.

A process of its own trains one job (`child`); a worker trains many on one base (`joint.worker`) and is told which
by commands on its standard input.
Invariant: a line is one whole message; a reader that meets half a line (the writer was
killed) drops it and loses nothing that the next process will not say again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from services.chassis.files import write_atomically
from services.trainer.job import Progress
from services.trainer.settings import Settings, settings_from
from services.trainer.texts import fit

ORDER = "order.json"
WORKER_ORDER = "worker.json"
CHECKPOINTS = "checkpoints"
RESULT = "result"
RESULT_MANIFEST = "result.json"


# Steps and evaluations of which a checkpoint keeps what was said: a trainer that was killed may not have heard of them.
# More than are done while one is written and told of.
REMEMBERED_LINES = 256


class Exit:
    """Exit codes of the child; anything else is a crash, and crashes are tried again, as what was LOST is."""

    DONE = 0
    STOPPED = 75
    REFUSED = 65
    LOST = 74


class Said(StrEnum):
    """What a line reports.  READY and USAGE are a worker's own, the others a job's.

    LOST is for what says nothing about the job and may pass: it is tried again, as if its process had ended.
    """

    READY = "ready"
    USAGE = "usage"
    STARTED = "started"
    STEP = "step"
    EVALUATION = "evaluation"
    CHECKPOINT = "checkpoint"
    MESSAGE = "message"
    STOPPED = "stopped"
    DONE = "done"
    REFUSED = "refused"
    LOST = "lost"


# After these the process holds the job no more.
LAST = frozenset({Said.STOPPED, Said.DONE, Said.REFUSED, Said.LOST})


@dataclass(frozen=True, slots=True)
class Line:
    """One line from a process.

    `epoch` is the lease under which the job was given to it: what comes under an earlier lease counts no more.
    `memory_bytes` is what its process held, measured at most a second before, in a joint one for all its jobs together.
    `reason` names the catalogue entry of a refusal.  USAGE carries, by job, the seconds of the machine that were
    its share since the last one (`seconds`), and of these the part spent in forward, backward and optimizer in all
    (`busy_seconds`).
    """

    said: Said
    progress: Progress = field(default_factory=Progress)
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    message: str = ""
    reason: str = ""
    job: str = ""
    epoch: int = 0
    tokens_per_second: float = 0.0
    memory_bytes: int = 0
    evaluation: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    busy_seconds: float = 0.0
    # Of a checkpoint that was written.
    size_bytes: int = 0
    # Of a job that diverged: the last step whose loss spoke for the weights that it was taken with.
    sound_step: int = 0

    def encode(self) -> bytes:
        """Return the line with its end."""
        return json.dumps(self.fields()).encode() + b"\n"

    def fields(self) -> dict[str, Any]:
        """What it says, as JSON takes it."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Line":
        """The line that `fields` are of.  Raises ValueError, KeyError, TypeError for anything else.

        Its texts may quote what a tenant sent, and are made fit to be stored: a process whose last words cannot be would
        never be done with.
        """
        typed = {"said": Said(fields["said"]), "progress": Progress(**fields.get("progress", {}))}
        texts = {name: fit(str(fields[name])) for name in ("message", "reason") if name in fields}
        return cls(**(dict(fields) | typed | texts))

    @classmethod
    def decode(cls, line: bytes) -> "Line | None":
        """Return the message in `line`, or None when the writer was killed inside it."""
        try:
            return cls.of(json.loads(line))
        except (ValueError, KeyError, TypeError):
            return None


class Do(StrEnum):
    """What a worker is told.

    JOIN: train the job in `folder` from its newest checkpoint.  STOP: write a checkpoint at the next step boundary and
    say STOPPED.  DROP: hold it no more, at once and without a checkpoint.  SHARES: the tenants' weights and decayed
    usage, by which the order of steps is chosen.  END: stop every job, then end.
    """

    JOIN = "join"
    STOP = "stop"
    DROP = "drop"
    SHARES = "shares"
    END = "end"


@dataclass(frozen=True, slots=True)
class Command:
    """One line to a worker.  `priority` and `deadline` (Unix seconds, 0 for none) order its steps, never change them."""

    do: Do
    job: str = ""
    tenant: str = ""
    folder: str = ""
    epoch: int = 0
    priority: int = 0
    deadline: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    usage_seconds: dict[str, float] = field(default_factory=dict)
    # Tokens that a tenant may still train in this window of the clock; who is not listed has no limit.
    tokens_left: dict[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the line with its end."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Command":
        """Return the command in `line`.  Raises ValueError for anything else: it comes from the trainer alone."""
        fields = json.loads(line)
        return cls(**(fields | {"do": Do(fields["do"])}))


@dataclass(frozen=True, slots=True)
class Work:
    """All that a process needs to know of a job.  Threads are part of it: results are exact for one count.

    `data_dir` is the deployment's: its run files say whether anything serves on this machine.  `validation_path` is
    empty where nothing is named to evaluate on, `start_path` is the folder of the adapter that training starts from
    (PEFT's layout) or empty.
    """

    base_folder: str
    base_name: str
    dataset_path: str
    settings: Settings
    threads: int
    data_dir: str
    base_digest: str = ""
    validation_path: str = ""
    start_path: str = ""
    # The mark of the recipe, and its choice, by which records become rows.
    recipe: str = ""
    # Trains up to this step, writes a checkpoint, evaluates, and says STOPPED; 0 trains to the end.  It is no part of
    # the settings: the learning rate is planned for the whole length.
    hold_step: int = 0
    # The lease under which a process of one job was given it; 0 for none. A worker hears it with its command.
    epoch: int = 0

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


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """All that a worker needs to know before its first job.  `memory_bytes` is for jobs and base together.

    A worker's jobs all have its base, number format and thread count: their results are exact for one of each.
    """

    base_folder: str
    base_name: str
    base_digest: str
    threads: int
    dtype: str
    data_dir: str
    memory_bytes: int

    def write(self, folder: Path) -> None:
        """Store the order in the worker's folder, durably."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WORKER_ORDER, json.dumps(asdict(self), sort_keys=True).encode())

    @classmethod
    def read(cls, folder: Path) -> "WorkerOrder":
        """Read the order in the worker's folder."""
        return cls(**json.loads((folder / WORKER_ORDER).read_text()))
