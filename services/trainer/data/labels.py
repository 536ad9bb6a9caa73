"""The answers of a dataset whose answers are labels: called so by the record, or short, few, and each of them often.

Invariant: what is counted is what would be learned as the answer; where one row's answer is no label, nothing is.
"""

from collections import Counter
from collections.abc import Iterable

from services.trainer.data.rows import AnyRow, Labelled, Problem, Row

# A completion of more characters is an answer and no label; nor are there more labels than this, but in records, which
# say themselves what is one.
_MOST_CHARACTERS = 64
_MOST_LABELS = 200


class Labels:
    """Counts them, row by row."""

    def __init__(self) -> None:
        self._counts: Counter[str] | None = Counter()

    @property
    def possible(self) -> bool:
        """Whether the answers may be labels still; once they are none, further rows change nothing."""
        return self._counts is not None

    def add(self, row: AnyRow) -> None:
        """Count the row's answer."""
        answer, said = _answer_of(row), isinstance(row, Labelled)
        if self._counts is None or answer is None or (len(answer) > _MOST_CHARACTERS and not said):
            self._counts = None
            return
        self._counts[answer] += 1
        if len(self._counts) > _MOST_LABELS and not said:
            self._counts = None

    def counted(self) -> list[tuple[str, int]]:
        """Labels with their rows, most frequent first; none where the answers are no labels."""
        return self._counts.most_common() if self._counts is not None else []


def distinct_labels(rows: Iterable[AnyRow | Problem]) -> int:
    """How many labels there are among the rows, 0 where their answers are none."""
    labels = Labels()
    for row in rows:
        if not isinstance(row, Problem):
            labels.add(row)
        if not labels.possible:
            # Nothing of the rest of the file needs to be read.
            break
    return len(labels.counted())


def _answer_of(row: AnyRow) -> str | None:
    if isinstance(row, Row):
        return row.turns[-1].said.strip()
    if isinstance(row, Labelled) and "label" in row.fields:
        return str(row.fields["label"]).strip()
    return None
