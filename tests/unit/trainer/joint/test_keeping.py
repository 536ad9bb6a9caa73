"""What is written behind a worker's back: nothing of a job that is gone, and nothing half done."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

from services.chassis.errors import Failure, Reason
from services.chassis.files import RESERVE_BYTES
from services.trainer import checkpoints
from services.trainer.bank import SlotSpec
from services.trainer.job import Progress
from services.trainer.joint.held import Held
from services.trainer.joint.keeping import Keeper, Kept, Result, Snapshot, Task
from services.trainer.peft_layout import CONFIG, WEIGHTS
from services.trainer.work import CHECKPOINTS, RESULT, RESULT_MANIFEST, Line, Said
from tests.small_disk import small_disk
from tests.unit.trainer.joint.company import company, same

SNAPSHOT = Snapshot({"slot.weights": torch.ones(4)}, {}, Progress(step=3, total_steps=9))


def kept(held: Held, task: Task = SNAPSHOT, *, at: checkpoints.WritePoint = lambda _: None) -> list[Kept]:
    """Have a snapshot, or something else, written."""
    told: list[Kept] = []
    keeper = Keeper(told.append, most_bytes=1, at=at)
    keeper.put(held, task)
    keeper.close()
    keeper.run()
    return told


def held_in(folder: Path) -> Held:
    (folder / CHECKPOINTS).mkdir(parents=True)
    return Held("a", "t", folder, epoch=1)


def test_a_snapshot_is_a_checkpoint_when_it_is_said_to_be(tmp_path: Path) -> None:
    (said,) = kept(held_in(tmp_path))
    found = checkpoints.newest(tmp_path / CHECKPOINTS)
    assert found is not None
    assert said.line == Line(Said.CHECKPOINT, SNAPSHOT.progress, size_bytes=found.size_bytes)
    assert torch.equal(checkpoints.load_tensors(found)["slot.weights"], torch.ones(4))


def test_nothing_is_written_of_a_job_that_is_gone(tmp_path: Path) -> None:
    held = held_in(tmp_path)
    held.gone = True
    assert kept(held) == []
    assert checkpoints.newest(tmp_path / CHECKPOINTS) is None


def test_a_disk_that_fills_up_within_a_write_leaves_nothing_of_it(tmp_path: Path) -> None:
    def at(point: str) -> None:
        if point == "tensors written":
            raise Failure(Reason.DISK_FULL, what="the training jobs")

    held = held_in(tmp_path)
    (said,) = kept(held, at=at)
    assert said.refusal is not None
    assert said.refusal.reason == "DISK_FULL"
    assert held.gone
    assert not list((tmp_path / CHECKPOINTS).rglob("tmp-*"))


def test_an_adapter_is_written_as_peft_and_the_engine_read_it(tmp_path: Path, base: Path) -> None:
    from transformers import AutoModelForCausalLM

    bank = company(base).bank
    slot = bank.open(SlotSpec(rank=4, alpha=8, rslora=True))
    result = Result(slot.adapter(), bank.adapter_config(slot, "tiny"), {"rows": 8}, Progress(step=9, total_steps=9))
    held = held_in(tmp_path)
    (said,) = kept(held, result)
    assert said == Kept(held, Line(Said.DONE, result.progress), ended=True)
    folder = tmp_path / RESULT
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, CONFIG, RESULT_MANIFEST}
    tensors = load_file(folder / WEIGHTS)
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())
    # Two layers of seven linear modules, A and B of each.
    assert len(tensors) == 28
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (4, 32)
    written = (folder / CONFIG).read_text()
    assert '"use_rslora": true' in written
    assert '"base_model_name_or_path": "tiny"' in written
    assert str(base) not in written
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16), str(folder))
    assert read.peft_config["default"].r == 4
    assert same(get_peft_model_state_dict(read, save_embedding_layers=False), tensors)


RESULT_OF = Result({"a": torch.ones(4)}, {}, {}, SNAPSHOT.progress)


@pytest.mark.parametrize(
    ("task", "point"),
    [
        *((SNAPSHOT, point) for point in ("folder made", "tensors written", "state written", "folder synced")),
        (SNAPSHOT, "folder renamed"),
        (SNAPSHOT, "old removed"),
        (RESULT_OF, "result written"),
        (RESULT_OF, "result synced"),
    ],
)
def test_a_job_whose_folder_goes_within_a_write_leaves_alone(tmp_path: Path, task: Task, point: str) -> None:
    """Whoever cancels a job has its folder removed, which may be before its worker has heard of it."""
    held = held_in(tmp_path / "a")
    said = kept(held, task, at=lambda reached: shutil.rmtree(held.folder) if reached == point else None)
    assert said == [Kept(held, Line(Said.STOPPED), ended=True)]
    assert held.gone


def test_a_disk_that_is_full_under_the_tensors_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", f"{(RESERVE_BYTES >> 20) + 1}m") as disk:
        held = held_in(disk / "a")
        filler = disk / "filler"

        def at(point: str) -> None:
            if point == "folder made":
                # Somebody else's bytes, since it was looked for room.
                filler.write_bytes(bytes(shutil.disk_usage(disk).free - (1 << 19)))

        (said,) = kept(held, Snapshot({"slot.weights": torch.ones(1 << 18)}, {}, SNAPSHOT.progress), at=at)
        assert said.refusal is not None
        assert said.refusal.reason == "DISK_FULL"
        assert not list(held.folder.rglob("tmp-*"))
