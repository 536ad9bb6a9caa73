"""Faults planted into our own engine's plugin, one at a time, to see that the storm's checks find each.

A folder that stands first on PYTHONPATH says that the plugin ``trivium_lora`` is one of this package's: ``witness``,
ours with a count of preemptions beside it, or ``plugin``, ours with a fault that a file names.  Nothing of the service
knows of it.
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

FAULT_FILE = "PLANTED_FAULT_FILE"
PREEMPTIONS_FILE = "PLANTED_PREEMPTIONS_FILE"
_DISTRIBUTION = "trivium-suite"


@dataclass(frozen=True, slots=True)
class Planting:
    """Where the engine's processes read the fault of the hour and count what they preempt."""

    folder: Path

    @property
    def fault_file(self) -> Path:
        """Holds the fault's name, empty for none."""
        return self.folder / "fault"

    @property
    def preemptions_file(self) -> Path:
        """A byte for each preemption."""
        return self.folder / "preemptions"

    def preemptions(self) -> int:
        """How many requests were preempted so far."""
        return self.preemptions_file.stat().st_size

    def choose(self, fault: str) -> None:
        """From the engine's next step on this fault is there; an empty name is none."""
        unfinished = self.fault_file.with_suffix(".new")
        unfinished.write_text(fault)
        unfinished.replace(self.fault_file)


def plant(folder: Path, module: str) -> tuple[Planting, dict[str, str]]:
    """Write the folder; ``module`` is ``witness`` or ``plugin``.  Returns it, and the service's environment."""
    # Under the name of our own distribution it hides that one's entry points.
    info = folder / f"{_DISTRIBUTION.replace('-', '_')}-{importlib.metadata.version(_DISTRIBUTION)}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(str(importlib.metadata.metadata(_DISTRIBUTION)))
    (info / "entry_points.txt").write_text(
        f"[vllm.general_plugins]\ntrivium_lora = tests.load.generator.planted.{module}:register\n"
    )
    planting = Planting(folder)
    planting.choose("")
    planting.preemptions_file.touch()
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))
    return planting, {
        "PYTHONPATH": path,
        FAULT_FILE: str(planting.fault_file),
        PREEMPTIONS_FILE: str(planting.preemptions_file),
    }
