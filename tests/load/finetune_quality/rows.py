"""What a set is made of: rows in splits that share nothing, and how answers to them are counted.

Invariant: a set depends on its files, the seed and the scale alone, so that a run which was killed finds the same rows
again, and no row that is tested on was trained on or chosen by.
"""

import hashlib
import random
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from json import dumps

from tests.load.finetune_quality.scores import Measured


@dataclass(frozen=True, slots=True)
class Row:
    """A text and its answer; of a preference pair also the worse answer."""

    text: str
    answer: str
    rejected: str = ""

    @property
    def key(self) -> str:
        """What rows share that count as the same text."""
        return " ".join(re.findall(r"\w+", self.text.lower()))


@dataclass(frozen=True, slots=True)
class QualitySet:
    """A set, ready to be trained and tested on.

    `instruction` is the system message of what was trained, `told` that of what was not: it says what the answers of
    the training rows would have taught.  `measure` counts answers to rows; None for pairs, which are not answered.
    """

    name: str
    instruction: str
    told: str
    training: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]
    shots: tuple[Row, ...]
    epochs: int
    answer_tokens: int
    measure: Callable[[Sequence[Row], Sequence[str]], Measured] | None
    # Of labels: a linear model over the words says what the set is worth without any language model.
    labelled: bool = False

    @property
    def pairs(self) -> bool:
        """Whether preferences are learned."""
        return self.measure is None

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides what is trained and asked."""
        plain = {name: getattr(self, name) for name in ("name", "instruction", "told", "epochs", "answer_tokens")}
        splits = {
            name: [asdict(row) for row in getattr(self, name)] for name in ("training", "validation", "test", "shots")
        }
        return hashlib.sha256(dumps(plain | splits, sort_keys=True).encode()).hexdigest()[:16]


def distinct(rows: Iterable[Row], seen: Iterable[Row] = ()) -> list[Row]:
    """The first row of each text, without those whose text is in `seen`."""
    known = {row.key for row in seen}
    kept = []
    for row in rows:
        if row.key not in known:
            known.add(row.key)
            kept.append(row)
    return kept


def dealt(groups: Sequence[Sequence[Row]], counts: Sequence[int], seed: int) -> list[tuple[Row, ...]]:
    """Splits that hold `counts` rows, as many of each group as can be, all different, in an order by the seed.

    Raises ValueError when the groups do not have so many.
    """
    chance = random.Random(seed)
    decks = [chance.sample(list(group), len(group)) for group in groups]
    splits = []
    for count in counts:
        split: list[Row] = []
        while len(split) < count:
            filled = [deck for deck in decks if deck]
            if not filled:
                raise ValueError(f"the set has too few rows: {sum(counts)} are wanted")
            # The last round deals to some of the groups only: by chance, not always to the first ones.
            split += [deck.pop() for deck in chance.sample(filled, min(len(filled), count - len(split)))]
        splits.append(tuple(chance.sample(split, len(split))))
    return splits


def grouped(rows: Iterable[Row], by: Callable[[Row], Hashable]) -> list[list[Row]]:
    """Rows by what `by` says of them, in the order in which that is first said."""
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return list(groups.values())
