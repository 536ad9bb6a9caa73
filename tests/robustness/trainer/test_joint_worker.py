"""What a worker promises of single jobs: order of its words, stopping, cancelling, full disks, hostile templates."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from services.chassis import process_identity
from services.chassis.files import RESERVE_BYTES
from services.chassis.model_cache import read_digest
from services.trainer import checkpoints
from services.trainer.settings import Settings
from services.trainer.work import CHECKPOINTS, RESULT, Command, Do, Line, Said, Work
from tests.small_disk import small_disk
from tests.tiny_model import TinyModel
from tests.unit.trainer.joint.company import PLAIN, text
from tests.unit.trainer.joint.workers import Bench, Running, digest, is_last, join
from tests.unit.trainer.later_release import of_a_later_format
from tests.unit.trainer.old_formats import write_first
from tests.unit.trainer.tiny import TEMPLATE

SETTINGS = Settings(rank=4, alpha=8, batch_rows=3, epochs=3, learning_rate=1e-2, checkpoint_steps=3)
LONG = replace(SETTINGS, epochs=3000, checkpoint_steps=1000)
ROWS = text(PLAIN)


def of(worker: Running, job: str) -> list[Line]:
    return [line for line in worker.said if line.job == job]


def stepped(worker: Running, job: str, step: int = 1) -> None:
    worker.until(lambda line: line.said is Said.STEP and line.job == job and line.progress.step >= step)


def ended(worker: Running, job: str) -> Line:
    return worker.until(lambda line: is_last(line) and line.job == job)


def test_a_job_is_told_of_in_order_under_its_lease_and_its_time_is_counted(bench: Bench) -> None:
    folder = bench.job("a", replace(SETTINGS, validation_ratio=0.3), ROWS)
    worker = bench.worker()
    worker.tell(join(folder, epoch=7))
    worker.until(is_last)
    told = [(line.said, line.progress.step) for line in of(worker, "a")]
    # Written behind the worker's back: at any time after its step.
    told.remove((Said.CHECKPOINT, 3))
    assert told == [
        (Said.STARTED, 0),
        (Said.STEP, 1),
        (Said.STEP, 2),
        (Said.EVALUATION, 2),
        (Said.STEP, 3),
        (Said.STEP, 4),
        (Said.EVALUATION, 4),
        (Said.STEP, 5),
        (Said.STEP, 6),
        (Said.EVALUATION, 6),
        (Said.CHECKPOINT, 6),
        (Said.DONE, 6),
    ]
    assert {line.epoch for line in of(worker, "a")} == {7}
    step = next(line for line in worker.said if line.said is Said.STEP)
    assert step.tokens_per_second > 0
    # A process with torch and a base in it, beside which the job's own is nothing.
    assert step.memory_bytes > 100 << 20
    worker.end()
    used = [line for line in worker.said if line.said is Said.USAGE]
    assert sum(sum(line.seconds.values()) for line in used) <= sum(line.busy_seconds for line in used)
    # Also what its last steps took: after its last word nothing is charged to it.
    done = next(place for place, line in enumerate(worker.said) if line.said is Said.DONE)
    assert used
    assert all(line in worker.said[:done] for line in used)
    assert worker.said[0].said is Said.READY
    facts = json.loads((folder / RESULT / "result.json").read_text())
    assert (facts["rows"], facts["threads"]) == (6, 1)
    assert facts["dataset_rows"] == facts["rows"] + facts["validation"]["rows"]
    assert facts["weights_step"] in (2, 4, 6)
    assert [found["step"] for found in facts["evaluations"]] == [2, 4, 6]


def test_stopped_jobs_hold_a_checkpoint_of_their_last_step_and_an_end_stops_all(bench: Bench) -> None:
    folders = {name: bench.job(name, LONG, ROWS) for name in ("a", "b")}
    worker = bench.worker()
    for folder in folders.values():
        worker.tell(join(folder))
    stepped(worker, "a")
    worker.tell(Command(Do.STOP, job="a", epoch=1))
    stopped = ended(worker, "a")
    assert stopped.said is Said.STOPPED
    steps = [line.progress.step for line in of(worker, "a") if line.said is Said.STEP]
    assert stopped.progress.step == steps[-1]
    worker.end()
    for name, folder in folders.items():
        assert of(worker, name)[-1].said is Said.STOPPED
        found = checkpoints.newest(folder / CHECKPOINTS)
        assert found is not None
        assert found.progress == of(worker, name)[-1].progress


def test_a_base_that_is_edited_between_two_workers_is_not_trained_on_until_it_is_what_it_was(
    bench: Bench, tmp_path: Path
) -> None:
    undisturbed, base = bench.job("undisturbed", SETTINGS, ROWS), Path(shutil.copytree(bench.base, tmp_path / "base"))
    ordered, weights = read_digest(base), base / "model.safetensors"
    whole, other = weights.read_bytes(), TinyModel(seed=5).files()["model.safetensors"]
    folder = bench.job("struck", SETTINGS, ROWS, base_folder=str(base), base_digest=ordered)
    worker = bench.worker(base)
    for job in (undisturbed, folder):
        worker.tell(join(job))
        assert ended(worker, job.name).said is Said.DONE
    # As if it had been killed before its end.
    shutil.rmtree(folder / RESULT)
    worker.end()
    weights.write_bytes(other)
    second = bench.worker(base, ordered)
    second.tell(join(folder, epoch=2))
    refused = ended(second, "struck")
    assert (refused.said, refused.reason, refused.epoch) == (Said.REFUSED, "BASE_CHANGED", 2)
    assert ordered in refused.message
    assert read_digest(base) in refused.message
    assert not (folder / RESULT).exists()
    # It ends by itself, so that the next one looks anew.
    assert [line.said for line in second.lines()] == []
    weights.write_bytes(whole)
    third = bench.worker(base, ordered)
    third.tell(join(folder, epoch=3))
    assert ended(third, "struck").said is Said.DONE
    third.end()
    assert digest(folder) == digest(undisturbed)


def test_who_goes_on_says_the_steps_of_its_checkpoint_again_before_it_starts(bench: Bench) -> None:
    folder = bench.job("a", LONG, ROWS)
    first = bench.worker()
    first.tell(join(folder))
    stepped(first, "a", 2)
    first.end()
    told = [line for line in of(first, "a") if line.said is Said.STEP]
    second = bench.worker()
    second.tell(join(folder, epoch=2))
    second.until(lambda line: line.said is Said.STARTED)
    *again, checkpoint, _ = [line for line in of(second, "a") if line.said is not Said.MESSAGE]
    second.end()
    # A trainer that was killed has heard none of it, perhaps.
    assert [(line.said, line.progress) for line in again] == [(line.said, line.progress) for line in told]
    assert [line.learning_rate for line in again] == [line.learning_rate for line in told]
    assert (checkpoint.said, checkpoint.progress) == (Said.CHECKPOINT, told[-1].progress)


def test_sigterm_ends_as_an_end_does(bench: Bench) -> None:
    worker = bench.worker()
    worker.tell(join(bench.job("a", LONG, ROWS)))
    stepped(worker, "a")
    os.kill(worker.pid, signal.SIGTERM)
    assert ended(worker, "a").said is Said.STOPPED
    assert not list(worker.lines())
    worker.end()


def test_a_torn_last_command_is_no_command(bench: Bench) -> None:
    worker = bench.worker()
    worker.tell(join(bench.job("a", LONG, ROWS)))
    stepped(worker, "a")
    worker.commands.write(Command(Do.DROP, job="a", epoch=1).encode()[:-3])
    worker.end()
    assert of(worker, "a")[-1].said is Said.STOPPED
    assert checkpoints.newest(bench.root / "jobs" / "a" / CHECKPOINTS) is not None


def test_a_job_cancelled_while_it_stops_is_let_go_and_its_neighbour_goes_on(bench: Bench) -> None:
    worker = bench.worker()
    worker.tell(join(bench.job("a", replace(LONG, micro_batch_tokens=1), ROWS)))
    worker.tell(join(bench.job("b", replace(LONG, micro_batch_tokens=1), ROWS)))
    stepped(worker, "b")
    worker.tell(Command(Do.STOP, job="a", epoch=1))
    worker.tell(Command(Do.DROP, job="a", epoch=1))
    assert ended(worker, "a").said is Said.STOPPED
    before = len(worker.said)
    stepped(worker, "b", max(line.progress.step for line in of(worker, "b")) + 2)
    assert not [line for line in worker.said[before:] if line.job == "a"]
    worker.end()


def test_commands_under_an_earlier_lease_change_nothing_and_a_later_one_takes_over(bench: Bench) -> None:
    folder = bench.job("a", LONG, ROWS)
    worker = bench.worker()
    worker.tell(join(folder, epoch=2))
    stepped(worker, "a")
    for command in (Command(Do.STOP, job="a", epoch=1), Command(Do.DROP, job="a", epoch=1), join(folder, epoch=2)):
        worker.tell(command)
    stepped(worker, "a", 10)
    worker.tell(join(folder, epoch=3))
    worker.until(lambda line: line.said is Said.STARTED and line.epoch == 3)
    # Nothing was written under the second lease, so all is done again.
    assert worker.until(lambda line: line.said is Said.STEP and line.epoch == 3).progress.step == 1
    worker.end()
    assert [line.epoch for line in of(worker, "a") if is_last(line)] == [2, 3]


def test_a_worker_whose_lease_went_to_another_writes_nothing_and_says_nothing(bench: Bench) -> None:
    folder = bench.job("a", replace(LONG, checkpoint_steps=20), ROWS)
    neighbour = bench.job("b", SETTINGS, ROWS)
    worker = bench.worker()
    worker.tell(join(folder))
    stepped(worker, "a")
    checkpoints.lease_folder(folder / CHECKPOINTS, 2)
    stepped(worker, "a", 20)
    worker.tell(join(neighbour))
    assert worker.until(is_last).job == "b"
    worker.end()
    assert not [line for line in of(worker, "a") if is_last(line)]
    assert checkpoints.newest(folder / CHECKPOINTS) is None


def test_a_held_job_stops_at_its_step_and_goes_on_to_the_bits_of_one_that_was_not(bench: Bench) -> None:
    folder, free = bench.job("held", SETTINGS, ROWS, hold_step=4), bench.job("free", SETTINGS, ROWS)
    worker = bench.worker()
    worker.tell(join(folder))
    held = ended(worker, "held")
    assert (held.said, held.progress.step) == (Said.STOPPED, 4)
    replace(Work.read(folder), hold_step=0).write(folder)
    for each in (join(folder, epoch=2), join(free)):
        worker.tell(each)
    assert worker.until(is_last).said is worker.until(is_last).said is Said.DONE
    worker.end()
    assert digest(folder) == digest(free)


def test_a_full_disk_pauses_the_job_that_lies_on_it_and_its_checkpoint_stands(bench: Bench) -> None:
    with small_disk(bench.root / "small", f"{(RESERVE_BYTES >> 20) + 32}m") as small:
        on_it = replace(bench, root=small)
        folder = on_it.job("full", replace(LONG, checkpoint_steps=10), ROWS)
        other = bench.job("other", LONG, ROWS)
        worker = bench.worker()
        worker.tell(join(folder))
        worker.tell(join(other))
        worker.until(lambda line: line.said is Said.CHECKPOINT)
        (small / "filler").write_bytes(bytes(36 << 20))
        refused = ended(worker, "full")
        assert (refused.said, refused.reason) == (Said.REFUSED, "DISK_FULL")
        kept = checkpoints.newest(folder / CHECKPOINTS)
        assert kept is not None
        assert not list((folder / CHECKPOINTS).rglob("tmp-*"))
        # It may not have begun: the job on the small disk was there first.
        stepped(worker, "other", max((line.progress.step for line in of(worker, "other")), default=0) + 1)
        (small / "filler").unlink()
        worker.tell(join(folder, epoch=2))
        started = worker.until(lambda line: line.said is Said.STARTED and line.epoch == 2)
        assert started.progress.step == kept.progress.step
        worker.kill()


def test_a_dataset_with_nothing_to_learn_is_refused_and_cut_rows_are_named(bench: Bench) -> None:
    worker = bench.worker()
    worker.tell(join(bench.job("nothing", replace(SETTINGS, max_row_tokens=4), ROWS)))
    worker.tell(join(bench.job("cut", replace(SETTINGS, max_row_tokens=48), ROWS)))
    refused = ended(worker, "nothing")
    assert refused.reason == "DATASET_MALFORMED"
    assert "4 tokens" in refused.message
    ended(worker, "cut")
    worker.end()
    assert "48 tokens" in of(worker, "cut")[0].message


def test_what_does_not_fit_the_base_is_refused_alone(bench: Bench) -> None:
    wrong = {
        "query": (replace(SETTINGS, target_modules=("query",)), {}, "query"),
        "but query": (replace(SETTINGS, exclude_modules=("query",)), {}, "query"),
        "threads": (SETTINGS, {"threads": 2}, "2 threads"),
        "long": (replace(SETTINGS, max_row_tokens=4096), {}, "512"),
    }
    worker = bench.worker()
    for name, (settings, order, _) in wrong.items():
        rows = ROWS if name != "long" else text([{"prompt": "x" * 600, "completion": "y"}])
        worker.tell(join(bench.job(name, settings, rows, **order)))
    worker.tell(join(bench.job("right", SETTINGS, ROWS)))
    for name, (_, _, why) in wrong.items():
        refused = ended(worker, name)
        assert refused.reason == "SETTINGS_UNFIT"
        assert why in refused.message
    assert ended(worker, "right").said is Said.DONE
    worker.end()


def test_a_template_that_never_ends_fails_the_job_that_it_was_for(bench: Bench, tmp_path: Path) -> None:
    endless = "{% if 'endless' in messages[0].content %}{% for a in range(99999) %}{% for b in range(99999) %}"
    hostile = TinyModel(template=endless + "{% endfor %}{% endfor %}{% endif %}" + TEMPLATE).write(tmp_path / "base")
    worker = bench.worker(hostile, cpu_seconds=1.0)
    worker.tell(join(bench.job("before", LONG, ROWS)))
    worker.tell(join(bench.job("hostile", SETTINGS, text([{"prompt": "endless", "completion": "y"}]))))
    worker.tell(join(bench.job("after", SETTINGS, ROWS)))
    refused = ended(worker, "hostile")
    assert refused.reason == "SETTINGS_UNFIT"
    assert ended(worker, "after").said is Said.DONE
    # Others went on meanwhile.
    assert max(line.progress.step for line in of(worker, "before")) > 10
    worker.kill()


def test_a_base_that_no_job_can_share_refuses_each_in_words(bench: Bench, tmp_path: Path) -> None:
    base = TinyModel(changes={"logit_scale": 2.0}).write(tmp_path / "base")
    worker = bench.worker(base)
    worker.tell(join(bench.job("a", SETTINGS, ROWS), epoch=4))
    refused = ended(worker, "a")
    assert (refused.reason, refused.epoch) == ("SETTINGS_UNFIT", 4)
    assert "logit_scale" in refused.message
    worker.end()


def test_a_job_of_the_previous_release_goes_on_from_its_checkpoint(bench: Bench) -> None:
    folder = bench.job("old", SETTINGS, ROWS)
    worker = bench.worker()
    worker.tell(join(folder))
    ended(worker, "old")
    worker.end()
    first = first_format(folder)
    old = bench.job("older", SETTINGS, ROWS)
    # That release took exclusions that name nothing.
    vain = bench.job("vain", replace(SETTINGS, exclude_modules=("query",)), ROWS)
    shutil.copytree(first, vain / CHECKPOINTS)
    first.rename(old / CHECKPOINTS)
    worker = bench.worker()
    for name, begun in (("older", old), ("vain", vain)):
        worker.tell(join(begun))
        assert ended(worker, name).said is Said.DONE
    worker.end()
    said = of(worker, "older")
    assert "previous release" in said[0].message
    assert (said[1].said, said[1].progress.step) == (Said.STARTED, 6)
    assert digest(old) == digest(folder)


def test_training_gives_way_between_two_steps_to_whoever_serves_and_takes_over_when_nobody_does(bench: Bench) -> None:
    worker = bench.worker()
    worker.tell(join(bench.job("a", replace(SETTINGS, epochs=300), ROWS)))
    stepped(worker, "a")
    assert os.sched_getscheduler(worker.pid) == os.SCHED_OTHER

    def runs_as(policy: int) -> bool:
        """Whether it comes to that while it trains on."""
        worker.until(lambda line: is_last(line) or os.sched_getscheduler(worker.pid) == policy)
        return os.sched_getscheduler(worker.pid) == policy

    served = bench.root / "run" / "generator.json"
    served.parent.mkdir()
    served.write_text(json.dumps({"process": process_identity.own()}))
    assert runs_as(os.SCHED_IDLE)
    served.unlink()
    assert runs_as(os.SCHED_OTHER)
    assert not any(map(is_last, of(worker, "a")))
    worker.kill()


def test_a_job_that_a_later_release_has_trained_is_refused_and_does_not_begin_anew(bench: Bench) -> None:
    folder = bench.job("a", LONG, ROWS)
    worker = bench.worker()
    worker.tell(join(folder))
    stepped(worker, "a")
    worker.tell(Command(Do.STOP, job="a", epoch=1))
    ended(worker, "a")
    (kept,) = checkpoints.kept(folder / CHECKPOINTS)
    of_a_later_format(kept)
    worker.tell(join(folder, epoch=2))
    refused = ended(worker, "a")
    worker.end()
    assert (refused.said, refused.reason) == (Said.REFUSED, "CHECKPOINT_TOO_NEW")
    assert not [line for line in of(worker, "a") if line.epoch == 2 and line.said is Said.STARTED]
    assert kept.folder.exists()


def first_format(folder: Path) -> Path:
    """The job's checkpoint of step 6 as the previous release would have written it; returns its root."""
    from services.trainer.joint.admitting import spec_of

    (found,) = [kept for kept in checkpoints.kept(folder / CHECKPOINTS) if kept.progress.step == 6]
    tensors = checkpoints.load_tensors(found)
    base = model(folder)
    from services.trainer.bank import Bank

    slot = Bank(base).open(spec_of(SETTINGS, base))
    slot.restore({name.removeprefix("slot."): tensor for name, tensor in tensors.items()})
    return write_first(folder / "first", slot, found.progress).parent


def model(folder: Path) -> object:
    """The base of the job."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(Work.read(folder).base_folder, dtype=torch.bfloat16)


def test_training_goes_on_from_an_earlier_version_and_refuses_one_of_another_shape(bench: Bench) -> None:
    first = bench.job("first", SETTINGS, ROWS)
    worker = bench.worker()
    worker.tell(join(first))
    ended(worker, "first")
    settings = replace(SETTINGS, max_steps=1, learning_rate=1e-9)
    start = {"start_path": str(first / RESULT)}
    worker.tell(join(bench.job("second", settings, ROWS, **start)))
    worker.tell(join(bench.job("rank", replace(settings, rank=8), ROWS, **start)))
    worker.tell(join(bench.job("alpha", replace(settings, alpha=9), ROWS, **start)))
    worker.tell(join(bench.job("targets", replace(settings, target_modules=("q_proj",)), ROWS, **start)))
    words = {line.job: line for line in (worker.until(is_last) for _ in range(4))}
    worker.end()
    assert words["second"].said is Said.DONE
    before = load_file(first / RESULT / "adapter_model.safetensors")
    after = load_file(bench.root / "jobs" / "second" / RESULT / "adapter_model.safetensors")
    assert all(before[name].allclose(after[name], atol=1e-6) for name in before)
    for name, why in (("rank", "rank"), ("alpha", "lora_alpha"), ("targets", "modules")):
        assert (words[name].said, words[name].reason) == (Said.REFUSED, "SETTINGS_UNFIT")
        assert why in words[name].message
