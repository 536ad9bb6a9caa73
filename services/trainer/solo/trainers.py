"""TRL's trainers, driven a whole optimizer step at a time over our own batches and masks.

TRL gives the losses, transformers the loop.  Invariants: a step is `batch_rows` rows of the plan that the slot bank
follows too, its loss divided by what the whole step counts, so that splitting it changes memory and nothing else; and
what a step comes to is there before a weight has changed.  Processes that train together divide a step's rows among
them; held-out rows each of them evaluates whole.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from trl import DPOTrainer, KTOTrainer, SFTTrainer

from services.trainer.batches import Steps, micro_batches
from services.trainer.data.examples import Example
from services.trainer.settings import Settings
from services.trainer.solo.feeds import Feed, JudgedFeed, labelled, padded
from services.trainer.solo.models import trained, without_dropout
from services.trainer.solo.order import Assessment
from services.trainer.solo.ranks import ALONE, Ranks, norm_after_clipping


@dataclass(slots=True)
class Tally:
    """Sums over the micro-batches of an evaluation."""

    loss: float = 0.0
    chosen: float = 0.0
    chosen_rows: int = 0
    rejected: float = 0.0
    rejected_rows: int = 0
    right: float | None = None

    def add_chosen(self, mean: float, rows: int) -> None:
        """Add the mean reward of so many preferred answers."""
        self.chosen += mean * rows
        self.chosen_rows += rows

    def add_rejected(self, mean: float, rows: int) -> None:
        """Add the mean reward of so many answers that were not preferred."""
        self.rejected += mean * rows
        self.rejected_rows += rows

    def assessment(self) -> Assessment:
        """The means."""
        both = self.chosen_rows and self.rejected_rows
        margin = self.chosen / self.chosen_rows - self.rejected / self.rejected_rows if both else None
        return Assessment(self.loss, None if self.right is None else self.right / self.chosen_rows, margin)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows to train on, and which of them each step takes; `done` steps are behind."""

    feed: Feed
    steps: Steps
    done: int


class StepsToGo(Sampler[list[int]]):
    """The rows of every step that is not done; its length is that of the whole plan, by which steps are numbered."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return self._plan.steps.since(self._plan.done)

    def __len__(self) -> int:
        return len(self._plan.steps)


class WholeSteps:
    """What the trainers share; mixed in before a trainer of TRL's."""

    # Given by `trainer_for`.
    plan: Plan
    settings: Settings
    ranks: Ranks = ALONE
    # Of the last step: over what it counts, and before clipping.
    loss: float
    gradient_norm: float
    # Of a token of its wanted answers (`divergence`); None where it has none.
    wanted_loss: float | None
    # The trainer's own.
    model: Any
    train_dataset: Any
    accelerator: Any
    state: Any
    _metrics: Any

    def get_train_dataloader(self) -> Any:
        """One item a step: its row numbers.  The loader's own generator leaves the job's alone."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=StepsToGo(self.plan),
            collate_fn=lambda items: {"rows": [item["row"] for item in items]},
            generator=torch.Generator().manual_seed(0),
        )

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Add up the gradients of one step's micro-batches and clip them."""
        model.train()
        rows = inputs["rows"]
        feed = self.plan.feed
        self.ranks.reseed(self.settings.seed, self.state.global_step)
        self.before_step(model, feed, rows)
        counted = feed.counted(rows)
        total = cost = tokens = 0.0
        for part, weight in self._parts(feed, rows):
            loss = self.part_loss(model, feed, part, counted) * weight
            self.accelerator.backward(loss)
            total += loss.item()
            part_cost, part_tokens = self.wanted(feed, part, loss.item() * counted)
            cost, tokens = cost + part_cost * weight, tokens + part_tokens * weight
        total, cost, tokens = map(self.ranks.total, (total, cost, tokens))
        self.wanted_loss = cost / tokens if tokens else None
        self.gradient_norm = norm_after_clipping(trained(model).values(), self.settings.max_gradient_norm or math.inf)
        self.loss = total
        # Kept by TRL for its own log, which is never written.
        self._metrics["train"].clear()
        return torch.tensor(total)

    def _parts(self, feed: Feed, rows: Sequence[int]) -> list[tuple[list[int], float]]:
        """Micro-batches of this process's share of a step, each with what its loss counts.

        All processes have equally many, since each sends and receives in every pass: who has fewer takes a row again,
        and counts it 0.
        """
        shares = self.ranks.divided(rows, feed.lengths)
        parts = [feed.parts(share, self.settings.micro_batch_tokens) for share in shares]
        most, mine = max(map(len, parts)), parts[self.ranks.rank]
        return [(part, 1.0) for part in mine] + [([rows[0]], 0.0)] * (most - len(mine))

    def before_step(self, model: Any, feed: Feed, rows: Sequence[int]) -> None:
        """Find what the loss of these rows needs to know of all of them together."""

    def part_loss(self, model: Any, feed: Feed, part: Sequence[int], counted: int) -> Tensor:
        """One micro-batch's share of the loss of rows that count `counted` together: each objective's trainer has its own."""
        raise NotImplementedError("the objective's trainer says what its loss is")

    def wanted(self, feed: Feed, part: Sequence[int], cost: float) -> tuple[float, int]:
        """What the wanted answers of the micro-batch cost that was just trained on, and how many tokens they have.

        ``cost`` is its loss, summed: that of sequences of which all are wanted.
        """
        return cost, feed.wanted_tokens(part)

    def sequence_log_probs(self, sequences: Sequence[Example]) -> Tensor:
        """Log-probability of the supervised tokens of each sequence, [sequences] fp32, as the model is now."""
        lengths = [len(sequence.tokens) for sequence in sequences]
        found = torch.zeros(len(sequences))
        with without_dropout(self.model):
            for part in micro_batches(range(len(sequences)), lengths, self.settings.micro_batch_tokens):
                batch = labelled(padded([sequences[index] for index in part]))
                found[part] = self.model(**batch, use_cache=False, fused_lm_head=True).log_probs.sum(-1)
        return found

    def assess(self, feed: Feed) -> Assessment:
        """Evaluate all rows of a split, as the model will be served."""
        rows = range(len(feed.lengths))
        tally = Tally()
        with without_dropout(self.model):
            self.before_step(self.model, feed, rows)
            for part in feed.parts(rows, self.settings.micro_batch_tokens):
                tally.loss += float(self.part_loss(self.model, feed, part, feed.counted(rows)))
                means = {name: values[-1] for name, values in self._metrics["eval"].items() if values}
                self._metrics["eval"].clear()
                self.tally(tally, feed, part, means)
        return tally.assessment()

    def tally(self, tally: Tally, feed: Feed, part: Sequence[int], means: dict[str, float]) -> None:
        """Add what TRL found of a micro-batch beside its loss."""

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], None]:
        """The next step, if there is one; what it counts is found where its loss is."""
        following = next(epoch_iterator, None)
        return ([] if following is None else [following]), None

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        # Found in training_step already.
        return self.gradient_norm

    def _send_telemetry(self) -> None:
        """What is trained here is nobody's business."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        # The rows are tokens already, ours.
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        # Ours are computed by `sequence_log_probs`, and kept in checkpoints.
        return dataset


class Sequences(WholeSteps, SFTTrainer):
    """Supervised fine-tuning, and training on plain text."""

    def part_loss(self, model: Any, feed: Feed, part: Sequence[int], counted: int) -> Tensor:
        """Summed over the part's supervised tokens, divided by the step's."""
        loss: Tensor = self.compute_loss(model, feed.tensors(part), num_items_in_batch=counted)
        return loss


class Pairs(WholeSteps, DPOTrainer):
    """Direct preference optimisation."""

    def part_loss(self, model: Any, feed: Feed, part: Sequence[int], counted: int) -> Tensor:
        """The mean over the part's pairs, times its share of the step's."""
        loss: Tensor = self.compute_loss(model, feed.tensors(part))
        return loss * (len(part) / counted)

    def wanted(self, feed: Feed, part: Sequence[int], cost: float) -> tuple[float, int]:
        """The preferred answers, as TRL found them."""
        return -self._metrics["train"]["logps/chosen"][-1] * len(part), feed.wanted_tokens(part)

    def tally(self, tally: Tally, feed: Feed, part: Sequence[int], means: dict[str, float]) -> None:
        """Rewards and which of each two is higher."""
        tally.add_chosen(means["rewards/chosen"], len(part))
        tally.add_rejected(means["rewards/rejected"], len(part))
        tally.right = (tally.right or 0.0) + means["rewards/accuracies"] * len(part)


class Judgements(WholeSteps, KTOTrainer):
    """Kahneman-Tversky optimisation; its zero point is of the whole step, so that splitting one does not move it."""

    _moved: float = 0.0

    def before_step(self, model: Any, feed: Feed, rows: Sequence[int]) -> None:
        """Find how far the model has moved, as the mean over the rows' mismatches."""
        assert isinstance(feed, JudgedFeed)
        sequences, reference = feed.mismatched(rows)
        self._moved = float((self.sequence_log_probs(sequences) - reference).mean())

    def part_loss(self, model: Any, feed: Feed, part: Sequence[int], counted: int) -> Tensor:
        """The mean over the part's rows, times its share of the step's."""
        tensors = {**feed.tensors(part), "ref_KL_logps": torch.zeros(len(part))}
        loss: Tensor = self.compute_loss(model, tensors)
        return loss * (len(part) / counted)

    def wanted(self, feed: Feed, part: Sequence[int], cost: float) -> tuple[float, int]:
        """The desirable answers, as TRL found them."""
        assert isinstance(feed, JudgedFeed)
        if not (desirable := feed.desirable(part)):
            return 0.0, 0
        return -self._metrics["train"]["logps/chosen"][-1] * desirable, feed.wanted_tokens(part)

    def tally(self, tally: Tally, feed: Feed, part: Sequence[int], means: dict[str, float]) -> None:
        """Rewards of desirable and of undesirable answers."""
        assert isinstance(feed, JudgedFeed)
        desirable = feed.desirable(part)
        tally.add_chosen(means.get("rewards/chosen", 0.0), desirable)
        tally.add_rejected(means.get("rewards/rejected", 0.0), len(part) - desirable)

    def _compute_kl_logps(self, model: Any, batch: Any) -> Tensor:
        # TRL takes the mean of the difference between this and `ref_KL_logps`.
        return torch.full((len(batch["label"]),), self._moved)
