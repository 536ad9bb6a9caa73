"""Whether a job has diverged: its numbers are none any more, or they are those of a model that has lost what it knew.

A rate that is too high seldom ends in NaN: gradients are clipped, a step is as long as the rate says, and what is left
answers everything, surely and wrong.  What every objective wants is that wanted answers are likely; so of each step the
*loss* here is what a token of those costs, minus its log-probability in the mean: supervised, the loss itself; of pairs
that of the preferred answers, of judged ones that of the good.  The objectives' own losses do not tell: DPO's is small
as long as the other answer has lost more, KTO's lies between bounds.

Invariant: the verdict depends on the job's own losses in their order, and on nothing else; what it needs of earlier ones
is in every checkpoint, so that a run which goes on from one is frozen at the very step at which it would have been.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.trainer.conduct import Refused
from services.trainer.job import Progress
from services.trainer.joint.history import History
from services.trainer.settings import Keep, Metric, Settings, default_learning_rate

# Under which name the state of a checkpoint holds `Losses`.
LOSSES = "losses"
# A loss is out of bounds above so many times that of whoever guesses, each token being as likely as another, or that of
# the first step, which a base that is surely wrong about its rows begins with.  Measured with SmolLM2-135M, where a guess
# costs 10.8: rates that a job survives (LoRA 2e-3 and 1e-2, DPO 2e-3) never came above 7.1, also with a row a step; those
# that ruin it (LoRA from 0.03 on, DPO from 0.01 on) jump to 15 to 100 within a few steps, and pass 1.25 times the guess
# in eight of the next ten or twenty; all parameters stand at 20 to 900 (0.1, 1).  Later what is left of an adapter learns
# how frequent each token is, and that looks harmless.
_MARGIN = 1.25
# So many steps must be out of bounds, none between them being sound: a step is a few rows, and some rows are odd.  At the
# end of a job there are no more to wait for.
_STEPS, _LAST_STEPS = 8, 3
# A step is sound up to this part of the way from the first loss to the bound: rows differ as much.
_SOUND_SHARE = 0.1


@dataclass(slots=True)
class Losses:
    """What the losses of a job's steps have come to.

    `first` is the first step's, which is of weights that no step has touched.  `sound_step` is the last step whose loss
    was about as good or better: it says of the weights before that step that they are.  `bad_steps` counts the steps
    since then whose loss was out of bounds.
    """

    first: float | None = None
    sound_step: int = 0
    bad_steps: int = 0


def losses_of(state: Mapping[str, Any], progress: Progress) -> Losses:
    """Those that a checkpoint's `state` holds.

    An earlier release held none, and took all that was done for good: the job's beginning is then where it stands.
    """
    return Losses(**state[LOSSES]) if LOSSES in state else Losses(sound_step=progress.step)


class Watch:
    """Watches one job that trains a model of this `config`uration; every method but `diverged` raises Refused."""

    def __init__(self, settings: Settings, config: Any, losses: Losses | None = None) -> None:
        text = config.get_text_config()
        self.losses = losses or Losses()
        self._settings = settings
        self._vocabulary: int = text.vocab_size
        usual = default_learning_rate(settings.method, settings.objective, text.hidden_size, text.model_type)
        self._lower_rate = min(usual, settings.learning_rate / 10)

    def require_finite(self, step: int, loss: float, norm: float) -> None:
        """Of a step, or of a part of it, before it counts: its objective's loss, and the norm of its gradient."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self.diverged(f"at step {step} the loss is {loss} and the gradient norm {norm}")

    def stepped(self, before: Progress, loss: float | None) -> None:
        """Take in the loss of the step that follows `before`; None where the step wants no answer to be likely."""
        losses, step = self.losses, before.step + 1
        if losses.first is None:
            losses.first = loss
        if self._sound(loss) if loss is not None else not losses.bad_steps:
            losses.sound_step, losses.bad_steps = step, 0
        elif loss is not None and loss > self._bound:
            losses.bad_steps += 1
            if losses.bad_steps >= _needed(_STEPS, before):
                raise self.diverged(f"at step {step} {self._what} is {loss:.4g}; {self._bad_steps}")

    def evaluated(self, step: int, value: float) -> None:
        """Take in what an evaluation gives."""
        if not math.isfinite(value):
            raise self.diverged(f"after step {step} the evaluation gives {value}")

    def ended(self, progress: Progress, history: History) -> None:
        """Training is over: weights become a version that are not known to be good only where nothing speaks against it.

        What held-out rows said of them counts most: the best of a job may be from before it went wrong.
        """
        settings, best = self._settings, self._settings.keep is Keep.BEST
        found = {} if settings.objective.preference else {int(each["step"]): each for each in history.evaluations}
        kept = history.best_step if best else history.evaluated_step
        if kept in found:
            held_out = {step: each[Metric.LOSS.value] for step, each in found.items()}
            if held_out[kept] > self._bound:
                good = max((step for step, loss in held_out.items() if self._sound(loss)), default=-1)
                problem = f"after step {kept} the held-out loss is {held_out[kept]:.4g}, {self._limit}"
                raise self.diverged(problem, good + 1)
            if best:
                return
        if self.losses.bad_steps >= _needed(_LAST_STEPS, progress):
            raise self.diverged(f"{self._what} has not come back by step {progress.step}, the last; {self._bad_steps}")

    def diverged(self, problem: str, sound_step: int | None = None) -> Refused:
        """The refusal that says so, and what to do."""
        remedy = f"Lower the learning rate: it is {self._settings.learning_rate:g}, try {self._lower_rate:.1g}."
        sound = self.losses.sound_step if sound_step is None else sound_step
        return Refused("TRAINING_DIVERGED", f"{problem}. {remedy}", sound)

    @property
    def _reference(self) -> float:
        """The loss of whoever knows nothing, or the first where that is greater."""
        return max(math.log(self._vocabulary), self.losses.first or 0.0)

    @property
    def _bound(self) -> float:
        return _MARGIN * self._reference

    def _sound(self, loss: float) -> bool:
        first = self.losses.first or 0.0
        return loss <= first + _SOUND_SHARE * (self._bound - first)

    @property
    def _what(self) -> str:
        return "the loss of a wanted answer's token" if self._settings.objective.preference else "the loss"

    @property
    def _limit(self) -> str:
        guessing = self._reference > (self.losses.first or 0.0)
        who = f"a model that finds all {self._vocabulary} tokens equally likely" if guessing else "the first step"
        return f"above {self._bound:.4g}, which is {_MARGIN:g} times that of {who}"

    @property
    def _bad_steps(self) -> str:
        steps = "a step" if self.losses.bad_steps == 1 else f"{self.losses.bad_steps} steps"
        return f"since step {self.losses.sound_step} it was in {steps} {self._limit}"


def _needed(steps: int, progress: Progress) -> int:
    """So many steps, but no more than half of a short job's."""
    return min(steps, math.ceil(progress.total_steps / 2))
