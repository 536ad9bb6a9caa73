"""The learning rate of every step, the same for jobs that train jointly and for those that train alone.

Invariant: a step's rate depends on its number, the number of steps and the settings alone, so a resumed run needs no
scheduler's state.
"""

import math

from services.trainer.settings import Schedule, Settings

# Share of the steps after warm-up in which a stable rate falls: a tenth to a fifth does as well as a cosine over all
# of them (Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", 2024).
_DECAY_SHARE = 0.2


def rate(step: int, total_steps: int, settings: Settings) -> float:
    """Return the learning rate of the step after `step` finished ones; it is never 0 before the last."""
    warmup = math.ceil(settings.warmup_ratio * total_steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    after = max(1, total_steps - warmup)
    return settings.learning_rate * _shape(settings.schedule, step - warmup, after)


def _shape(schedule: Schedule, done: int, steps: int) -> float:
    """Share of the peak rate after `done` of the `steps` that follow warm-up."""
    match schedule:
        case Schedule.CONSTANT:
            return 1.0
        case Schedule.COSINE:
            return 0.5 * (1 + math.cos(math.pi * done / steps))
        case Schedule.STABLE_DECAY:
            falling = max(1, math.ceil(_DECAY_SHARE * steps))
            return min(1.0, (steps - done) / falling)
        case Schedule.LINEAR:
            return 1 - done / steps
