"""A joint step over the least that it could cost: forward and backward of the same tokens through the bare base.

The bare base is transformers' own model on the tokens as one batch of equal rows, with gradients to the input
embeddings only and the bank's loss.  `own` is the bank's pass without any adapter: what of the step the adapters are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from services.trainer.bank import Bank, Segment
from services.trainer.bank.passes import packed
from services.trainer.bank.scores import log_probs
from services.trainer.data.examples import Example
from tests.load.trainer.joint_speed import slots, stepper
from tests.load.trainer.work import alternating, base, ratios, rows


def floor_figures(jobs: int, tokens: int, *, rounds: int = 3) -> dict[str, Any]:
    """The step over the floor, by wall and CPU, and over the bank's own pass without adapters."""
    batches = [[row] for row in rows(jobs, tokens)]
    bank = Bank(base())
    plain = [row for batch in batches for row in batch]
    times = alternating(
        {"step": stepper(bank, slots(bank, jobs), batches), "floor": bare(base(), plain), "own": own(bank, plain)},
        rounds=rounds,
    )
    wall, cpu, each = ratios(times["step"], times["floor"])
    own_wall, own_cpu, _ = ratios(times["step"], times["own"])
    return {
        "joint_floor_ratio": wall,
        "joint_floor_cpu_ratio": cpu,
        "floor_tokens_per_second": jobs * tokens / min(time.wall_seconds for time in times["floor"]),
        "rounds": each,
        "own_floor_ratio": own_wall,
        "own_floor_cpu_ratio": own_cpu,
    }


def bare(model: Any, batch: list[Example]) -> Callable[[], None]:
    """Forward and backward of transformers' model, its weights frozen."""
    model.requires_grad_(False)
    model.eval()
    tokens = torch.tensor([row.tokens for row in batch])

    def step() -> None:
        embedded = model.get_input_embeddings()(tokens).requires_grad_()
        hidden = model.get_decoder()(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, :-1]
        head = model.get_output_embeddings()
        following = tokens[:, 1:].flatten()
        (-log_probs(hidden.flatten(0, 1), following, head.weight, head.bias, trains=True).mean()).backward()

    return step


def own(bank: Bank, batch: list[Example]) -> Callable[[], None]:
    """Forward and backward of the bank's pass, without a slot in it."""

    def step() -> None:
        running = dataclasses.replace(packed([Segment(None, batch, False)], bank._kernels), trains=True)
        hidden = bank._hidden(running)[0].index_select(0, running.predicting)
        head = bank._base.get_output_embeddings()
        (-log_probs(hidden, running.following, head.weight, head.bias, trains=True).mean()).backward()

    return step
