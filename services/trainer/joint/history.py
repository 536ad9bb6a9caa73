"""What the evaluations of a job have come to: which was best, and whether it is time to end.

Invariant: the same values in the same order give the same verdicts, wherever a run was interrupted between them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.trainer.job import Progress
from services.trainer.settings import Metric, Settings


@dataclass(slots=True)
class History:
    """`best_value` is as reported; `misses` counts evaluations that did not improve on the best by more than the delta.

    `evaluated_step` is the last step that was evaluated; `ended` says that training ends early; `evaluations` holds what
    each measured, with its step and the loss that was trained on in it.
    """

    best_step: int = 0
    best_value: float | None = None
    misses: int = 0
    evaluated_step: int = 0
    ended: bool = False
    evaluations: list[dict[str, float]] = field(default_factory=list)

    def add(self, step: int, value: float, settings: Settings) -> bool:
        """Take an evaluation's metric in; return whether it is the best so far.

        As transformers' early stopping counts: any better value is the best, one better by more than the delta starts
        the patience anew.
        """
        self.evaluated_step = step
        gain = self._gain(value, settings.metric)
        if gain is None or gain > settings.early_stopping_delta:
            self.misses = 0
        else:
            self.misses += 1
        patience = settings.early_stopping_patience
        self.ended = bool(patience) and self.misses >= patience
        if gain is not None and gain <= 0:
            return False
        self.best_step, self.best_value = step, value
        return True

    def note(self, progress: Progress, found: Mapping[str, float]) -> None:
        """Keep what an evaluation measured after a step."""
        self.evaluations.append({"step": progress.step, "train_loss": progress.loss, **found})

    def _gain(self, value: float, metric: Metric) -> float | None:
        """By how much a value is better than the best; None when there is none yet."""
        if self.best_value is None:
            return None
        return self.best_value - value if metric.lower_is_better else value - self.best_value
