"""Members on a bank, without a worker around them."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from services.trainer.bank import Bank
from services.trainer.data.encoding import Preparation, prepare
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.reading import read
from services.trainer.divergence import Watch
from services.trainer.joint.admitting import spec_of
from services.trainer.joint.dataset import Rows, Splits, rows_of
from services.trainer.joint.member import Member
from services.trainer.joint.stepping import step
from services.trainer.settings import Settings
from services.trainer.work import Line, Said

QUESTIONS = ["What colour is the door?", "Who has the key?", "When does the shop close?", "Is there a bell?"]
GOOD = ["Green.", "The night watch.", "At six.", "Yes, a loud one."]
BAD = ["Go away.", "No idea, go away.", "Never, go away.", "Go away, you."]

PLAIN: list[dict[str, Any]] = [
    {"prompt": asked, "completion": said} for asked, said in zip(QUESTIONS, GOOD, strict=True)
] * 2
PAIRS: list[dict[str, Any]] = [
    {"prompt": asked, "chosen": good, "rejected": bad} for asked, good, bad in zip(QUESTIONS, GOOD, BAD, strict=True)
]
JUDGED: list[dict[str, Any]] = [
    {"prompt": asked, "completion": said, "label": label}
    for answers, label in ((GOOD, True), (BAD, False))
    for asked, said in zip(QUESTIONS, answers, strict=True)
]


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass(slots=True)
class Company:
    """A bank, and all that its members have said."""

    base: Any
    encoder: ChatEncoder
    bank: Bank = field(init=False)
    said: dict[Member, list[Line]] = field(default_factory=dict)
    refused: dict[Member, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bank = Bank(self.base)

    def rows(self, rows: Sequence[dict[str, Any]], settings: Settings) -> Rows:
        """Encode rows."""
        preparation = Preparation(self.encoder, settings.objective, settings.supervision, settings.max_row_tokens)
        return rows_of(prepare(read(io.BytesIO(text(rows).encode())), preparation).examples, settings.max_row_tokens)

    def splits(self, settings: Settings, training: Any, held_out: Any = None) -> Splits:
        """Encode what is trained on and what is held out."""
        return Splits(
            training if isinstance(training, Rows) else self.rows(training, settings),
            self.rows(held_out, settings) if held_out else None,
            turn_ends=self.encoder.turn_ends(),
        )

    def new(self, settings: Settings, training: Any, held_out: Any = None, **rest: Any) -> Member:
        """Open a slot for a job that has not begun; rows may be encoded already, or be whole splits."""
        splits = training if isinstance(training, Splits) else self.splits(settings, training, held_out)
        slot = self.bank.open(spec_of(settings, self.base))
        decode = self.encoder.tokenizer.decode
        watch = Watch(settings, self.base.config)
        return Member(
            slot,
            splits,
            settings,
            lambda tokens: str(decode(list(tokens), skip_special_tokens=True)).strip(),
            watch,
            **rest,
        )

    def begun(self, settings: Settings, training: Any, held_out: Any = None, **rest: Any) -> Member:
        """The same, at its first unit."""
        member = self.new(settings, training, held_out, **rest)
        member.begin()
        return member

    def step(self, *members: Member) -> None:
        """One joint step."""
        for member, went in zip(members, step(self.bank, members), strict=True):
            self.said.setdefault(member, []).extend(went.lines)
            if went.refusal is not None:
                self.refused[member] = f"{went.refusal.reason}: {went.refusal}"

    def run(self, *members: Member) -> None:
        """Step all members that have something to do, until none has."""
        while going := [member for member in members if member.unit is not None and member not in self.refused]:
            self.step(*going)

    def until_step(self, member: Member, count: int) -> None:
        """Step one member alone until it has done so many steps and is between two."""
        while member.progress.step < count or not member.between_steps:
            self.step(member)

    def losses(self, member: Member) -> list[float]:
        """Of each step."""
        return [line.progress.loss for line in self.said[member] if line.said is Said.STEP]

    def evaluations(self, member: Member) -> list[dict[str, float]]:
        """In order."""
        return [line.evaluation for line in self.said[member] if line.said is Said.EVALUATION]


def company(base: Path) -> Company:
    """A company on the base in the folder."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16)
    return Company(model, ChatEncoder.load(base))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two adapters have the same bits."""
    import torch

    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies, as a checkpoint holds them."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
