"""The loss of a micro-batch as a part of its optimizer step, by what its rows are.

Invariant: the micro-batches of a step add up to the step's loss, however it is cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.trainer.joint import objectives
from services.trainer.joint.dataset import Kind, Rows
from services.trainer.settings import Settings

# Takes the log-probabilities [tokens] of supervised tokens and how many of them belong to each sequence; returns [].
Loss = Callable[[Tensor, list[int]], Tensor]


@dataclass(slots=True)
class Wanted:
    """What a token of the answers that are wanted costs in a step, added up over its micro-batches.

    `sequences` says which of the micro-batch under way are such answers.
    """

    sequences: Sequence[bool] = ()
    cost: float = 0.0
    tokens: int = 0

    def add(self, log_probs: Tensor, lengths: Sequence[int]) -> None:
        """Add a micro-batch: the log-probabilities [tokens] of supervised tokens, and how many are of each sequence."""
        kept = zip(log_probs.split(list(lengths)), self.sequences, strict=True)
        wanted = [part for part, is_wanted in kept if is_wanted]
        self.cost -= float(torch.cat(wanted).sum()) if wanted else 0.0
        self.tokens += sum(map(len, wanted))

    @property
    def loss(self) -> float | None:
        """The mean; None where no answer is wanted."""
        return self.cost / self.tokens if self.tokens else None


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The loss of one optimizer step.

    `counted`: supervised tokens of the whole step, or its rows where rows are compared.  `reference` [rows of the split,
    2] holds the log-probabilities of the model that training starts from, `moved` is KTO's reference point.
    """

    data: Rows
    settings: Settings
    counted: int
    reference: Tensor | None = None
    moved: float = 0.0

    def of(self, rows: Sequence[int]) -> Loss:
        """The part of these rows, whose sequences go through the model in the order of `Rows.sequences`."""
        if self.data.kind is Kind.PLAIN:
            return lambda log_probs, _: objectives.cross_entropy(log_probs, self.counted)
        assert self.reference is not None, "rows are compared with a model that was not asked"
        reference = self.reference[list(rows)]
        if self.data.kind is Kind.PAIR:
            return lambda log_probs, lengths: self._of_pairs(log_probs, lengths, reference)
        desirable = torch.from_numpy(self.data.desirable[list(rows)])
        return lambda log_probs, lengths: self._of_judged(log_probs, lengths, reference[:, 0], desirable)

    def _of_pairs(self, log_probs: Tensor, lengths: list[int], reference: Tensor) -> Tensor:
        ratios = objectives.by_sequence(log_probs, lengths).view(-1, 2) - reference
        return objectives.dpo_losses(ratios[:, 0], ratios[:, 1], self.settings).sum() / self.counted

    def _of_judged(self, log_probs: Tensor, lengths: list[int], reference: Tensor, desirable: Tensor) -> Tensor:
        ratios = objectives.by_sequence(log_probs, lengths) - reference
        return objectives.kto_losses(ratios, desirable, self.moved, self.settings).sum() / self.counted
