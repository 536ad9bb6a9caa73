"""Datasets of records as jobs train on them: rendered in one place, for checks, previews, training and evaluation."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from services.trainer import material
from services.trainer.data.examples import ChatEncoder, Example
from services.trainer.data.rows import Problem, Row, Text
from services.trainer.joint import encoding
from services.trainer.recipes.reading import read
from services.trainer.settings import Settings
from services.trainer.work import Work


def lines(*rows: dict[str, Any]) -> io.BytesIO:
    return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


LABELS = [{"text": f"Number {number}.", "label": "even" if number % 2 else "odd"} for number in range(6)]


def answers(*rows: dict[str, Any], recipe: str = "") -> list[str]:
    found = [row for row in read(lines(*rows), recipe) if isinstance(row, Row)]
    assert len(found) == len(rows)
    return [row.turns[-1].content for row in found]


def test_rows_that_are_no_records_are_as_they_were_written() -> None:
    assert list(read(lines({"text": "Once."}), "classify")) == [Text(1, "Once.")]


def test_records_become_what_they_are_plainly_meant_for_or_what_the_recipe_says() -> None:
    assert answers(*LABELS[:2]) == ["odd", "even"]
    assert answers(*LABELS[:2], recipe="classify:letters") == ["B", "A"]
    assert answers({"text": "Play it.", "output": {"intent": "play"}}) == ['{"intent": "play"}']
    assert answers({"text": "hi", "output": "Good day."}) == ["Good day."]


def test_a_bad_record_is_named_and_those_behind_it_are_read() -> None:
    found = list(read(lines(LABELS[0], {"text": "a"}, LABELS[1])))
    assert [(type(row), row.line) for row in found] == [(Row, 1), (Problem, 2), (Row, 3)]


@pytest.fixture
def work(base: Path, tmp_path: Path) -> Work:
    """A job that sorts by letters and is evaluated on a file with one of the labels."""
    training, held_out = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    training.write_bytes(lines(*LABELS).getvalue())
    held_out.write_bytes(lines(LABELS[0]).getvalue())
    return Work(
        str(base),
        "tiny",
        str(training),
        Settings(),
        threads=1,
        data_dir=str(tmp_path),
        validation_path=str(held_out),
        recipe="classify:letters",
    )


def test_jobs_of_all_kinds_train_on_rendered_records_with_the_letters_of_what_they_train_on(work: Work) -> None:
    encoder = ChatEncoder.load(Path(work.base_folder))
    (held_out,) = material.read(material.Source.of(work), encoder).validation
    assert isinstance(held_out, Example)
    learned = [token for token, said in zip(held_out.tokens, held_out.supervised, strict=True) if said]
    assert encoder.tokenizer.decode(learned) == "B<|im_end|>"
    joint = encoding.read(work, encoder)
    assert joint.held_out is not None
    assert joint.held_out.sequence(0) == held_out
