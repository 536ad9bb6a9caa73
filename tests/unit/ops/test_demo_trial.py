"""The demo's trial trains what the trainer would."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.ops.demo import trial
from services.ops.demo.recipe import RECIPE
from services.ops.demo.scoring import FOLDER
from services.trainer.bank import Bank
from services.trainer.data.examples import ChatEncoder
from services.trainer.joint.encoding import read
from services.trainer.settings import Settings
from services.trainer.work import Work
from tests.unit.trainer.joint.company import company, same
from tests.unit.trainer.tiny import make_base

SETTINGS = Settings(
    rank=RECIPE["rank"], batch_rows=RECIPE["batch_rows"], learning_rate=RECIPE["learning_rate"], max_steps=5
)


def test_the_trial_ends_with_the_bits_of_a_job_with_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16)
    slot, facts = trial.trained(Bank(model), model, ChatEncoder.load(base), SETTINGS)
    own = company(base)
    work = Work(str(base), "tiny", str(FOLDER / "pairs.jsonl"), SETTINGS, threads=1, data_dir=str(tmp_path))
    member = own.begun(SETTINGS, read(work, own.encoder).training)
    own.run(member)
    assert same(slot.adapter(), member.result())
    assert (facts["pairs"], facts["steps"]) == (200, 5)
