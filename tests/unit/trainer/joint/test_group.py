"""Which of the jobs of a worker steps next, by the shares it has for each, and what a step does not change."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil
import pytest
import torch

from services.trainer.joint.admitting import Admission
from services.trainer.joint.encoder import DatasetEncoder
from services.trainer.joint.group import Facts, Group
from services.trainer.joint.held import Held
from services.trainer.joint.keeping import Keeper, Snapshot, Task
from services.trainer.joint.preparing import Preparer
from services.trainer.scheduling.choosing import Step
from services.trainer.settings import Settings
from services.trainer.work import Command, Do, Line, Said, Work, WorkerOrder
from tests.unit.trainer.joint.company import PLAIN, Company, company, text
from tests.unit.trainer.joint.workers import InProcess, join

SETTINGS = Settings(rank=4, batch_rows=2, learning_rate=1e-3)
# One job a step, and a second for every token: so a test says in tokens how much time there is.
ONE_AT_A_TIME = Step(budget_tokens=1000, max_members=1, tokens_per_second=1.0)


@contextmanager
def opened(
    own: Company,
    root: Path,
    base: Path,
    said: list[Line],
    encoder: DatasetEncoder | None = None,
    keeper: Keeper | None = None,
) -> Iterator[tuple[Group, SimpleQueue[Any]]]:
    """A group at the beginning of time, and what its preparer has done."""
    order = WorkerOrder(str(base), "tiny", "sha256:0", 1, "bfloat16", str(root), 1 << 30)
    inbox: SimpleQueue[Any] = SimpleQueue()
    preparer = Preparer(encoder or InProcess(own.encoder), inbox.put, most_bytes=1 << 20)
    thread = threading.Thread(target=preparer.run)
    thread.start()
    try:
        yield (
            Group(
                own.bank,
                Admission(own.bank, own.base, order, lambda _: ""),
                preparer,
                keeper or Keeper(inbox.put, most_bytes=1 << 20),
                said.append,
                limits=ONE_AT_A_TIME,
                facts=Facts("0", {}, 1),
                now=lambda: 0.0,
            ),
            inbox,
        )
    finally:
        preparer.close()
        thread.join()


@contextmanager
def joined(tmp_path: Path, base: Path, tenants: Sequence[str]) -> Iterator[tuple[Group, list[Line]]]:
    """A group with a job of each tenant, named as it is, all alike; and what the group says."""
    said = list[Line]()
    rows = tmp_path / "rows.jsonl"
    rows.write_text(text(PLAIN))
    with opened(company(base), tmp_path, base, said) as (group, inbox):
        for name in tenants:
            folder = tmp_path / name
            Work(str(base), "tiny", str(rows), SETTINGS, threads=1, data_dir=str(tmp_path)).write(folder)
            group.take(replace(join(folder), tenant=name))
            group.take(inbox.get())
        yield group, said


def steps_of(said: Sequence[Line]) -> list[str]:
    return [line.job for line in said if line.said is Said.STEP]


def test_a_step_tells_the_memory_that_was_measured_of_the_process_and_no_arithmetic(tmp_path: Path, base: Path) -> None:
    with joined(tmp_path, base, ["a", "b"]) as (group, said):
        for _ in range(2):
            group.step()
        resident_bytes = psutil.Process().memory_info().rss
    told = {line.job: line.memory_bytes for line in said if line.said is Said.STEP}
    assert told.keys() == {"a", "b"}
    # Both in one process, which holds thousands of times what either takes.
    assert told["a"] == pytest.approx(resident_bytes, rel=0.5)
    assert told["b"] == pytest.approx(resident_bytes, rel=0.5)


def test_a_tenant_steps_by_its_weight_as_the_worker_is_told(tmp_path: Path, base: Path) -> None:
    with joined(tmp_path, base, ["a-light", "b-heavy"]) as (group, said):
        group.take(Command(Do.SHARES, weights={"a-light": 1.0, "b-heavy": 3.0}))
        for _ in range(4):
            group.step()
    assert Counter(steps_of(said)) == {"a-light": 1, "b-heavy": 3}


def test_rows_are_read_by_the_weights_that_the_worker_is_told(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr(Preparer, "share", lambda _, weights: told.append(dict(weights)))
    with joined(tmp_path, base, ["a"]) as (group, _):
        group.take(Command(Do.SHARES, weights={"a": 3.0}))
    assert told == [{"a": 3.0}]


def test_who_has_used_more_of_the_machine_by_the_books_waits(tmp_path: Path, base: Path) -> None:
    tenants = ["a-much", "b-little"]
    with joined(tmp_path, base, tenants) as (group, said):
        weights = dict.fromkeys(tenants, 1.0)
        group.take(Command(Do.SHARES, weights=weights, usage_seconds={"a-much": 500.0, "b-little": 0.0}))
        for _ in range(2):
            group.step()
    assert steps_of(said) == ["b-little"] * 2


def test_who_has_no_tokens_left_in_this_hour_steps_no_more(tmp_path: Path, base: Path) -> None:
    with joined(tmp_path, base, ["a-spent", "b-free"]) as (group, said):
        group.take(Command(Do.SHARES, weights={"a-spent": 9.0, "b-free": 1.0}, tokens_left={"a-spent": 0}))
        for _ in range(3):
            group.step()
    assert set(steps_of(said)) == {"b-free"}


def test_of_jobs_that_have_no_time_to_lose_the_one_with_the_nearest_deadline_steps_first(
    tmp_path: Path, base: Path
) -> None:
    own, said = company(base), list[Line]()
    once = int(own.rows(PLAIN, SETTINGS).lengths.sum())
    deadlines = {"a-shorter": (9, 17.0), "b-longer": (10, 11.0)}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(text(PLAIN))
    with opened(own, tmp_path, base, said) as (group, inbox):
        for name, (epochs, deadline) in deadlines.items():
            folder = tmp_path / name
            settings = replace(SETTINGS, epochs=epochs)
            Work(str(base), "tiny", str(rows), settings, threads=1, data_dir=str(tmp_path)).write(folder)
            group.take(join(folder, deadline=deadline * once))
            group.take(inbox.get())
        group.step()
    assert [line.job for line in said if line.said is Said.STEP] == ["b-longer"]


def test_a_job_that_is_to_stop_ends_its_step_also_when_its_tenant_has_no_tokens_left(
    tmp_path: Path, base: Path
) -> None:
    own, said = company(base), list[Line]()
    rows, folder = tmp_path / "rows.jsonl", tmp_path / "job"
    rows.write_text(text(PLAIN))
    # Each of the two rows of a step is a unit of its own.
    settings = replace(SETTINGS, micro_batch_tokens=1, epochs=1)
    Work(str(base), "tiny", str(rows), settings, threads=1, data_dir=str(tmp_path)).write(folder)
    with opened(own, tmp_path, base, said) as (group, inbox):
        group.take(join(folder))
        group.take(inbox.get())
        assert group.step()
        group.take(Command(Do.SHARES, weights={"t": 1.0}, tokens_left={"t": 0}))
        assert not group.step()
        group.take(Command(Do.STOP, job="job", epoch=1))
        assert group.busy
        assert group.step()
        assert not group.busy
    assert [line.progress.step for line in said if line.said is Said.STEP] == [1]


class NeverWrites(Keeper):
    """A writer that is so slow that every snapshot still waits."""

    def __init__(self) -> None:
        super().__init__(lambda _: None, most_bytes=1 << 20)
        self.snapshots: list[Snapshot] = []

    def put(self, held: Held, task: Task) -> None:
        if isinstance(task, Snapshot):
            self.snapshots.append(task)


def test_no_later_step_changes_a_snapshot_that_waits_to_be_written(tmp_path: Path, base: Path) -> None:
    keeper, rows, folder = NeverWrites(), tmp_path / "rows.jsonl", tmp_path / "job"
    rows.write_text(text(PLAIN))
    settings = replace(SETTINGS, checkpoint_steps=1)
    Work(str(base), "tiny", str(rows), settings, threads=1, data_dir=str(tmp_path)).write(folder)
    with opened(company(base), tmp_path, base, [], keeper=keeper) as (group, inbox):
        group.take(join(folder))
        group.take(inbox.get())
        assert group.step()
        waiting = keeper.snapshots[-1]
        tensors = {name: tensor.clone() for name, tensor in waiting.tensors.items()}
        assert group.step()
    assert waiting.progress.step == 1
    later = keeper.snapshots[-1]
    assert later.progress.step == 2
    assert any(not torch.equal(tensor, later.tensors[name]) for name, tensor in tensors.items())
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, waiting.tensors[name])] == []
