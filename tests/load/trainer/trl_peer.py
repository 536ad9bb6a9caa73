"""One job alone on the bank, against TRL's SFTTrainer with PEFT on the same rows, batch and precision."""

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch

from services.trainer.bank import Bank
from services.trainer.data.examples import Example
from tests.load.trainer.joint_speed import slots, stepper
from tests.load.trainer.work import ALPHA, RANK, RATE, Time, base, ratios, rows


def trl_figures(batch_rows: int, tokens: int, *, steps: int = 4, rounds: int = 3) -> dict[str, Any]:
    """Tokens a second of the bank over TRL's, by wall and by CPU; `steps` optimizer steps a round, the first unmeasured.

    Both walk the same batches in the same order.  TRL's own start-up and end are left out: its time is from the end of
    its first step to the end of its last.
    """
    drawn = rows(batch_rows * steps, tokens)
    batches = [drawn[begin : begin + batch_rows] for begin in range(0, len(drawn), batch_rows)]
    bank = Bank(base())
    slot = slots(bank, 1)
    walk = [stepper(bank, slot, [batch]) for batch in batches]
    walk[0]()
    ours, theirs = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        for step in walk[1:]:
            step()
        ours.append(Time(time.perf_counter() - wall, time.process_time() - cpu))
        theirs.append(_by_trl(batches))
    by_wall, by_cpu, each = ratios(theirs, ours)
    measured = batch_rows * tokens * (steps - 1)
    return {
        "bank_one_ratio_trl": by_wall,
        "bank_one_cpu_ratio_trl": by_cpu,
        "rounds": each,
        "trl_tokens_per_second": measured / min(time.wall_seconds for time in theirs),
    }


def _by_trl(batches: Sequence[Sequence[Example]]) -> Time:
    """Seconds of a step on each of these batches, after the first."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from services.chassis.models import DEFAULT_BASE, resolve

    ends: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        """Notes when each step ended."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=base(torch.bfloat16),
            args=SFTConfig(
                output_dir=folder,
                max_steps=len(batches),
                per_device_train_batch_size=len(batches[0]),
                learning_rate=RATE,
                bf16=True,
                use_cpu=True,
                gradient_checkpointing=False,
                max_length=None,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                dataloader_drop_last=True,
                train_sampling_strategy="sequential",
            ),
            train_dataset=Dataset.from_dict({"input_ids": [list(row.tokens) for batch in batches for row in batch]}),
            processing_class=AutoTokenizer.from_pretrained(resolve(DEFAULT_BASE).path),
            peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
        )
        trainer.train()
    return Time(ends[-1][0] - ends[0][0], ends[-1][1] - ends[0][1])
