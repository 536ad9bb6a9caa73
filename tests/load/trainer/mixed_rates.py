"""How fast the machine trains the steps of mixed jobs: jointly on the bank at its best, and one job after another.

Invariant: rows have the very lengths that the service's jobs have, so that a rate here is what the service could reach.
"""

import random
import statistics
from collections.abc import Sequence

from services.trainer.bank import Bank
from tests.load.trainer.joint_speed import sequential, slots, stepper
from tests.load.trainer.parts import Figures
from tests.load.trainer.work import alternating, base, rows


def mixed_rates(shapes: Sequence[Sequence[int]], groups: Sequence[int], *, rounds: int = 3) -> Figures:
    """Supervised tokens a second of the best joint step of jobs of these shapes, (rows, tokens of a row), drawn evenly.

    Steps are of so many jobs as `groups` says; the rate of the best of them counts, by its fastest round, and by the median.
    `sequential_seconds` has the seconds of one step of one job, for each shape, by the best sequential loop.
    """
    bank, draw = Bank(base()), random.Random(3)
    drawn = [shapes[number % len(shapes)] for number in range(max(groups))]
    draw.shuffle(drawn)
    batches = [rows(count, tokens, seed=number) for number, (count, tokens) in enumerate(drawn)]
    held = slots(bank, len(batches))
    steps = {str(group): stepper(bank, held[:group], batches[:group]) for group in groups}
    alone = {f"alone-{number}": sequential(1, [rows(*shape)]) for number, shape in enumerate(shapes)}
    times = alternating({**steps, **alone}, rounds=rounds)
    rates, medians = {}, {}
    for group in groups:
        # All but a row's first token are learned.
        supervised = sum(len(row.tokens) - 1 for batch in batches[:group] for row in batch)
        seconds = [time.wall_seconds for time in times[str(group)]]
        rates[group], medians[group] = supervised / min(seconds), supervised / statistics.median(seconds)
    best = max(rates, key=lambda group: rates[group])
    return {
        "joint_tokens_per_second": rates[best],
        "joint_median_tokens_per_second": max(medians.values()),
        "joint_members": best,
        "sequential_seconds": [
            min(time.wall_seconds for time in times[f"alone-{number}"]) for number in range(len(shapes))
        ],
    }
