"""The jobs of one worker: who joins, who takes part in the next step, who leaves.

Invariant: a job joins, stops and leaves between two of its steps only; and each job that was told to join gets exactly
one last word (STOPPED, DONE, REFUSED or LOST), unless its lease went to another process.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from services.chassis.resources import ResidentMemory
from services.trainer import exports
from services.trainer.bank import Bank
from services.trainer.conduct import Refused
from services.trainer.joint.admitting import Admission
from services.trainer.joint.held import Held
from services.trainer.joint.keeping import Keeper, Kept, LastWord, Result, Snapshot
from services.trainer.joint.member import Member
from services.trainer.joint.preparing import Preparer, Ready
from services.trainer.joint.stepping import Went, step
from services.trainer.scheduling import choosing
from services.trainer.scheduling.state import Priority
from services.trainer.work import Command, Do, Line, Said

Say = Callable[[Line], None]

# A deadline presses once the work left, at the group's whole speed, takes up so much of the time left.
_PRESSING_SHARE = 0.5
_USAGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What belongs to every version that this worker makes."""

    code: str
    libraries: dict[str, str]
    threads: int


class Group:
    """Holds the jobs and steps them.  All methods are called from the thread that owns the bank."""

    def __init__(
        self,
        bank: Bank,
        admission: Admission,
        preparer: Preparer,
        keeper: Keeper,
        say: Say,
        *,
        limits: choosing.Step,
        facts: Facts,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._bank = bank
        self._admission = admission
        self._preparer = preparer
        self._keeper = keeper
        self._say = say
        self._limits = limits
        self._facts = facts
        self._clock = clock
        self._now = now
        # Bytes that this process holds, for all its jobs together.
        self._resident = ResidentMemory()
        self._held: dict[str, Held] = {}
        self._shares: dict[str, choosing.Share] = {}
        self._memory = choosing.Memory()
        self._usage = _Usage(clock())
        self._ending = False

    @property
    def ended(self) -> bool:
        """Whether an end was asked for and every job has had its last word."""
        return self._ending and not self._held

    @property
    def busy(self) -> bool:
        """Whether there are jobs to take a step, if they may."""
        return any(held.member is not None for held in self._held.values())

    def take(self, event: Command | Ready | Kept) -> None:
        """Obey a command, or take in what another thread has done."""
        match event:
            case Ready():
                self._preparer.taken(event)
                self._join(event)
            case Kept():
                self._take_kept(event)
            case Command():
                self._obey(event)

    def step(self) -> bool:
        """One joint step of the jobs whose turn it is; whether there were any."""
        members = {name: held for name, held in self._held.items() if held.member is not None}
        names, self._memory = choosing.choose(
            [self._candidate(held) for held in members.values()], self._shares, self._limits, self._memory
        )
        chosen = [members[name] for name in names]
        began = self._clock()
        went = step(self._bank, [_member(held) for held in chosen])
        self._usage.busy_seconds += self._clock() - began
        for held, result in zip(chosen, went, strict=True):
            self._took(held, result)
        self.tell_usage()
        return bool(chosen)

    def tell_usage(self) -> None:
        """Say how the machine's time went, every so often while there is any to tell of."""
        if self._clock() - self._usage.since >= _USAGE_SECONDS:
            self._say_usage()

    def _say_usage(self) -> None:
        if self._usage.seconds:
            self._say(Line(Said.USAGE, seconds=self._usage.seconds, busy_seconds=self._usage.busy_seconds))
            self._usage = _Usage(self._clock())

    def _obey(self, command: Command) -> None:
        held = self._held.get(command.job)
        match command.do:
            case Do.JOIN:
                self._told_to_join(command, held)
            case Do.STOP if held is not None and held.epoch == command.epoch:
                self._stop(held)
            case Do.DROP if held is not None and held.epoch == command.epoch:
                self._drop(held)
            case Do.SHARES:
                self._preparer.share(command.weights)
                used, left = command.usage_seconds, command.tokens_left
                self._shares = {
                    tenant: choosing.Share(weight, used.get(tenant, 0.0), left.get(tenant))
                    for tenant, weight in command.weights.items()
                }
            case Do.END:
                self._ending = True
                for one in list(self._held.values()):
                    self._stop(one)

    def _told_to_join(self, command: Command, before: Held | None) -> None:
        if before is not None:
            if before.epoch >= command.epoch:
                return
            # Another lease of a job that is still here: what the earlier one did after its checkpoint is lost.
            self._drop(before)
        held = Held(
            command.job, command.tenant, Path(command.folder), command.epoch, command.priority, command.deadline
        )
        self._held[command.job] = held
        if self._ending:
            held.stopping = True
        self._preparer.put(held)

    def _join(self, ready: Ready) -> None:
        held = ready.held
        if held.gone:
            # Dropped, or another process's: the word for it is said where that was found.
            self._forget(held)
        elif ready.word is not None:
            self._end(held, ready.word)
        elif held.stopping:
            self._end(held, Line(Said.STOPPED, held.progress))
        else:
            assert ready.encoded is not None
            held.facts = ready.encoded.facts
            try:
                said = self._admission.admit(held, ready.encoded, ready.found)
            except Refused as refusal:
                self._end(held, refusal.line())
                return
            for line in said:
                self._tell(held, line)
            self._settle(held)

    def _stop(self, held: Held) -> None:
        held.stopping = True
        if held.member is not None:
            self._settle(held)

    def _drop(self, held: Held) -> None:
        held.gone = True
        self._end(held, Line(Said.STOPPED, held.progress))

    def _took(self, held: Held, went: Went) -> None:
        """Take in what a step came to for a job."""
        self._usage.seconds[held.job] = self._usage.seconds.get(held.job, 0.0) + went.seconds
        held.tokens += went.tokens
        held.seconds += went.seconds
        for line in went.lines:
            self._tell(held, self._measured(held, line) if line.said is Said.STEP else line)
        if went.refusal is not None:
            self._end(held, went.refusal.line())
            return
        self._settle(held)

    def _settle(self, held: Held) -> None:
        """Between two steps: write a checkpoint when one is due; let the job go when it is over or is to stop."""
        member = _member(held)
        held.progress = member.progress
        if not member.between_steps:
            return
        leaving = member.unit is None or held.stopping
        if (leaving and held.saved != member.mark) or (member.due and held.saved[0] != member.progress.step):
            self._save(held, member)
        if member.finished:
            self._keeper.put(held, self._result(held, member))
            self._release(held)
        elif leaving:
            self._end(held, Line(Said.STOPPED, member.progress))

    def _save(self, held: Held, member: Member) -> None:
        copies = {name: tensor.detach().clone() for name, tensor in member.tensors().items()}
        held.saved = member.mark
        export = exports.slot(member.slot.layout, self._config(held, member), self._version_facts(held, member))
        sound_step = member.watch.losses.sound_step
        self._keeper.put(held, Snapshot(copies, {**member.state(), **export}, member.progress, sound_step))

    def _result(self, held: Held, member: Member) -> Result:
        facts = {
            **self._version_facts(held, member),
            "weights_step": member.result_step,
            "evaluations": member.history.evaluations,
        }
        adapter: dict[str, Tensor] = {name: tensor.detach().clone() for name, tensor in member.result().items()}
        return Result(adapter, self._config(held, member), facts, member.progress)

    def _config(self, held: Held, member: Member) -> dict[str, Any]:
        assert held.work is not None, "a job with a slot has an order"
        return self._bank.adapter_config(member.slot, held.work.base_name)

    def _version_facts(self, held: Held, member: Member) -> dict[str, object]:
        """What belongs to the version and does not change while the job trains."""
        return {
            "code": self._facts.code,
            "libraries": self._facts.libraries,
            "threads": self._facts.threads,
            "rows": member.rows,
            **held.facts,
        }

    def _end(self, held: Held, line: Line) -> None:
        """Give the slot back, and say the job's last word when all of it is written."""
        self._release(held)
        self._keeper.put(held, LastWord(line))

    def _release(self, held: Held) -> None:
        if held.member is not None:
            self._bank.close(held.member.slot)
            held.member.close()
            held.member = None

    def _take_kept(self, kept: Kept) -> None:
        held = kept.held
        if (kept.ended or kept.refusal is not None) and held.job in self._usage.seconds:
            # What is said of a job after its last word is charged to nobody.
            self._say_usage()
        if kept.line is not None and not held.over:
            self._tell(held, kept.line)
        if kept.refusal is not None and not held.over:
            self._tell(held, kept.refusal.line())
        if kept.ended or kept.refusal is not None:
            held.over = True
            self._release(held)
            self._forget(held)

    def _forget(self, held: Held) -> None:
        if self._held.get(held.job) is held:
            del self._held[held.job]

    def _candidate(self, held: Held) -> choosing.Member:
        member = _member(held)
        assert member.unit is not None
        return choosing.Member(
            held.job,
            held.tenant,
            unit_tokens=member.unit.tokens,
            tokens_left=member.tokens_left,
            priority=Priority(held.priority),
            begun=not member.between_steps,
            # Between two steps it would have left already.
            leaving=held.stopping,
            pressing=self._presses(held, member),
            deadline=held.deadline or math.inf,
        )

    def _presses(self, held: Held, member: Member) -> bool:
        if not held.deadline:
            return False
        needed_seconds = member.tokens_left / self._limits.tokens_per_second
        left_seconds = held.deadline - self._now()
        # One that can no longer be met presses nobody aside.
        return _PRESSING_SHARE * left_seconds < needed_seconds <= left_seconds

    def _measured(self, held: Held, line: Line) -> Line:
        speed = held.tokens / held.seconds if held.seconds else 0.0
        held.tokens, held.seconds = 0, 0.0
        return replace(line, tokens_per_second=speed, memory_bytes=self._resident())

    def _tell(self, held: Held, line: Line) -> None:
        self._say(replace(line, job=held.job, epoch=held.epoch))


class _Usage:
    """How the machine's time went since it was last said, in seconds."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.seconds: dict[str, float] = {}
        self.busy_seconds = 0.0


def _member(held: Held) -> Member:
    assert held.member is not None, "a job without a slot takes no steps"
    return held.member
