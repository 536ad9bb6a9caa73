"""A job as the worker holds it, from the command to join until its last word.

Invariant: `gone` is set once and never cleared; nothing is written of a job after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.trainer.job import Progress
from services.trainer.joint.member import Member
from services.trainer.work import Work


@dataclass(slots=True, eq=False)
class Held:
    """One job under one lease.  Until its files are read it has no `member`."""

    job: str
    tenant: str
    folder: Path
    epoch: int
    priority: int = 1
    deadline: float = 0.0
    work: Work | None = None
    member: Member | None = None
    # What its files are to the version that is made.
    facts: Mapping[str, object] = field(default_factory=dict)
    # Where the newest checkpoint that is written or being written was taken (`Member.mark`).
    saved: tuple[int, int, int] = (-1, 0, 0)
    stopping: bool = False
    gone: bool = False
    # Its last word has been said.
    over: bool = False
    # Since its last optimizer step: tokens through the model, and seconds of the machine for them.
    tokens: int = 0
    seconds: float = 0.0
    progress: Progress = field(default_factory=Progress)
