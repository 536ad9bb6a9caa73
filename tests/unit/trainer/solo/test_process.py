"""The process of a solo job: an order in a folder, lines back, a result to register."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.chassis import process_identity, resources
from services.chassis.errors import Failure, Reason
from services.chassis.model_cache import read_digest
from services.trainer import checkpoints, material
from services.trainer.child import train
from services.trainer.conduct import Refused
from services.trainer.data.examples import ChatEncoder
from services.trainer.joint.encoder import Bounds, Encoder
from services.trainer.settings import Method, Objective, Settings
from services.trainer.work import CHECKPOINTS, RESULT, RESULT_MANIFEST, Exit, Line, Said, Work
from tests.peak_memory import measured
from tests.tiny_model import TEMPLATE, TinyModel
from tests.unit.trainer.joint.company import JUDGED, PAIRS, PLAIN
from tests.unit.trainer.joint.workers import InProcess
from tests.unit.trainer.later_release import of_a_later_format
from tests.unit.trainer.solo.small_jobs import with_settings

GIB = 1 << 30


def ordered(folder: Path, base: Path, settings: Settings, rows: list[dict[str, object]], epoch: int = 0) -> Path:
    """A job's folder with its data beside it."""
    data = folder.with_suffix(".jsonl")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Work(str(base), "tiny", str(data), settings, threads=1, data_dir=str(folder), epoch=epoch).write(folder)
    return folder


def conversations(count: int) -> list[dict[str, object]]:
    return [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(count)]


def test_a_solo_job_says_what_it_does_and_leaves_a_version_with_its_facts(tmp_path: Path, base: Path) -> None:
    settings = with_settings(validation_ratio=0.25, evaluation_steps=2, checkpoint_steps=2)
    folder = ordered(tmp_path / "job", base, settings, conversations(12))
    said: list[Line] = []
    assert train(folder, said.append, lambda: False) == Exit.DONE
    expected = [Said.STARTED, Said.STEP, Said.STEP, Said.EVALUATION, Said.CHECKPOINT, Said.STEP, Said.EVALUATION]
    assert [line.said for line in said] == [*expected, Said.CHECKPOINT]
    steps = [line for line in said if line.said is Said.STEP]
    assert all(line.tokens_per_second > 0 and line.gradient_norm > 0 for line in steps)
    assert steps[-1].memory_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    assert said[-2].evaluation["loss"] > 0
    assert said[-1].progress.best_step == 3
    facts = json.loads((folder / RESULT / RESULT_MANIFEST).read_text())
    assert (facts["rows"], facts["dataset_rows"], facts["validation"]["rows"]) == (9, 12, 3)
    assert (facts["weights_step"], facts["processes"]) == (3, 1)
    assert [evaluation["step"] for evaluation in facts["evaluations"]] == [2, 3]
    assert "trl" in facts["libraries"]
    assert (folder / RESULT / "model.safetensors").exists()
    assert (folder / RESULT / "tokenizer.json").exists()


def trained(folder: Path, say: Callable[[Line], None], stopping: Callable[[], bool], *rest: Any) -> int:
    """Train as the process does, but read the rows in this process: another one takes seconds to start."""
    encoder = InProcess(ChatEncoder.load(Path(Work.read(folder).base_folder)))
    return train(folder, say, stopping, *rest, encoder=encoder)


def edited(base: Path, at: int = -1) -> None:
    """Change a byte of the weights, where they lie."""
    weights = base / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[at] ^= 1
    weights.write_bytes(content)


def test_a_base_that_was_edited_since_its_job_was_ordered_is_not_trained_on(tmp_path: Path, base: Path) -> None:
    own = Path(shutil.copytree(base, tmp_path / "base"))
    folder = ordered(tmp_path / "job", own, with_settings(), conversations(12))
    replace(Work.read(folder), base_digest=read_digest(own)).write(folder)
    edited(own)
    said: list[Line] = []
    with pytest.raises(Refused) as refused:
        trained(folder, said.append, lambda: False)
    assert refused.value.reason == "BASE_CHANGED"
    assert (said, (folder / RESULT).exists()) == ([], False)
    edited(own)
    assert trained(folder, said.append, lambda: False) == Exit.DONE


def test_a_full_model_takes_no_file_of_a_base_that_was_edited_while_it_was_trained(tmp_path: Path, base: Path) -> None:
    own = Path(shutil.copytree(base, tmp_path / "base"))
    folder = ordered(tmp_path / "job", own, with_settings(), conversations(12))
    replace(Work.read(folder), base_digest=read_digest(own)).write(folder)

    def say(line: Line) -> None:
        if line.said is Said.STEP and line.progress.step == 1:
            (own / "tokenizer_config.json").write_text("{}")

    with pytest.raises(Failure) as failed:
        trained(folder, say, lambda: False)
    assert failed.value.reason is Reason.BASE_CHANGED
    assert not (folder / RESULT).exists()


def test_preference_rows_reach_the_job_and_a_stop_ends_it_with_a_checkpoint(tmp_path: Path, base: Path) -> None:
    settings = with_settings(method=Method.DORA, objective=Objective.DPO, batch_rows=1)
    folder = ordered(tmp_path / "job", base, settings, PAIRS[:2])
    said: list[Line] = []
    assert trained(folder, said.append, lambda: True) == Exit.STOPPED
    assert [line.said for line in said] == [Said.STARTED, Said.STEP, Said.CHECKPOINT]
    assert trained(folder, said.append, lambda: False) == Exit.DONE
    assert said[3].progress.step == 1


def test_a_process_whose_lease_went_to_another_leaves_no_result(tmp_path: Path, base: Path) -> None:
    folder = ordered(tmp_path / "job", base, with_settings(), conversations(4), epoch=1)

    def at(point: str) -> None:
        if point == "result synced":
            checkpoints.lease_folder(folder / CHECKPOINTS, 2)

    with pytest.raises(checkpoints.LeaseLost):
        trained(folder, lambda _: None, lambda: False, at)
    assert not (folder / RESULT).exists()
    assert not list(folder.glob("tmp-*"))


def test_a_job_does_not_begin_anew_where_a_later_release_has_trained_it(tmp_path: Path, base: Path) -> None:
    folder = ordered(tmp_path / "job", base, with_settings(), conversations(12), epoch=1)
    assert trained(folder, lambda _: None, lambda: True) == Exit.STOPPED
    (kept,) = checkpoints.kept(folder / CHECKPOINTS)
    of_a_later_format(kept)
    said: list[Line] = []
    with pytest.raises(Failure) as refused:
        trained(folder, said.append, lambda: False)
    assert refused.value.reason is Reason.CHECKPOINT_TOO_NEW
    assert said == []
    assert kept.folder.exists()


def test_a_solo_job_gives_way_between_two_steps_while_anybody_serves(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ordered(tmp_path / "job", base, with_settings(batch_rows=3), conversations(12))
    served = folder / "run" / "generator.json"
    served.parent.mkdir()
    idle: list[bool] = []
    told: list[tuple[Said, list[bool]]] = []

    def say(line: Line) -> None:
        told.append((line.said, list(idle)))
        match line.progress.step:
            case 1:
                served.write_text(json.dumps({"process": process_identity.own()}))
            case 3:
                served.unlink(missing_ok=True)

    def set_idle(now: bool, *, children: bool) -> None:
        assert children, "who encodes gives way, too"
        idle.append(now)

    monkeypatch.setattr(resources, "set_idle", set_idle)
    assert trained(folder, say, lambda: False) == Exit.DONE
    steps = [so_far for said, so_far in told if said is Said.STEP]
    assert steps == [[False], [False, True], [False, True], [False, True, False]]


def test_a_job_whose_files_cannot_be_read_for_now_says_what_the_system_said_and_is_no_crash(
    tmp_path: Path, base: Path
) -> None:
    folder = ordered(tmp_path / "job", base, with_settings(), conversations(3))
    rows = Path(Work.read(folder).dataset_path)
    rows.unlink()
    rows.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "services.trainer.child", folder], stdout=subprocess.PIPE, check=False
    )
    assert ended.returncode == Exit.LOST
    (line,) = map(Line.decode, ended.stdout.splitlines())
    assert line == Line(Said.LOST, message="an error of the system: Is a directory")


def test_rows_that_were_cut_are_named(tmp_path: Path, base: Path) -> None:
    long: dict[str, object] = {"prompt": "Why?", "completion": "x" * 300}
    folder = ordered(tmp_path / "job", base, with_settings(max_row_tokens=100), [*conversations(3), long])
    found = material.read(material.Source.of(Work.read(folder)), ChatEncoder.load(base))
    assert found.messages == ["Rows longer than 100 tokens, which were cut: 1, lines 4"]
    assert len(found.training) == 4


@pytest.fixture(scope="module")
def encoder(base: Path) -> Iterator[Encoder]:
    """The process that reads rows, started once."""
    made = Encoder(base)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("objective", "rows"),
    [
        (Objective.SUPERVISED, PLAIN),
        (Objective.CONTINUED, [{"text": "The ferry leaves at six, and comes back at nine."}] * 3),
        (Objective.DPO, PAIRS),
        (Objective.KTO, JUDGED),
        (Objective.KTO, PAIRS),
    ],
)
def test_rows_come_from_the_process_that_reads_them_as_they_would_be_read_here(
    tmp_path: Path, base: Path, encoder: Encoder, objective: Objective, rows: list[dict[str, object]]
) -> None:
    folder = ordered(tmp_path / "job", base, with_settings(objective=objective, max_row_tokens=60), rows)
    work = replace(Work.read(folder), validation_path=str(folder.with_suffix(".jsonl")))
    work.write(folder)
    found = encoder.encode(folder, material.size_bytes(work))
    expected = material.read(material.Source.of(work), ChatEncoder.load(base))
    assert found.splits.held_out is not None
    assert found.splits.training.examples() == expected.training
    assert found.splits.held_out.examples() == expected.validation
    assert list(found.messages) == expected.messages


def test_a_template_that_never_ends_is_ended_and_its_job_refused(tmp_path: Path) -> None:
    loop = "{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2
    endless = TinyModel(template=loop + TEMPLATE).write(tmp_path / "endless")
    folder = ordered(tmp_path / "job", endless, with_settings(), conversations(4))
    bounds = Bounds(cpu_seconds=0.5)
    with pytest.raises(Refused) as refused:
        train(folder, lambda _: None, lambda: False, encoder=Encoder(endless, bounds))
    assert refused.value.reason == "SETTINGS_UNFIT"


def test_a_template_that_fills_the_memory_fails_its_job_and_the_process_lives_to_say_so(tmp_path: Path) -> None:
    doubling = "{% set all = namespace(text='x') %}{% for a in range(40) %}{% set all.text = all.text ~ all.text %}"
    greedy = TinyModel(template=doubling + "{% endfor %}" + TEMPLATE).write(tmp_path / "greedy")
    folder = ordered(tmp_path / "job", greedy, with_settings(), conversations(4))
    # Where this fails, the machine is to stay.
    found = measured([sys.executable, "-m", "services.trainer.child", str(folder)], most_data_bytes=4 * GIB)
    assert found.status == Exit.REFUSED
    said = [Line.decode(raw) for raw in found.output.splitlines(keepends=True)]
    (refusal,) = said
    assert refusal is not None
    assert (refusal.said, refusal.reason) == (Said.REFUSED, "DATASET_UNCHECKED")
    assert "rendering it with the base's template takes more memory than it may" in refusal.message
    # Of whichever took most, this process or the one that read for it.
    assert found.peak_bytes < 2 * GIB


def test_a_job_that_diverges_and_one_whose_settings_do_not_fit_are_refused_by_name(tmp_path: Path, base: Path) -> None:
    for changes, reason in (
        ({"learning_rate": 1e30, "warmup_ratio": 0.0}, "TRAINING_DIVERGED"),
        ({"method": Method.DORA, "target_modules": ("query",)}, "SETTINGS_UNFIT"),
    ):
        folder = ordered(tmp_path / reason, base, with_settings(**changes), conversations(12))
        with pytest.raises(Refused) as refused:
            trained(folder, lambda _: None, lambda: False)
        assert refused.value.reason == reason


@pytest.mark.parametrize("method", [Method.FULL, Method.DORA, Method.QLORA])
def test_rows_past_the_positions_or_the_vocabulary_of_the_base_are_refused_before_it_is_loaded(
    tmp_path: Path, method: Method
) -> None:
    long = conversations(4)
    long[0]["prompt"] = "x" * 600
    for name, changes, rows, why in (
        ("long", {}, long, r"\b6\d\d\b.*\b512\b.*\bmax_row_tokens\b"),
        ("few words", {"vocab_size": 100}, conversations(4), r"\btoken \d{3}\b.*\b100\b"),
    ):
        base = TinyModel(changes=changes).write(tmp_path / name / "base")
        # Nobody looks at its weights.
        (base / "model.safetensors").unlink()
        settings = with_settings(method=method, max_row_tokens=4096, validation_ratio=0.0)
        folder = ordered(tmp_path / name / "job", base, settings, rows)
        said: list[Line] = []
        with pytest.raises(Refused, match=why) as refused:
            trained(folder, said.append, lambda: False)
        assert refused.value.reason == "SETTINGS_UNFIT"
        assert Said.STARTED not in [line.said for line in said]


def test_what_the_rows_themselves_fail_with_is_a_refusal_that_nobody_tries_again(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise IndexError("index out of range in self")

    monkeypatch.setattr("services.trainer.solo.run.train", unknown)
    folder = ordered(tmp_path / "job", base, with_settings(), conversations(4))
    with pytest.raises(Refused, match="index out of range") as refused:
        trained(folder, lambda _: None, lambda: False)
    assert refused.value.reason == "SETTINGS_UNFIT"
