"""Which lessons are learned together.

What stands in a batch is wrong for every question of it but its own.  Invariant: no passage of a document that answers
a question counts as wrong for it; each lesson is learned once an epoch; all epochs have equally many batches.
"""

import random
from collections.abc import Sequence

from services.ops.tuning.mining import Lesson

Batch = list[int]


def planned(lessons: Sequence[Lesson], size: int, seed: int, epochs: int) -> list[list[Batch]]:
    """For each epoch batches of at most ``size`` numbers of lessons, the same for the same seed."""
    draws = random.Random(seed)
    plans = [_filled(lessons, size, draws.sample(range(len(lessons)), len(lessons))) for _ in range(epochs)]
    most = max(map(len, plans))
    for plan in plans:
        while len(plan) < most:
            largest = max(plan, key=len)
            plan.remove(largest)
            half = len(largest) // 2
            plan += [largest[:half], largest[half:]]
        draws.shuffle(plan)
    return plans


def _filled(lessons: Sequence[Lesson], size: int, order: Sequence[int]) -> list[Batch]:
    """Each lesson in the first batch that has room and holds nothing that is right for it, nor it for others."""
    batches: list[Batch] = []
    for number in order:
        fits = (it for it in batches if len(it) < size and not any(_clash(lessons[number], lessons[at]) for at in it))
        found = next(fits, None)
        if found is None:
            batches.append([number])
        else:
            found.append(number)
    return batches


def _clash(one: Lesson, other: Lesson) -> bool:
    return not (one.right.isdisjoint(other.passages) and other.right.isdisjoint(one.passages))
