"""Access, the registry and the trainer over a folder that outlives them, in the hands of the SDK.

Invariant: started again over the same folder they go on with every job that they had.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trivium_client import Trivium

from tests.stack import Process


@dataclass(frozen=True, slots=True)
class Deployment:
    """A client with the admin key, and the trainer's process id."""

    client: Trivium
    trainer: int


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """The three services while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    started: list[Process] = []
    try:
        peers: dict[str, str] = {}
        for name in ("access", "registry", "trainer"):
            # A process that waits with a base for further jobs would lend its memory to the next job's account.
            started.append(Process(name, folder, {**peers, "TRIVIUM_TRAINER_IDLE_SECONDS": "0"}).start())
            peers[f"TRIVIUM_{name.upper()}_ADDRESS"] = started[-1].address
        with Trivium(data_dir=folder) as client:
            yield Deployment(client, started[-1].pid)
    finally:
        for process in reversed(started):
            process.stop()
