"""What happens between the steps of a solo job: it reports, evaluates, keeps the best, checkpoints, stops.

Invariant: at the end of a step, first the evaluation, then the checkpoint: what a checkpoint holds is all that the
next step depends on, and a run that goes on from it evaluates nothing twice.  It is written behind the steps that follow
(`writing`), of copies; a job leaves only when its last one is durable.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback

from services.chassis.resources import ResidentMemory
from services.trainer import checkpoints
from services.trainer.divergence import Watch
from services.trainer.job import Progress
from services.trainer.joint.answers import Question
from services.trainer.rates import rate
from services.trainer.settings import Keep
from services.trainer.solo import models, state
from services.trainer.solo.answering import answered
from services.trainer.solo.feeds import Feed
from services.trainer.solo.order import (
    Assessment,
    Evaluated,
    Hooks,
    Remarked,
    SoloOrder,
    Stepped,
)
from services.trainer.solo.saving import export_of
from services.trainer.solo.writing import Writer


class Course(TrainerCallback):
    """Follows one trainer from the step after `progress` on."""

    def __init__(
        self,
        trainer: Any,
        order: SoloOrder,
        hooks: Hooks,
        held_out: Feed | None,
        questions: Sequence[Question],
        progress: Progress,
        own: state.State,
    ) -> None:
        self.trainer = trainer
        self.parameters = models.trained(trainer.model)
        self.progress = progress
        self.own = own
        self._order = order
        self._settings = order.settings
        self._hooks = hooks
        self._held_out = held_out
        self._questions = questions
        self._checkpoint: checkpoints.Checkpoint | None = None
        self._watch = Watch(order.settings, trainer.model.config, own.losses)
        self._writer = Writer(order, hooks)
        self._export = export_of(trainer.model, order.base_name, order.facts)
        self._resident = ResidentMemory()
        self._began_seconds = 0.0

    def go_on(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Put the checkpoint's weights in their place now, and its moments once the optimizer is in its own."""
        state.restore_weights(self.parameters, checkpoint)
        self._checkpoint = checkpoint

    def run(self) -> None:
        """Do what steps are left, or as many as are wanted.  Raises Refused where the job diverges."""
        if not self.finished and not self._held:
            self.trainer.add_callback(self)
            with self._writer:
                self.trainer.train()
        if self.finished:
            self._watch.ended(self.progress, self.own.history)

    @property
    def _held(self) -> bool:
        return bool(self._order.hold_step) and self.progress.step >= self._order.hold_step

    @property
    def finished(self) -> bool:
        """Whether no step is left to do."""
        return self.own.history.ended or self.progress.step >= self.progress.total_steps

    def on_train_begin(self, args: Any, trainer_state: Any, control: Any, **_: Any) -> None:
        """Go on where the checkpoint was taken."""
        trainer_state.global_step = self.progress.step
        if self._checkpoint is not None:
            state.restore_moments(self.parameters, self.trainer.optimizer, self._checkpoint)

    def on_step_begin(self, args: Any, trainer_state: Any, control: Any, **_: Any) -> None:
        """Leave no trace in the generators of what was drawn since the last step, or before the first."""
        self._hooks.each_step()
        if self.own.generators:
            state.set_generators(self.own.generators)
            self.own.generators = {}
        self._began_seconds = time.perf_counter()

    def on_pre_optimizer_step(self, args: Any, trainer_state: Any, control: Any, **_: Any) -> None:
        """Before a weight has changed: whether the step's numbers are those of a job that learns.  Raises Refused."""
        self._watch.require_finite(self.progress.step + 1, self.trainer.loss, self.trainer.gradient_norm)
        self._watch.stepped(self.progress, self.trainer.wanted_loss)

    def on_step_end(self, args: Any, trainer_state: Any, control: Any, **_: Any) -> None:
        """Report the step, then do what is due after it.  Raises what a checkpoint of an earlier step failed with."""
        self._writer.look()
        tokens = self._count()
        took_seconds = time.perf_counter() - self._began_seconds
        self._tell(
            Stepped(
                self.progress,
                rate(self.progress.step - 1, self.progress.total_steps, self._settings),
                self.trainer.gradient_norm,
                tokens / took_seconds,
                self._resident(),
            )
        )
        if self._evaluation_due():
            self._evaluate()
        stopping = self.trainer.ranks.said_by_first(self._hooks.stopping()) or self._held
        leaving = bool(stopping or self.finished)
        if leaving or self.progress.step % self._settings.checkpoint_steps == 0:
            self._checkpoint_now(leaving=leaving)
        if leaving:
            control.should_training_stop = True

    def _checkpoint_now(self, *, leaving: bool) -> None:
        """Have all of the job's state written; who leaves waits until it is durable.

        Raises Refused where a weight is no number, and as `Writer.wait` what this one or the one before failed with.
        """
        ranks = self.trainer.ranks
        if ranks.total(float(not state.finite(self.parameters.values()))):
            raise self._watch.diverged(f"after step {self.progress.step} the weights are no longer numbers")
        # Before the next is put together: memory is planned for one.  Others wait where they send their parts.
        self._writer.wait()
        tensors = state.tensors_of(self.parameters, self.trainer.optimizer, self.own, ranks, copied=not leaving)
        if ranks.first:
            sound_step = self.own.losses.sound_step
            self._writer.put(tensors, {**state.noted(self.own), **self._export}, self.progress, sound_step)
        if leaving:
            self._writer.wait()
            # All leave together: whoever were left alone would end with an error.
            ranks.wait()

    def _count(self) -> int:
        """Count the step that was just done; return its tokens."""
        plan = self.trainer.plan
        tokens: int = sum(plan.feed.lengths[row] for row in plan.steps[self.progress.step])
        self.progress = replace(
            self.progress,
            step=self.progress.step + 1,
            trained_tokens=self.progress.trained_tokens + tokens,
            loss=self.trainer.loss,
        )
        return tokens

    def _evaluation_due(self) -> bool:
        step = self.progress.step
        if self._held_out is None or self.own.history.evaluated_step == step:
            return False
        epoch_steps = -(-len(self.trainer.plan.feed.lengths) // self._settings.batch_rows)
        every = self._settings.evaluation_steps or epoch_steps
        return step % every == 0 or step in (self.progress.total_steps, self._order.hold_step)

    def _evaluate(self) -> None:
        assessment: Assessment = self.trainer.assess(self._held_out)
        if self._questions:
            assessment = replace(assessment, answers=self._answers())
        value = assessment.values()[self._settings.metric.value]
        self._watch.evaluated(self.progress.step, value)
        history = self.own.history
        best = history.add(self.progress.step, value, self._settings)
        history.note(self.progress, assessment.values())
        if best:
            self.progress = replace(self.progress, best_step=self.progress.step)
        if best and self._settings.keep is Keep.BEST:
            dtype = models.base_dtype(self._order.base_folder)
            self.own.best = models.result_of(self.trainer.model, self.parameters, dtype, self.trainer.ranks)
        self._tell(Evaluated(self.progress, assessment, best))
        if history.ended:
            ended = f"ended early: {history.misses} evaluations without improvement on that of step {history.best_step}"
            self._writer.say(Remarked(self.progress, ended))

    def _tell(self, report: Stepped | Evaluated) -> None:
        self.own.reported.append(report)
        self._writer.say(report)

    def _answers(self) -> dict[str, float]:
        def decode(tokens: Sequence[int]) -> str:
            return str(self.trainer.processing_class.decode(list(tokens), skip_special_tokens=True)).strip()

        with models.without_dropout(self.trainer.model):
            return answered(self.trainer.model, decode, self._questions, self._settings, self._order.turn_ends)
