"""One joint step: the next units of some members through the base at once, then an optimizer step for each that is due.

Invariant: what a member gets out of a step depends on its own unit alone; and what is wrong with one member ends that
member and no other.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from services.trainer.bank import Bank, Scores, Segment
from services.trainer.conduct import Refused
from services.trainer.joint.generation import generate
from services.trainer.joint.member import Member
from services.trainer.joint.objectives import by_sequence
from services.trainer.joint.units import Answer, Trained, Unit, UnitKind
from services.trainer.work import Line

# What the mathematics of one job's rows may raise; an error of the code itself ends the process, and nothing is lost.
_ONES_OWN = (ArithmeticError, IndexError, RuntimeError, ValueError)


@dataclass(slots=True)
class Went:
    """What a step came to for one member: lines to say, or why it ends; and its share of the machine's time."""

    lines: list[Line] = field(default_factory=list)
    refusal: Refused | None = None
    tokens: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Turn:
    """A member's unit during a step."""

    member: Member
    unit: Unit
    went: Went = field(default_factory=Went)
    answer: Answer | None = None

    @property
    def sound(self) -> bool:
        return self.went.refusal is None


def step(bank: Bank, members: Sequence[Member], clock: Callable[[], float] = time.perf_counter) -> list[Went]:
    """Run the next unit of each member; return what became of each, in their order."""
    turns = [_Turn(member, member.unit) for member in members if member.unit is not None]
    assert len(turns) == len(members), "a member with nothing left to do is no part of a step"
    _timed(turns, [turn for turn in turns if turn.unit.kind.scored], lambda those: _score(bank, those), clock)
    training = [turn for turn in turns if turn.unit.kind is UnitKind.TRAIN]
    for recomputes in (False, True):
        # Apart, so that who trades time for memory pays with no time but its own.
        alike = [turn for turn in training if turn.member.settings.gradient_checkpointing is recomputes]
        _timed(turns, alike, lambda those: _train(bank, those), clock)
    for turn in turns:
        if turn.unit.kind is UnitKind.GENERATION:
            _timed(turns, [turn], lambda those: _generate(bank, those[0]), clock)
    for turn in turns:
        if turn.sound:
            assert turn.answer is not None
            try:
                turn.went.lines = turn.member.go_on(turn.answer)
            except Refused as refusal:
                turn.went.refusal = refusal
    return [turn.went for turn in turns]


def _timed(
    turns: Sequence[_Turn],
    those: Sequence[_Turn],
    work: Callable[[Sequence[_Turn]], None],
    clock: Callable[[], float],
) -> None:
    """Do the work of some turns and charge its time to them, by their tokens."""
    if not those:
        return
    began = clock()
    work(those)
    took = clock() - began
    tokens = sum(turn.unit.tokens for turn in those)
    for turn in those:
        turn.went.tokens = turn.unit.tokens
        turn.went.seconds = took * turn.unit.tokens / tokens


def _pass(bank: Bank, turns: Sequence[_Turn]) -> list[tuple[_Turn, Scores]]:
    """Score the turns' sequences together; those whose own rows are at fault are found out one by one and refused.

    What a failed pass has drawn for dropout is put back, so that the others do not notice it.
    """
    recomputes = any(turn.member.settings.gradient_checkpointing for turn in turns)
    drawn = [turn.member.slot.generator.get_state() for turn in turns]
    try:
        scores = bank.score([_segment(turn) for turn in turns], recomputes=recomputes)
    except _ONES_OWN as error:
        for turn, state in zip(turns, drawn, strict=True):
            turn.member.slot.generator.set_state(state)
        if len(turns) == 1:
            turns[0].went.refusal = Refused("SETTINGS_UNFIT", f"its rows do not go through the base: {error}")
            return []
    else:
        return list(zip(turns, scores, strict=True))
    return [found for turn in turns for found in _pass(bank, [turn])]


def _segment(turn: _Turn) -> Segment:
    return Segment(turn.member.slot, turn.unit.sequences, keeps_gradient=turn.unit.kind is UnitKind.TRAIN)


def _score(bank: Bank, turns: Sequence[_Turn]) -> None:
    with torch.no_grad():
        for turn, scores in _pass(bank, turns):
            turn.answer = by_sequence(scores.log_probs, scores.lengths)


def _train(bank: Bank, turns: Sequence[_Turn]) -> None:
    losses: list[Tensor] = []
    for turn, scores in _pass(bank, turns):
        loss = turn.member.loss(scores.log_probs, scores.lengths)
        turn.answer = Trained(loss.item())
        # Also one that is no number: it reaches no gradient but its own, with which the bank updates nothing.
        losses.append(loss)
    if losses:
        bank.backward(losses)
    closing = [turn for turn in turns if turn.sound and turn.unit.closes_step]
    norms = bank.update([turn.member.update() for turn in closing]) if closing else []
    for turn, norm in zip(closing, norms, strict=True):
        assert isinstance(turn.answer, Trained)
        turn.answer = Trained(turn.answer.loss, float(norm))


def _generate(bank: Bank, turn: _Turn) -> None:
    prompts = [sequence.tokens for sequence in turn.unit.sequences]
    try:
        with bank.only(turn.member.slot) as model:
            turn.answer = generate(model, prompts, turn.unit.answer_tokens, turn.unit.turn_ends)
    except _ONES_OWN as error:
        longest = max(map(len, prompts)) + turn.unit.answer_tokens
        why = f"its prompts with their answers, up to {longest} tokens, do not go through the base: {error}"
        turn.went.refusal = Refused("SETTINGS_UNFIT", f"{why}. Lower generation_tokens.")
