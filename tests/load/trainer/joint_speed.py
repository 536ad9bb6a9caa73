"""Many jobs in joint steps on the bank, against one job after another, and against a loop over adapters in one batch.

The sequential peer is plain PEFT at its best: the base resident, one adapter's modules whose parameters are exchanged for
the next job's, AdamW fused, the loss at supervised positions only.  PEFT's own `set_adapter` goes through every adapter of
every module: with fifty it takes a third of a step of 32 tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from services.trainer.bank import Bank, Segment, Slot, SlotSpec, Update
from services.trainer.data.examples import Example
from tests.load.trainer.work import ALPHA, RANK, RATE, Time, alternating, base, ratios, rows

NAIVE = "naive"


def joint_figures(jobs: int, tokens: int, *, rounds: int = 3, naive: bool = False) -> dict[str, Any]:
    """Tokens a second jointly over sequentially, by wall and by CPU, with each round's; one sequence a job a step."""
    batches = [[row] for row in rows(jobs, tokens)]
    bank = Bank(base())
    steps = {
        "joint": stepper(bank, slots(bank, jobs), batches),
        "sequential": sequential(jobs, batches),
    }
    if naive:
        loop = Bank(base(), uses_kernels=False)
        steps[NAIVE] = stepper(loop, slots(loop, jobs), batches)
    times = alternating(steps, rounds=rounds)
    wall, cpu, each = ratios(times["sequential"], times["joint"])
    found: dict[str, Any] = {
        f"joint_ratio_{tokens}": wall,
        f"joint_cpu_ratio_{tokens}": cpu,
        "rounds": each,
        "tokens_per_second": jobs * tokens / _least(times["joint"]),
        "sequential_tokens_per_second": jobs * tokens / _least(times["sequential"]),
    }
    if naive:
        found["naive_loop_ratio"] = ratios(times["sequential"], times[NAIVE])[0]
    return found


def slots(bank: Bank, jobs: int) -> list[Slot]:
    """So many adapters on all linear layers."""
    return [bank.open(SlotSpec(rank=RANK, alpha=ALPHA, seed=seed)) for seed in range(jobs)]


def stepper(bank: Bank, held: list[Slot], batches: list[list[Example]]) -> Callable[[], None]:
    """Forward, backward and update of all slots at once, each on its own batch."""

    def step() -> None:
        scores = bank.score([Segment(slot, batch, True) for slot, batch in zip(held, batches, strict=True)])
        bank.backward([-each.log_probs.mean() for each in scores])
        bank.update([Update(slot, RATE) for slot in held])

    return step


def sequential(jobs: int, batches: list[list[Example]]) -> Callable[[], None]:
    """A step of each job, one after another, on one resident base with PEFT's adapters switched."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base(), config)
    places = [module for name, module in model.named_modules() if name.endswith((".lora_A.default", ".lora_B.default"))]
    trained = [[torch.nn.Parameter(place.weight.detach().clone()) for place in places] for _ in range(jobs)]
    optimizers = [torch.optim.AdamW(parameters, lr=RATE, fused=True) for parameters in trained]

    def step() -> None:
        for parameters, optimizer, batch in zip(trained, optimizers, batches, strict=True):
            for place, parameter in zip(places, parameters, strict=True):
                place.weight = parameter
            supervised_loss(model.get_base_model(), batch).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return step


def supervised_loss(model: Any, batch: list[Example]) -> torch.Tensor:
    """Mean cross-entropy of a batch of equal lengths, all of it supervised."""
    tokens = torch.tensor([row.tokens for row in batch])
    hidden = model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    logits = model.get_output_embeddings()(hidden).float()
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def _least(times: list[Time]) -> float:
    return min(time.wall_seconds for time in times)
