"""The quality benchmark's way with the service: a job a rate, none twice, the best one's version kept."""

from pathlib import Path

import pytest
from trivium_client import Trivium

from services.trainer.settings import Method
from tests.contract.trainer.deployment import deployed
from tests.load.finetune_quality import deployment as benchmark
from tests.load.finetune_quality import training
from tests.load.finetune_quality.rows import QualitySet, Row
from tests.load.finetune_quality.scores import exact_match
from tests.load.finetune_quality.state import State
from tests.stack import eventually
from tests.unit.trainer.tiny import make_base

ROWS = tuple(Row(f"Where is number {number}?", "Left." if number % 2 else "Right.") for number in range(24))
TASK = QualitySet(
    name="doors",
    instruction="Say where.",
    told="Say where.",
    training=ROWS[:16],
    validation=ROWS[16:20],
    test=ROWS[20:],
    shots=ROWS[:2],
    # Long enough that a rate which is behind is stopped before it ends.
    epochs=60,
    answer_tokens=4,
    measure=lambda rows, given: exact_match([row.answer for row in rows], given),
)


def test_rates_are_swept_once_and_what_was_killed_goes_on_with_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first rate learns; a hundredth of it is behind at the middle.
    monkeypatch.setattr(training, "FACTORS", (3.0, 0.03))
    state = State(tmp_path / "doors")
    state.open(training.fingerprint(TASK, 0))
    # As the benchmark has it: a base that waits for further jobs would be waited for before each of them.
    settings = {"TRIVIUM_TRAINER_IDLE_SECONDS": "0"}
    base = make_base(tmp_path / "base")
    with deployed(tmp_path, base, settings, forking=True) as running, Trivium(data_dir=running.folder) as client:
        own = benchmark.Deployment(client, running.processes["trainer"].pid)
        # A forking trainer keeps the process that it forks from: it is quiet once nothing trains.
        monkeypatch.setattr(
            training, "wait_for_quiet", lambda _: eventually(lambda: not running.children(), "nothing trains")
        )
        best, behind = training.swept(own, state, TASK, Method.LORA, 0)
        assert best.rate > behind.rate
        assert best.steps == max(best.losses) == 120
        assert (best.why, behind.version) == ("", "")
        assert behind.why == "behind the best rate at the middle"
        assert best.wall_seconds > 0
        assert best.cpu_seconds > 0
        assert best.peak_bytes > 1 << 20
        jobs = len(list(client.jobs.list()))
        # Killed after the job was ordered and before anything of it was noted.
        for name in (f"trained-lora-{best.rate:g}", f"job-lora-{best.rate:g}"):
            (state.folder / f"{name}.json").unlink()
        again, _ = training.swept(own, state, TASK, Method.LORA, 0)
        assert len(list(client.jobs.list())) == jobs
        assert (again.version, again.losses) == (best.version, best.losses)
        weights = training.fetched(own, state.folder / "weights", again.version)
        assert again.stored_bytes == sum(path.stat().st_size for path in weights.iterdir())
        training.drop_others(own, [again])
        assert [version.version for version in client.models.versions("doors-lora")] == [again.version]


def test_a_folder_that_was_begun_with_other_rows_is_refused(tmp_path: Path) -> None:
    state = State(tmp_path / "doors")
    state.open(training.fingerprint(TASK, 0))
    state.open(training.fingerprint(TASK, 0))
    with pytest.raises(ValueError):
        state.open(training.fingerprint(TASK, 1))
