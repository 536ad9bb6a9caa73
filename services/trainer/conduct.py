"""How a process that trains behaves: it gives way to serving, and it refuses a job in words that are bounded.

Invariant: whatever a refusal quotes, its line stays within what the trainer reads.
"""

import importlib.metadata
import threading
from pathlib import Path

from services.chassis import resources
from services.chassis.errors import Failure
from services.trainer.work import Line, Said

_LIBRARIES = ("torch", "transformers", "peft", "safetensors")

# Characters of a refusal: the trainer reads lines of a bounded length.
_MAX_SAID = 2000


class Refused(Exception):
    """The job can never succeed as it was ordered: `reason` names an entry of the catalogue.

    `sound_step` is said of one that diverged: the last step whose loss spoke for the weights that it was taken with.
    """

    def __init__(self, reason: str, message: str, sound_step: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.sound_step = sound_step

    def __reduce__(self) -> tuple[type["Refused"], tuple[str, str, int]]:
        """For the processes that train the job together: what one of them refuses, all do."""
        return type(self), (self.reason, str(self), self.sound_step)

    @classmethod
    def by(cls, failure: Failure) -> "Refused":
        """The refusal that a failure of the catalogue amounts to."""
        return cls(failure.reason.name, failure.sentence)

    def line(self) -> Line:
        """The refusal as it is said: cut, since it may quote what the caller sent."""
        return Line(Said.REFUSED, message=str(self)[:_MAX_SAID], reason=self.reason, sound_step=self.sound_step)


def lost(error: OSError) -> Line:
    """That a job cannot be gone on with at present; of the error no path is told, which is the operator's business."""
    return Line(Said.LOST, message=f"an error of the system: {error.strerror or type(error).__name__}")


class Manners:
    """Runs at idle priority while anything serves on this machine, at an ordinary one while nothing does.

    So do the processes that it has started: who encodes a dataset takes as much of the machine as who trains.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._idle: bool | None = None
        # Who steps looks, and who waits for a dataset.
        self._looking = threading.Lock()

    def keep(self) -> None:
        """Look whether anything serves; a few small files, read once a step."""
        with self._looking:
            idle = resources.serving(self._data_dir)
            if idle is not self._idle:
                resources.set_idle(idle, children=True)
                self._idle = idle


def libraries() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}
