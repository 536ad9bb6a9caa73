"""One job on the bank: what it does next, and what comes of it.

Invariant: all that a later step depends on is the slot's tensors and what `tensors`, `state` and `progress` say; they may
be taken whenever `between_steps` holds, and whoever goes on from them, in whatever company, ends with the same bits.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from services.trainer.bank import Slot, Update
from services.trainer.batches import Steps
from services.trainer.conduct import Refused
from services.trainer.divergence import LOSSES, Watch, losses_of
from services.trainer.job import Progress
from services.trainer.joint import answers, objectives
from services.trainer.joint.assessment import assessed
from services.trainer.joint.dataset import Kind, Rows, Splits
from services.trainer.joint.history import History
from services.trainer.joint.losses import Loss, StepLoss, Wanted
from services.trainer.joint.mismatching import PAIRING
from services.trainer.joint.references import References, scored_parts, scored_unit
from services.trainer.joint.units import Answer, Trained, Unit, UnitKind, parts
from services.trainer.rates import rate
from services.trainer.settings import Keep, Metric, Settings
from services.trainer.work import REMEMBERED_LINES, Line, Said

_SLOT, _BEST, _REFERENCE = "slot.", "best.", "reference."


class Member:
    """A job that holds a slot of the bank.

    `decode` turns an answer's tokens into text, `watch` says when the job has diverged.  At `hold_step` (0: never) it is
    evaluated and has nothing more to do.
    """

    def __init__(
        self,
        slot: Slot,
        splits: Splits,
        settings: Settings,
        decode: Callable[[Sequence[int]], str],
        watch: Watch,
        hold_step: int = 0,
    ) -> None:
        self.slot = slot
        self.settings = settings
        self.watch = watch
        self._hold_step = hold_step
        self._splits = splits
        self._decode = decode
        self._plan = Steps(
            splits.training.lengths,
            batch_rows=settings.batch_rows,
            epochs=settings.epochs,
            seed=settings.seed,
            max_steps=settings.max_steps,
        )
        self._references = References(splits.by_name(), settings.micro_batch_tokens)
        self._best: dict[str, Tensor] = {}
        self._loss: Loss | None = None
        self._wanted = Wanted()
        self._lines: list[Line] = []
        self._remembered: deque[Line] = deque(maxlen=REMEMBERED_LINES)
        self._questions = answers.questions(splits.held_out, settings.generation_rows) if splits.held_out else []
        self.progress = Progress(total_steps=len(self._plan))
        self.history = History()
        self.between_steps = True
        self._course = self._run()
        self.unit: Unit | None = None

    def begin(self) -> None:
        """Find the first unit: of a new run, or of the one that `restore` put back.  Raises Refused."""
        metric = self.settings.metric
        if self._splits.held_out is not None and metric.value not in self._measured():
            known = ", ".join(self._measured())
            raise Refused("SETTINGS_UNFIT", f"evaluations of this job give no {metric.value}, they give {known}")
        self.unit = next(self._course, None)

    @property
    def rows(self) -> int:
        """Rows that are trained on."""
        return len(self._splits.training)

    @property
    def tokens_left(self) -> int:
        """Tokens of the steps that are still to do."""
        return self._plan.tokens_since(self.progress.step)

    @property
    def finished(self) -> bool:
        """Whether training is over; a member without a unit that is not finished is held."""
        return self.unit is None and self._over

    @property
    def mark(self) -> tuple[int, int, int]:
        """Where the job stands: steps done, sequences referred to, the last step evaluated."""
        return self.progress.step, self._references.sequences, self.history.evaluated_step

    @property
    def due(self) -> bool:
        """Whether this is a place for a checkpoint: every so many steps, behind the evaluation of the step if any.

        The references are worth one too: they may take longer than many steps.
        """
        if self._evaluation_due():
            return False
        if self.progress.step:
            return self.progress.step % self.settings.checkpoint_steps == 0
        referring = self.unit is not None and self.unit.kind is UnitKind.REFERENCE
        return self.settings.objective.preference and not referring

    def loss(self, log_probs: Tensor, lengths: list[int]) -> Tensor:
        """The TRAIN unit's loss [] of its supervised tokens' `log_probs` [tokens]; `lengths` says whose they are."""
        assert self._loss is not None, "no unit that trains is under way"
        self._wanted.add(log_probs.detach(), lengths)
        return self._loss(log_probs, lengths)

    def update(self) -> Update:
        """The optimizer step that follows a unit which closes one."""
        settings = self.settings
        return Update(
            slot=self.slot,
            learning_rate=self._rate(),
            beta1=settings.beta1,
            beta2=settings.beta2,
            epsilon=settings.epsilon,
            weight_decay=settings.weight_decay,
            max_gradient_norm=settings.max_gradient_norm,
        )

    def go_on(self, answer: Answer) -> list[Line]:
        """Take in what became of the unit and find the next; return what is to be said.  Raises Refused."""
        self._lines = []
        try:
            self.unit = self._course.send(answer)
        except StopIteration:
            self.unit = None
        return self._lines

    def close(self) -> None:
        """Nothing more is asked of it.  Its rows go with the last reference, and not when a collector comes by."""
        self._course.close()

    def result(self) -> dict[str, Tensor]:
        """The adapter by PEFT's names: the best one, or the last."""
        return self._best or self.slot.adapter()

    @property
    def result_step(self) -> int:
        """After which step `result` was taken."""
        return self.history.best_step if self._best else self.progress.step

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that later steps depend on; the slot's may be live.  Only while `between_steps`."""
        held = {_SLOT + name: tensor for name, tensor in self.slot.tensors().items()}
        held |= {_BEST + name: tensor for name, tensor in self._best.items()}
        return held | {_REFERENCE + name: found for name, found in self._references.tensors().items()}

    def state(self) -> dict[str, Any]:
        """What later steps depend on beside tensors and progress, as JSON takes it."""
        said = [line.fields() for line in self._remembered]
        return {
            "history": asdict(self.history),
            "said": said,
            PAIRING: self._splits.pairing,
            LOSSES: asdict(self.watch.losses),
        }

    @property
    def remembered(self) -> list[Line]:
        """What was said of the last steps: whoever was told may have died with it.  Told again, it is told once."""
        return list(self._remembered)

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], progress: Progress) -> None:
        """Put back what a checkpoint holds, before `begin`.  Raises ValueError, a sentence, for another run's."""
        self._require_same_plan(progress)
        self.slot.restore(_below(tensors, _SLOT))
        self._best = _below(tensors, _BEST)
        self._references.restore(_below(tensors, _REFERENCE))
        self.history = History(**state["history"])
        self.watch.losses = losses_of(state, progress)
        self._remembered.extend(Line.of(fields) for fields in state.get("said", ()))
        self.progress = progress

    def restore_first_format(self, slot_tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Put back what the previous release stored, given as the slot's tensors.  Raises ValueError, as `restore`."""
        self._require_same_plan(progress)
        self.slot.restore(slot_tensors)
        self.progress = progress
        self.watch.losses = losses_of({}, progress)
        # That release evaluated nothing.
        self.history = History(evaluated_step=progress.step)

    def _require_same_plan(self, progress: Progress) -> None:
        if progress.total_steps != len(self._plan):
            raise ValueError(
                f"the checkpoint is of a run of {progress.total_steps} steps, the order takes {len(self._plan)}"
            )

    def _run(self) -> Generator[Unit, Answer, None]:
        if self.settings.objective.preference:
            yield from self._references.compute()
        while True:
            if self._evaluation_due():
                yield from self._evaluate()
            if self._over:
                self.watch.ended(self.progress, self.history)
                return
            if self.progress.step == self._hold_step != 0:
                return
            yield from self._step()

    def _step(self) -> Generator[Unit, Answer, None]:
        rows = self._plan[self.progress.step]
        data = self._splits.training
        moved = 0.0
        if data.kind is Kind.JUDGED:
            mismatched = yield from self._scores(UnitKind.MISMATCH, data, [row * 2 + 1 for row in rows])
            moved = objectives.reference_point(mismatched, self._references.of("training")[rows, 1])
        counted = data.supervised_tokens(rows) if data.kind is Kind.PLAIN else len(rows)
        reference = None if data.kind is Kind.PLAIN else self._references.of("training")
        loss = StepLoss(data, self.settings, counted, reference, moved)
        cut = parts(data.row_tokens(rows), self.settings.micro_batch_tokens)
        total, norm = 0.0, 0.0
        self._wanted = Wanted()
        for part in cut:
            own = [rows[index] for index in part]
            self._loss, self._wanted.sequences = loss.of(own), data.wanted(own)
            trained = yield Unit(UnitKind.TRAIN, tuple(data.sequences(own)), closes_step=part.stop == len(rows))
            assert isinstance(trained, Trained)
            self.between_steps = False
            total, norm = total + trained.loss, trained.gradient_norm
            self.watch.require_finite(self.progress.step + 1, total, norm)
        self.watch.stepped(self.progress, self._wanted.loss)
        self._loss, self.between_steps = None, True
        self._stepped(rows, total, norm)

    @property
    def _over(self) -> bool:
        return self.history.ended or self.progress.step >= self.progress.total_steps

    def _stepped(self, rows: Sequence[int], loss: float, norm: float) -> None:
        learning_rate = self._rate()
        tokens = sum(self._splits.training.row_tokens(rows))
        self.progress = replace(
            self.progress,
            step=self.progress.step + 1,
            trained_tokens=self.progress.trained_tokens + tokens,
            loss=loss,
        )
        self._say(Line(Said.STEP, self.progress, learning_rate, norm))

    def _evaluation_due(self) -> bool:
        held_out, step = self._splits.held_out, self.progress.step
        if held_out is None or step in (0, self.history.evaluated_step):
            return False
        every = self.settings.evaluation_steps or math.ceil(self.rows / self.settings.batch_rows)
        return step % every == 0 or step in (self.progress.total_steps, self._hold_step)

    def _evaluate(self) -> Generator[Unit, Answer, None]:
        rows = self._splits.held_out
        assert rows is not None
        scores = yield from self._scores(UnitKind.EVALUATION, rows, range(len(rows.ends)))
        reference = self._references.of("held_out").flatten() if self.settings.objective.preference else scores
        found = assessed(rows, scores, reference, self.settings)
        if self._questions:
            found |= answers.measures((yield from self._answer()))
        value = found[self.settings.metric.value]
        self.watch.evaluated(self.progress.step, value)
        if self.history.add(self.progress.step, value, self.settings):
            self.progress = replace(self.progress, best_step=self.progress.step)
            if self.settings.keep is Keep.BEST:
                self._best = {name: tensor.detach().clone() for name, tensor in self.slot.adapter().items()}
        self.history.note(self.progress, found)
        self._say(Line(Said.EVALUATION, self.progress, evaluation=found))
        if self.history.ended:
            best = self.history.best_step
            why = f"ended early: the last {self.history.misses} evaluations are no better than that of step {best}"
            self._say(Line(Said.MESSAGE, self.progress, message=why))

    def _answer(self) -> Generator[Unit, Answer, list[tuple[str, str]]]:
        """Answer the held-out questions greedily; return each answer beside the one that is expected."""
        limit = self.settings.generation_tokens
        given: list[list[int]] = []
        costs = [len(question.prompt.tokens) + limit for question in self._questions]
        for part in parts(costs, self.settings.micro_batch_tokens):
            prompts = tuple(self._questions[index].prompt for index in part)
            answered = yield Unit(UnitKind.GENERATION, prompts, answer_tokens=limit, turn_ends=self._splits.turn_ends)
            assert isinstance(answered, list)
            given += answered
        return [
            (self._decode(tokens), self._decode(question.expected))
            for tokens, question in zip(given, self._questions, strict=True)
        ]

    def _scores(self, kind: UnitKind, rows: Rows, wanted: Sequence[int]) -> Generator[Unit, Answer, Tensor]:
        """The log-probability of each of the wanted sequences, [sequences]."""
        found: list[Tensor] = []
        for part in scored_parts(rows, wanted, self.settings.micro_batch_tokens):
            scores = yield scored_unit(kind, rows, part)
            assert isinstance(scores, Tensor)
            found.append(scores)
        return torch.cat(found)

    def _measured(self) -> list[str]:
        """Metrics that this job's evaluations give."""
        found = [Metric.LOSS.value]
        if self._splits.training.kind is Kind.PAIR:
            found.append(Metric.PREFERENCE_ACCURACY.value)
        generated = (Metric.EXACT_MATCH, Metric.TOKEN_F1, Metric.VALID_JSON)
        return found + ([metric.value for metric in generated] if self._questions else [])

    def _rate(self) -> float:
        return rate(self.progress.step, self.progress.total_steps, self.settings)

    def _say(self, line: Line) -> None:
        self._lines.append(line)
        if line.said is not Said.MESSAGE:
            self._remembered.append(line)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
