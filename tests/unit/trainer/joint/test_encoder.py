"""A worker's datasets are read by a confined process of its own, and whatever becomes of that ends one job at most."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.trainer.conduct import Refused
from services.trainer.data.confined import ENVIRONMENT
from services.trainer.joint.encoder import Bounds, Encoder
from services.trainer.joint.encoding import read
from services.trainer.settings import Objective, Settings
from services.trainer.work import Work
from tests.tiny_model import TEMPLATE, TinyModel
from tests.unit.trainer.joint.company import PAIRS, PLAIN, company, text

SETTINGS = Settings(rank=4, validation_ratio=0.25)


def ordered(folder: Path, base: Path, rows: str, settings: Settings = SETTINGS) -> Path:
    """Write a job's order; return its folder."""
    folder.mkdir()
    (folder / "rows.jsonl").write_text(rows)
    Work(str(base), "tiny", str(folder / "rows.jsonl"), settings, threads=1, data_dir=str(folder)).write(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(base: Path) -> Iterator[Encoder]:
    """One whose process is started once, for all tests that it is enough for, by a trainer that has secrets."""
    made = Encoder(base)
    with pytest.MonkeyPatch.context() as surroundings:
        surroundings.setenv("TRIVIUM_TRAINER_DATABASE_URL", "postgresql://trainer:password@database/trainer")
        yield made
    made.close()


Make = Callable[..., Encoder]


@pytest.fixture
def made() -> Iterator[Make]:
    """Makes encoders whose processes end with the test."""
    with ExitStack() as kept:

        def make(base: Path, bounds: Bounds | None = None, **options: Any) -> Encoder:
            encoder = Encoder(base, bounds, **options)
            kept.callback(encoder.close)
            return encoder

        yield make


def child(base: Path) -> psutil.Process:
    """The encoding process for this base that was started last; other tests' children may have ended meanwhile."""
    ours = []
    for each in psutil.Process().children():
        with suppress(psutil.Error):
            if each.cmdline()[-1:] == [str(base)]:
                ours.append(each)
    return max(ours, key=lambda each: each.create_time())


@pytest.mark.parametrize(("objective", "rows"), [(Objective.SUPERVISED, PLAIN), (Objective.DPO, PAIRS)])
def test_rows_come_over_as_they_would_be_read_here(
    encoder: Encoder, base: Path, tmp_path: Path, objective: Objective, rows: list[dict[str, str]]
) -> None:
    folder = ordered(tmp_path / "job", base, text(rows), replace(SETTINGS, objective=objective))
    found, expected = encoder.encode(folder, 1000), read(Work.read(folder), company(base).encoder)
    assert expected.held_out is not None
    for ours, theirs in ((found.splits.training, expected.training), (found.splits.held_out, expected.held_out)):
        assert ours is not None
        assert ours.encode() == theirs.encode()
    assert found.messages == expected.messages
    assert found.splits.turn_ends == expected.turn_ends == (1,)


def test_the_process_knows_nothing_of_the_trainer_s_surroundings(encoder: Encoder, base: Path, tmp_path: Path) -> None:
    encoder.encode(ordered(tmp_path / "a", base, text(PLAIN)), 1000)
    assert child(base).environ().keys() == ENVIRONMENT.keys()


def test_a_file_that_cannot_be_read_at_present_is_the_systems_error_and_no_fault_of_the_dataset(
    encoder: Encoder, base: Path, tmp_path: Path
) -> None:
    folder = ordered(tmp_path / "a", base, text(PLAIN))
    rows = folder / "rows.jsonl"
    rows.unlink()
    rows.mkdir()
    with pytest.raises(IsADirectoryError):
        encoder.encode(folder, 0)
    rows.rmdir()
    with pytest.raises(FileNotFoundError):
        encoder.encode(folder, 0)


def test_the_process_is_kept_and_may_write_no_file(encoder: Encoder, base: Path, tmp_path: Path) -> None:
    encoder.encode(ordered(tmp_path / "a", base, text(PLAIN)), 1000)
    first = child(base)
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        assert first.rlimit(limit) == (0, 0)
    encoder.encode(ordered(tmp_path / "b", base, text(PLAIN)), 1000)
    assert child(base) == first
    encoder.close()
    assert not first.is_running()


def test_a_template_that_takes_too_long_ends_its_job_and_the_next_finds_a_new_process(
    made: Make, tmp_path: Path
) -> None:
    loop = "{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2
    slow = TinyModel(template="{% if 'slow' in messages[0].content %}" + loop + "{% endif %}" + TEMPLATE)
    base = slow.write(tmp_path / "base")
    looks: list[None] = []
    encoder = made(base, Bounds(cpu_seconds=1.0), keep=lambda: looks.append(None))
    assert len(encoder.encode(ordered(tmp_path / "a", base, text(PLAIN)), 1 << 20).splits.training) == 6
    looks.clear()
    with pytest.raises(Refused, match=r"\b1 s\b") as refused:
        encoder.encode(ordered(tmp_path / "b", base, text([{"prompt": "slow", "completion": "y"}])), 0)
    assert refused.value.reason == "SETTINGS_UNFIT"
    assert looks, "while it is waited for it is looked who serves"
    assert len(encoder.encode(ordered(tmp_path / "c", base, text(PLAIN)), 1 << 20).splits.training) == 6


def test_a_dataset_that_takes_too_much_memory_is_refused_with_what_to_do(
    made: Make, base: Path, tmp_path: Path
) -> None:
    encoder = made(base, Bounds(memory_bytes=8 << 20, memory_per_byte=0))
    long = text([{"prompt": "Why?", "completion": "word " * 20_000}] * 20)
    with pytest.raises(Refused, match=r"\bmemory\b") as refused:
        encoder.encode(ordered(tmp_path / "a", base, long), 0)
    assert refused.value.reason == "DATASET_UNCHECKED"


def test_a_process_that_does_nothing_is_given_up_and_the_job_read_by_another(
    made: Make, base: Path, tmp_path: Path
) -> None:
    encoder = made(base, Bounds(wall_factor=1 / 20))
    folder = ordered(tmp_path / "a", base, text(PLAIN))
    expected = encoder.encode(folder, 0)
    stuck = child(base)
    stuck.send_signal(signal.SIGSTOP)
    assert encoder.encode(folder, 0).splits.training.encode() == expected.splits.training.encode()
    assert child(base) != stuck


def test_a_process_that_cannot_start_refuses_the_job_in_words(made: Make, tmp_path: Path, base: Path) -> None:
    with pytest.raises(Refused) as refused:
        made(tmp_path / "no-base").encode(ordered(tmp_path / "a", base, text(PLAIN)), 0)
    assert refused.value.reason == "DATASET_UNCHECKED"
