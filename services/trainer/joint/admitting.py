"""Takes a prepared job onto the bank: checks that it fits, opens its slot, goes on from its checkpoint.

Invariant: what is refused here is refused before a slot is held, or with its slot given back.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.trainer.bank import Bank, Initialisation, SlotSpec
from services.trainer.bank.spec import linear_layers
from services.trainer.conduct import Refused
from services.trainer.divergence import Watch
from services.trainer.joint.dataset import Splits
from services.trainer.joint.encoder import Encoded
from services.trainer.joint.first_format import slot_tensors
from services.trainer.joint.held import Held
from services.trainer.joint.member import Member
from services.trainer.joint.preparing import Found
from services.trainer.joint.row_limits import require_within
from services.trainer.joint.start import begin_with
from services.trainer.modules import is_adapted, require_all_named
from services.trainer.settings import Method, Settings
from services.trainer.work import Line, Said, Work, WorkerOrder

Decode = Callable[[Sequence[int]], str]


def spec_of(settings: Settings, base: Any) -> SlotSpec:
    """The slot that a job's settings ask for on this base.  Raises ValueError when nothing is left to adapt."""
    return SlotSpec(
        rank=settings.rank,
        alpha=settings.alpha,
        rslora=settings.method is Method.RSLORA,
        dropout=settings.dropout,
        target_modules=_targets(settings, base),
        layers=settings.layers,
        rank_pattern=dict(settings.rank_pattern),
        alpha_pattern=dict(settings.alpha_pattern),
        initialisation=Initialisation(settings.initialisation.value),
        seed=settings.seed,
    )


def _again(member: Member, found: Found | None) -> list[Line]:
    """What was said up to the checkpoint, and of itself.  The previous release's remember nothing."""
    if found is None or found.checkpoint.format == 1:
        return []
    return [*member.remembered, Line(Said.CHECKPOINT, member.progress)]


def _targets(settings: Settings, base: Any) -> tuple[str, ...]:
    """The modules that are adapted; where some are excluded, all others by their whole names."""
    if not settings.exclude_modules:
        return settings.target_modules
    names = tuple(linear_layers(base))
    kept = tuple(name for name in names if is_adapted(name, settings.target_modules, settings.exclude_modules, ()))
    if not kept:
        raise ValueError("every module is excluded; exclude fewer")
    return kept


class Admission:
    """Admits jobs to one worker's bank around `base`.  `decode` turns answers into text."""

    def __init__(self, bank: Bank, base: Any, order: WorkerOrder, decode: Decode) -> None:
        self._bank = bank
        self._base = base
        self._order = order
        self._decode = decode

    def admit(self, held: Held, encoded: Encoded, found: Found | None) -> list[Line]:
        """Give the job its slot and its member; return what is to be said of it.  Raises Refused."""
        work = held.work
        assert work is not None
        self._check(work, encoded.splits)
        try:
            if found is None:
                # A job of an earlier release, which took exclusions that name nothing, goes on.
                require_all_named(work.settings, linear_layers(self._base))
            slot = self._bank.open(spec_of(work.settings, self._base))
        except ValueError as error:
            raise Refused("SETTINGS_UNFIT", str(error)) from error
        try:
            watch = Watch(work.settings, self._base.config)
            member = Member(slot, encoded.splits, work.settings, self._decode, watch, work.hold_step)
            said = self._placed(member, work, found)
            member.begin()
        except Refused:
            self._bank.close(slot)
            raise
        except (KeyError, TypeError, ValueError) as error:
            self._bank.close(slot)
            raise Refused("SETTINGS_UNFIT", f"the job cannot go on: {error}") from error
        held.member = member
        held.progress = member.progress
        if found is not None:
            held.saved = member.mark
            messages = said
        else:
            messages = [*encoded.messages, *said]
        return [
            *_again(member, found),
            *(Line(Said.MESSAGE, message=message) for message in messages),
            Line(Said.STARTED, member.progress),
        ]

    def _check(self, work: Work, splits: Splits) -> None:
        """Refuse what would fail inside a pass, where others are."""
        if work.threads != self._order.threads:
            raise Refused(
                "SETTINGS_UNFIT", f"it is trained with {work.threads} threads, this process has {self._order.threads}"
            )
        require_within(splits, self._base.config)

    def _placed(self, member: Member, work: Work, found: Found | None) -> list[str]:
        """Put the member where its checkpoint or its start says; return what people should know of that."""
        if found is None:
            if work.start_path:
                begin_with(member.slot, Path(work.start_path), work.settings)
            return []
        progress = found.checkpoint.progress
        if found.checkpoint.format == 1:
            member.restore_first_format(slot_tensors(member.slot, found.tensors, progress.step), progress)
            return [f"going on from a checkpoint that the previous release wrote, after step {progress.step}"]
        member.restore(found.tensors, found.state, progress)
        return []
