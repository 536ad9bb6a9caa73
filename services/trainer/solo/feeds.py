"""What the model is fed: encoded rows as tensors, in micro-batches, with our tokens and our masks and no others.

Invariant: how rows are laid out (padded, packed, split into micro-batches) never changes which tokens the loss is taken
on, nor what a row can see: every tensor here comes from `Example.tokens` and `Example.supervised` alone.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from services.trainer.batches import micro_batches
from services.trainer.data.examples import Example, Judged, Pair
from services.trainer.joint.mismatching import Pairing, mismatches
from services.trainer.settings import Settings

_IGNORED = -100
Row = Example | Pair | Judged


class Feed(Protocol):
    """Rows of one split of one objective."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each row, padding not counted."""

    def parts(self, rows: Sequence[int], budget_tokens: int) -> list[list[int]]:
        """Split the rows of a step into micro-batches of at most so many tokens, padding counted; one row always fits."""

    def counted(self, rows: Sequence[int]) -> int:
        """By what the summed loss of these rows is divided: supervised tokens, or rows where rows are compared."""

    def wanted_tokens(self, rows: Sequence[int]) -> int:
        """Supervised tokens of the answers that are to become likely."""

    def tensors(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """What the trainer's loss takes for these rows."""


class SequenceFeed:
    """Sequences that are learned token by token; packed, a micro-batch is one row in which they lie end to end."""

    def __init__(self, examples: Sequence[Example], *, packing: bool = False) -> None:
        self._examples = examples
        self._packing = packing
        self.lengths = [len(example.tokens) for example in examples]

    def parts(self, rows: Sequence[int], budget_tokens: int) -> list[list[int]]:
        """As Feed.parts."""
        if not self._packing:
            return micro_batches(rows, self.lengths, budget_tokens)
        packs: list[list[int]] = []
        used_tokens = budget_tokens
        for row in sorted(rows, key=lambda row: (self.lengths[row], row)):
            if packs and used_tokens + self.lengths[row] <= budget_tokens:
                packs[-1].append(row)
                used_tokens += self.lengths[row]
            else:
                packs.append([row])
                used_tokens = self.lengths[row]
        return packs

    def counted(self, rows: Sequence[int]) -> int:
        """Supervised tokens."""
        return self.wanted_tokens(rows)

    def wanted_tokens(self, rows: Sequence[int]) -> int:
        """As Feed.wanted_tokens: all."""
        return sum(self._examples[row].supervised_tokens for row in rows)

    def tensors(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`input_ids` and `labels`, both [rows, tokens], with `attention_mask`, or with `position_ids` when packed."""
        examples = [self._examples[row] for row in rows]
        return packed(examples) if self._packing else labelled(padded(examples))


class PairFeed:
    """Chosen and rejected answers; a pair lies in one micro-batch, all chosen ones first, as TRL's loss expects."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self.lengths = [len(pair.chosen.tokens) + len(pair.rejected.tokens) for pair in pairs]
        self._widths = [2 * max(len(pair.chosen.tokens), len(pair.rejected.tokens)) for pair in pairs]
        # [2 * pairs]: the chosen answers' log-probabilities, then the rejected ones'.
        self.reference = torch.empty(0)

    def parts(self, rows: Sequence[int], budget_tokens: int) -> list[list[int]]:
        """As Feed.parts."""
        return micro_batches(rows, self._widths, budget_tokens)

    def counted(self, rows: Sequence[int]) -> int:
        """Pairs."""
        return len(rows)

    def wanted_tokens(self, rows: Sequence[int]) -> int:
        """As Feed.wanted_tokens: the chosen ones'."""
        return sum(self._pairs[row].chosen.supervised_tokens for row in rows)

    def sequences(self) -> list[Example]:
        """All sequences whose reference is wanted, in the order in which `reference` holds them."""
        return [pair.chosen for pair in self._pairs] + [pair.rejected for pair in self._pairs]

    def tensors(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Chosen rows above rejected ones, [2 * pairs, tokens]; the references [pairs]."""
        pairs = [self._pairs[row] for row in rows]
        chosen, rejected = self.reference.view(2, -1)[:, list(rows)]
        return {
            **padded([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]),
            "ref_chosen_logps": chosen,
            "ref_rejected_logps": rejected,
        }


class JudgedFeed:
    """Judged answers, and for each a mismatch: its question with the answer to another (`mismatching`)."""

    def __init__(self, rows: Sequence[Judged], max_row_tokens: int, pairing: Pairing = Pairing.OTHER_QUESTION) -> None:
        self._rows = rows
        self.lengths = [len(row.example.tokens) for row in rows]
        self._mismatches = mismatches(rows, max_row_tokens, pairing)
        # [2 * rows]: the answers' log-probabilities, then the mismatches'.
        self.reference = torch.empty(0)

    def parts(self, rows: Sequence[int], budget_tokens: int) -> list[list[int]]:
        """As Feed.parts."""
        return micro_batches(rows, self.lengths, budget_tokens)

    def counted(self, rows: Sequence[int]) -> int:
        """Rows."""
        return len(rows)

    def wanted_tokens(self, rows: Sequence[int]) -> int:
        """As Feed.wanted_tokens: the desirable ones'."""
        return sum(self._rows[row].example.supervised_tokens for row in rows if self._rows[row].desirable)

    def sequences(self) -> list[Example]:
        """All sequences whose reference is wanted, in the order in which `reference` holds them."""
        return [row.example for row in self._rows] + self._mismatches

    def mismatched(self, rows: Sequence[int]) -> tuple[list[Example], Tensor]:
        """The rows' mismatches and their references [rows]."""
        return [self._mismatches[row] for row in rows], self.reference.view(2, -1)[1, list(rows)]

    def desirable(self, rows: Sequence[int]) -> int:
        """How many of these rows were found good."""
        return sum(self._rows[row].desirable for row in rows)

    def tensors(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The rows [rows, tokens], whether they are desirable and the references, both [rows]."""
        return {
            **padded([self._rows[row].example for row in rows]),
            "label": torch.tensor([self._rows[row].desirable for row in rows]),
            "ref_logps": self.reference.view(2, -1)[0, list(rows)],
        }


def padded(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Rows padded on the right to the longest: `input_ids`, `attention_mask`, `completion_mask`, all [rows, tokens].

    The last says on which tokens the loss is taken, never on a first one.
    """
    width = max(len(example.tokens) for example in examples)
    tokens = torch.zeros(len(examples), width, dtype=torch.long)
    attention = torch.zeros_like(tokens)
    supervised = torch.zeros_like(tokens)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens[row, :length] = torch.tensor(example.tokens)
        attention[row, :length] = 1
        supervised[row, 1:length] = torch.tensor(example.supervised[1:], dtype=torch.long)
    return {"input_ids": tokens, "attention_mask": attention, "completion_mask": supervised}


def labelled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same rows with `labels` instead of `completion_mask`: -100 where no loss is taken."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, _IGNORED)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def packed(examples: Sequence[Example]) -> dict[str, Tensor]:
    """One row [1, tokens] with the sequences end to end; positions begin anew with each, which keeps them apart."""
    tokens = torch.cat([torch.tensor(example.tokens) for example in examples])
    positions = torch.cat([torch.arange(len(example.tokens)) for example in examples])
    supervised = torch.cat([torch.tensor(example.supervised) for example in examples]) & (positions > 0)
    labels = torch.where(supervised, tokens, _IGNORED)
    return {"input_ids": tokens[None], "position_ids": positions[None], "labels": labels[None]}


def feed_of(rows: Sequence[Row], settings: Settings, pairing: Pairing) -> Feed:
    """The feed of rows that are all of one kind; packing is for those that are learned token by token.

    `pairing` is for judged ones.
    """
    if all(isinstance(row, Pair) for row in rows):
        return PairFeed([row for row in rows if isinstance(row, Pair)])
    if all(isinstance(row, Judged) for row in rows):
        return JudgedFeed([row for row in rows if isinstance(row, Judged)], settings.max_row_tokens, pairing)
    return SequenceFeed([row for row in rows if isinstance(row, Example)], packing=settings.packing)
