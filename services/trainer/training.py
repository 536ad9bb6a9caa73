"""The loop: rows through the model, a loss on what is supervised, one optimizer step after another.

Invariant: what a step does depends on the adapter, the optimizer, the generator and
the step's number alone, all of which a checkpoint holds; so stopping anywhere
and going on gives the bits that never stopping would have given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional

from services.trainer import adapter
from services.trainer.batches import micro_batches, plan
from services.trainer.data.examples import Example
from services.trainer.job import Progress
from services.trainer.settings import Schedule, Settings

_IGNORED = -100


class NotFinite(Exception):
    """Loss or gradient is no longer a number; what was trained before it is kept in the last checkpoint."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One optimizer step as people see it.  `gradient_norm` is before clipping."""

    progress: Progress
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one pass: all three tensors are [rows, tokens], padded on the right."""

    tokens: Tensor
    attention: Tensor
    labels: Tensor


def collate(examples: Sequence[Example]) -> Batch:
    """Pad rows to the longest of them; padding and unsupervised tokens are labelled -100."""
    width = max(len(example.tokens) for example in examples)
    tokens = torch.zeros(len(examples), width, dtype=torch.long)
    attention = torch.zeros_like(tokens)
    labels = torch.full_like(tokens, _IGNORED)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens[row, :length] = torch.tensor(example.tokens)
        attention[row, :length] = 1
        kept = torch.tensor(example.supervised)
        labels[row, :length] = torch.where(kept, tokens[row, :length], _IGNORED)
    return Batch(tokens, attention, labels)


def supervised_loss(model: PeftModel, batch: Batch) -> Tensor:
    """Return the summed cross-entropy over the batch's supervised tokens, in fp32.

    Logits are computed at those positions only: over a whole vocabulary they cost more than the rest.
    """
    base: Any = model.get_base_model()
    hidden = base.get_decoder()(
        input_ids=batch.tokens, attention_mask=batch.attention, use_cache=False
    ).last_hidden_state[:, :-1]
    targets = batch.labels[:, 1:]
    kept = targets != _IGNORED
    logits = base.get_output_embeddings()(hidden[kept]).float()
    return functional.cross_entropy(logits, targets[kept], reduction="sum")


def rate(step: int, total_steps: int, settings: Settings) -> float:
    """Return the learning rate of the step after `step` finished ones."""
    warmup = math.ceil(settings.warmup_ratio * total_steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    if settings.schedule is Schedule.COSINE:
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * (1.0 if settings.schedule is Schedule.CONSTANT else 1 - done)


class Run:
    """One job's training, from its first step or from a checkpoint's."""

    def __init__(self, base: Any, examples: Sequence[Example], settings: Settings) -> None:
        self._examples = examples
        self._settings = settings
        self.lengths = [len(example.tokens) for example in examples]
        self._steps = plan(
            self.lengths,
            batch_rows=settings.batch_rows,
            epochs=settings.epochs,
            seed=settings.seed,
            max_steps=settings.max_steps,
        )
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.model = adapter.wrap(base, settings, self.generator)
        self.model.train()
        self.parameters = adapter.trained(self.model)
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=0.0, weight_decay=settings.weight_decay, fused=True
        )
        self.progress = Progress(total_steps=len(self._steps))

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.progress.step >= self.progress.total_steps

    def step(self) -> StepResult:
        """Do the next optimizer step.  Raises NotFinite before anything is changed."""
        rows = self._steps[self.progress.step]
        counted = sum(self._examples[row].supervised_tokens for row in rows)
        total = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for part in micro_batches(rows, self.lengths):
            # The denominator is the step's, not the part's: how a step is split must not change what it learns.
            loss = supervised_loss(self.model, collate([self._examples[row] for row in part])) / counted
            loss.backward()
            total += loss.item()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self._settings.max_gradient_norm))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise NotFinite(f"at step {self.progress.step + 1} the loss is {total} and the gradient norm {norm}")
        learning_rate = rate(self.progress.step, self.progress.total_steps, self._settings)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.progress = Progress(
            step=self.progress.step + 1,
            total_steps=self.progress.total_steps,
            trained_tokens=self.progress.trained_tokens + sum(self.lengths[row] for row in rows),
            loss=total,
        )
        return StepResult(self.progress, learning_rate, norm)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that later steps depend on, as tensors: weights, both moments, the generator's state."""
        held: dict[str, Tensor] = {"generator": self.generator.get_state()}
        for name, parameter in self.parameters.items():
            held[f"weight.{name}"] = parameter.detach()
            state = self.optimizer.state.get(parameter)
            if state:
                held[f"exp_avg.{name}"] = state["exp_avg"]
                held[f"exp_avg_sq.{name}"] = state["exp_avg_sq"]
        return held

    def restore(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        """Go on where `tensors` and `progress` were taken.  Raises KeyError for tensors of another run."""
        self.generator.set_state(tensors["generator"])
        for name, parameter in self.parameters.items():
            with torch.no_grad():
                parameter.copy_(tensors[f"weight.{name}"])
            if progress.step:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(progress.step)),
                    "exp_avg": tensors[f"exp_avg.{name}"].clone(),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].clone(),
                }
        self.progress = progress
