"""Jobs that read the same rows alike hold them once, and no longer than one of them needs them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest

from services.trainer.joint.dataset import Splits
from services.trainer.joint.encoder import Encoded
from services.trainer.joint.sharing import Sharing
from services.trainer.settings import Settings
from services.trainer.work import Command, Do, Line, Work
from tests.unit.trainer.joint.company import PLAIN, company, text
from tests.unit.trainer.joint.test_group import opened
from tests.unit.trainer.joint.workers import InProcess, join

SETTINGS = Settings(rank=4, alpha=8, batch_rows=2)


class Counting:
    """Encodes in this process, and knows which rows are still held."""

    def __init__(self, encoder: Any) -> None:
        self._inner = InProcess(encoder)
        self.read: list[str] = []
        self.held: WeakSet[Splits] = WeakSet()

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        self.read.append(folder.name)
        encoded: Encoded = self._inner.encode(folder, size_bytes)
        self.held.add(encoded.splits)
        return encoded

    def close(self) -> None:
        pass


@pytest.fixture
def ordered(tmp_path: Path, base: Path) -> Callable[..., Path]:
    """Orders on the same file."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(text(PLAIN))

    def order(name: str, settings: Settings = SETTINGS, **rest: Any) -> Path:
        folder = tmp_path / name
        Work(str(base), "tiny", str(rows), settings, threads=1, data_dir=str(tmp_path), **rest).write(folder)
        return folder

    return order


def test_members_of_a_sweep_have_their_rows_once(base: Path, ordered: Callable[..., Path]) -> None:
    reader = Counting(company(base).encoder)
    sharing = Sharing(reader)
    first = sharing.encode(ordered("first"), 1)
    other = replace(SETTINGS, learning_rate=1e-4, rank=8, batch_rows=4, epochs=9)
    second = sharing.encode(ordered("second", other), 1)
    assert second.splits is first.splits
    assert (second.messages, second.facts) == (first.messages, first.facts)
    assert second.facts["dataset_rows"] == len(PLAIN)
    assert reader.read == ["first"]


def test_rows_that_would_be_read_otherwise_are_read(tmp_path: Path, base: Path, ordered: Callable[..., Path]) -> None:
    reader = Counting(company(base).encoder)
    sharing = Sharing(reader)
    copied = tmp_path / "copied.jsonl"
    copied.write_text(text(PLAIN))
    folders = [
        ordered("first"),
        ordered("shorter", replace(SETTINGS, max_row_tokens=500)),
        ordered("fewer", replace(SETTINGS, sample_rows=3)),
        ordered("seed", replace(SETTINGS, seed=7)),
        ordered("share", replace(SETTINGS, validation_ratio=0.5)),
        ordered("evaluated", validation_path=str(copied)),
    ]
    kept = [sharing.encode(folder, 1) for folder in folders]
    assert reader.read == [folder.name for folder in folders]
    assert len({id(one.splits) for one in kept}) == len(folders)


def test_rows_that_nobody_holds_any_more_are_read_again(base: Path, ordered: Callable[..., Path]) -> None:
    reader = Counting(company(base).encoder)
    sharing = Sharing(reader)
    sharing.encode(ordered("first"), 1)
    assert not reader.held
    sharing.encode(ordered("second"), 1)
    assert reader.read == ["first", "second"]


def test_a_job_that_leaves_in_the_middle_leaves_no_rows_behind(
    tmp_path: Path, base: Path, ordered: Callable[..., Path]
) -> None:
    own, said = company(base), list[Line]()
    reader = Counting(own.encoder)
    with opened(own, tmp_path, base, said, reader) as (group, inbox):
        group.take(join(ordered("first")))
        group.take(inbox.get())
        group.step()
        assert len(reader.held) == 1
        group.take(Command(Do.DROP, "first", epoch=1))
    assert not reader.held
