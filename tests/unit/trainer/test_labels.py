"""Which answers count as labels."""

import io
import json
from collections.abc import Iterator, Sequence

import pytest

from services.trainer.data.labels import distinct_labels
from services.trainer.data.reading import read
from services.trainer.data.rows import Row, Turn


def labels_of(rows: Sequence[dict[str, object]]) -> int:
    return distinct_labels(read(io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())))


def test_labels_of_records_and_short_last_answers_are_counted_once_each() -> None:
    records: list[dict[str, object]] = [
        {"text": f"t{number}", "label": "pay" if number % 3 else " pay "} for number in range(9)
    ]
    assert labels_of([*records, {"text": "t", "label": "ship"}]) == 2
    assert labels_of([{"prompt": f"p{number}", "completion": f"c{number % 4}"} for number in range(8)]) == 4


def test_what_a_record_calls_a_label_is_one_however_long_and_however_many() -> None:
    assert labels_of([{"text": "t", "label": f"{number}" * 70} for number in range(201)]) == 201


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "p", "completion": "yes"}, {"prompt": "q", "completion": "long " * 20}],
        [{"prompt": f"p{number}", "completion": f"c{number}"} for number in range(201)],
        [{"text": "a text to go on learning from"}],
        [{"text": "t", "output": {"amount": 3}}],
        [{"prompt": "p", "chosen": "yes", "rejected": "no"}],
    ],
    ids=["one is long", "too many", "texts", "records without a label", "pairs"],
)
def test_answers_that_are_no_labels_are_not_counted(rows: Sequence[dict[str, object]]) -> None:
    assert labels_of(rows) == 0


def test_nothing_is_read_behind_an_answer_that_is_no_label() -> None:
    def rows() -> Iterator[Row]:
        yield Row(1, (Turn("user", "why?"), Turn("assistant", "long " * 20)))
        pytest.fail("the rest of a large file was read")

    assert distinct_labels(rows()) == 0
