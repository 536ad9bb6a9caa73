"""What a solo job is asked to do, and what it says while it does it; no library is loaded for these.

Invariant: whoever drives the training sees every step, evaluation and checkpoint in the order in which they happened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.trainer.job import Progress
from services.trainer.settings import Metric, Settings

# As the joint evaluation names it.
MARGIN = "preference_margin"


@dataclass(frozen=True, slots=True)
class SoloOrder:
    """Train this base so.

    ``kept`` is the folder of the job's checkpoints, ``into`` where new ones go (the folder of a lease below it, or
    itself); they name the ``libraries``.  ``start`` is the folder of an earlier adapter (PEFT's layout) to go on from.
    Training stops after ``hold_step``, 0 for never.  ``facts`` belong to the version, and to every checkpoint of which
    one may be made.  ``turn_ends`` are the tokens with which answers end under the base's template.
    """

    base_folder: Path
    base_name: str
    settings: Settings
    kept: Path
    into: Path
    libraries: Mapping[str, str]
    start: Path | None = None
    hold_step: int = 0
    facts: Mapping[str, object] = field(default_factory=dict)
    turn_ends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Assessment:
    """How a held-out split is answered.  `loss` is a mean over its supervised tokens, or over its rows for preferences.

    `accuracy` is the share of pairs whose preferred answer has the higher reward, `margin` the mean distance between
    rewards of preferred and other answers; both are None where nothing is compared.  `answers` measures those that were
    generated, by metric.
    """

    loss: float
    accuracy: float | None = None
    margin: float | None = None
    answers: Mapping[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """What was found, by the names under which evaluations are reported."""
        found = {
            Metric.LOSS.value: self.loss,
            Metric.PREFERENCE_ACCURACY.value: self.accuracy,
            MARGIN: self.margin,
        }
        return {name: value for name, value in found.items() if value is not None} | dict(self.answers)


@dataclass(frozen=True, slots=True)
class Stepped:
    """One optimizer step.  `gradient_norm` is before clipping; `memory_bytes` is what the process has resident."""

    progress: Progress
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation.  `best` says whether none before it was better."""

    progress: Progress
    assessment: Assessment
    best: bool


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint is on disk."""

    progress: Progress
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Started:
    """Training begins, or goes on after the steps that are done."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Remarked:
    """Something for people to read."""

    progress: Progress
    message: str


Report = Started | Stepped | Evaluated | Checkpointed | Remarked


def _nothing(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whoever drives the training.  `each_step` is called before each; `at` at every point of a write, for tests."""

    report: Callable[[Report], None]
    stopping: Callable[[], bool] = lambda: False
    each_step: Callable[[], None] = lambda: None
    at: Callable[[str], None] = _nothing
