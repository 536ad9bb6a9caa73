"""What is counted for a job's rows, beside what a member of the bank holds of them."""

import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.trainer.data.checking import Counted, check
from services.trainer.data.dataset_rows import Dataset
from services.trainer.data.examples import Example, Judged, Pair
from services.trainer.data.rows import Format
from services.trainer.job import Order, Progress
from services.trainer.joint.dataset import Rows, Splits, rows_of
from services.trainer.joint.encoding import read
from services.trainer.row_needs import Data, joint_row_bytes, reading_bytes
from services.trainer.settings import Keep, Objective, Settings
from services.trainer.work import REMEMBERED_LINES, Line, Said, Work
from tests.unit.trainer.joint.company import company, text

# Short rows have more around their tokens than long ones.
SHORT, LONG = (20_000, 12), (400, 900)


def example(number: int, length: int) -> Example:
    """Token ids that Python has no object of already."""
    begin = 1000 + number % 7
    return Example(tuple(range(begin, begin + length)), (False,) * (length // 2) + (True,) * (length - length // 2))


def made(objective: Objective, rows: int, length: int) -> tuple[Rows, Dataset]:
    """Rows, and the dataset that they would be of."""
    kind, sides = Format.CHAT, 1
    examples: Any = [example(number, length) for number in range(rows)]
    if objective is Objective.DPO:
        kind, sides = Format.PREFERENCE, 2
        examples = [Pair(one, example(number + 1, length)) for number, one in enumerate(examples)]
    if objective is Objective.KTO:
        kind = Format.UNPAIRED_PREFERENCE
        examples = [Judged(one, desirable=bool(number % 2)) for number, one in enumerate(examples)]
    tokens = rows * sides * length
    now = datetime.now(UTC)
    return rows_of(examples, length), Dataset("rows", 1, "", "rows.jsonl", kind, rows, 1, tokens, length, 0, now)


@pytest.mark.parametrize(("rows", "length"), [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("objective", [Objective.SUPERVISED, Objective.DPO, Objective.KTO])
def test_what_is_counted_is_at_least_what_a_member_holds_and_not_much_more(
    base: Path, objective: Objective, rows: int, length: int
) -> None:
    own = company(base)
    settings = Settings(
        rank=4, alpha=8, objective=objective, batch_rows=1, max_row_tokens=length, keep=Keep.LAST, generation_rows=8
    )
    (training, counted), (held_out, counted_beside) = (made(objective, count, length) for count in (rows, rows // 4))
    sent = training.encode(), held_out.encode()
    # What is made once for all is no member's.
    own.begun(settings, Splits(training, held_out))
    tracemalloc.start()
    try:
        splits = Splits(Rows.decode(sent[0], training.kind), Rows.decode(sent[1], training.kind))
        member = own.begun(settings, splits)
        said = [told(number) for number in range(REMEMBERED_LINES)]
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(said) == REMEMBERED_LINES
    assert member.unit is not None
    # A number of each sequence, where there is something to compare with: a tensor's memory is not traced.
    compared = sum(len(each.ends) for each in splits.by_name().values()) if objective.preference else 0
    order = Order("m", "rows", "", "tiny", "", settings, "", validation_dataset="others")
    found = joint_row_bytes(order, Data(counted, counted_beside))
    assert held + compared * 4 <= found <= 2 * held


def test_what_is_counted_for_reading_is_at_least_what_it_takes(tmp_path: Path, base: Path) -> None:
    own = company(base)
    path = tmp_path / "rows.jsonl"
    path.write_text(
        text([{"prompt": f"What is number {number}?", "completion": "It is. " * 20} for number in range(500)])
    )
    with path.open("rb") as file:
        counted = check(file, own.encoder, None, lambda _: None)
    assert isinstance(counted, Counted)
    settings = Settings(rank=4, keep=Keep.LAST)
    work = Work(str(base), "tiny", str(path), settings, threads=1, data_dir=str(tmp_path))
    read(work, own.encoder)
    tracemalloc.start()
    try:
        sent = read(work, own.encoder).training.encode()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    counts = (counted.rows, 1, counted.tokens, counted.max_row_tokens, counted.supervised_tokens)
    dataset = Dataset("rows", 1, "", "rows.jsonl", counted.format, *counts, datetime.now(UTC))
    order = Order("m", "rows", "", "tiny", "", settings, "")
    # Whoever takes it has it twice for a moment.
    assert peak + 2 * len(sent) <= reading_bytes(order, Data(dataset)) <= 4 * peak


def told(number: int) -> Line:
    """A step as it is remembered."""
    line = Line.decode(
        Line(Said.STEP, Progress(1000 + number, 5000, 10**6 + number, number / 7), 1 / 3, 1 / 9).encode()
    )
    assert line is not None
    assert sys.getsizeof(line)
    return line
