"""One solo job from its first step, or from its newest checkpoint, to its end.

Invariant: nothing that the result depends on comes from outside the order, the rows and the checkpoint.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import set_seed

from services.trainer import checkpoints
from services.trainer.batches import Steps
from services.trainer.job import Progress
from services.trainer.joint.answers import Question
from services.trainer.joint.mismatching import Pairing
from services.trainer.settings import Keep, Method, Metric, Objective, Settings
from services.trainer.solo import models, state
from services.trainer.solo.answering import questions_of
from services.trainer.solo.building import trainer_for
from services.trainer.solo.course import Course
from services.trainer.solo.feeds import Feed, JudgedFeed, PairFeed, Row, feed_of
from services.trainer.solo.order import Checkpointed, Hooks, SoloOrder, Started
from services.trainer.solo.ranks import ALONE, Ranks, gathered
from services.trainer.solo.saving import save_adapter, save_full
from services.trainer.solo.trainers import Plan

_TRAINING, _VALIDATION = "training", "validation"


class Trained:
    """The model at the end of a job, ready to be saved: as it was after `step`.

    `evaluations` has each with its step and values by name.
    """

    def __init__(self, course: Course, order: SoloOrder) -> None:
        self.evaluations = course.own.history.evaluations
        self._model = course.trainer.model
        # Divided ones are put together while all processes are there to send.
        self._parameters = gathered(course.parameters, course.trainer.ranks)
        self._best = course.own.best if order.settings.keep is Keep.BEST else {}
        self._order = order
        self.step = course.own.history.best_step if self._best else course.progress.step

    def save(self, folder: Path) -> None:
        """Write the version's files into `folder`: an adapter in PEFT's layout, or a full model beside its tokenizer."""
        if not isinstance(self._model, PeftModel):
            base = self._order.base_folder
            save_full(self._best or self._parameters, base, folder, models.base_dtype(base))
            return
        with torch.no_grad():
            for name, tensor in self._best.items():
                self._parameters[name].copy_(tensor)
        save_adapter(self._model, folder, self._order.base_name)


def train(
    order: SoloOrder, training: Sequence[Row], validation: Sequence[Row], hooks: Hooks, ranks: Ranks = ALONE
) -> Trained | None:
    """Train to the end; None when a checkpoint and an end were asked for before that.

    Of several processes the first alone reports and has what is to be saved.
    Raises ValueError, a sentence, for settings that do not fit the base or the rows, Refused where the job
    diverges, DISK_FULL, LeaseLost.
    """
    questions = questions_of(validation, order.settings.generation_rows)
    _check(order.settings, training, evaluated=bool(validation), answered=bool(questions))
    if ranks.first:
        checkpoints.sweep(order.kept)
    found = ranks.said_by_first(checkpoints.newest(order.kept) if ranks.first else None)
    with tempfile.TemporaryDirectory() as scratch:
        course = _course(order, training, validation, questions, hooks, found, Path(scratch), ranks)
        if found is not None:
            # Once more: whoever was told of these may have died with it.
            for report in (*course.own.reported, Checkpointed(found.progress, 0)):
                hooks.report(report)
        hooks.report(Started(course.progress))
        course.run()
    return Trained(course, order) if course.finished else None


def _course(
    order: SoloOrder,
    training: Sequence[Row],
    validation: Sequence[Row],
    questions: Sequence[Question],
    hooks: Hooks,
    found: checkpoints.Checkpoint | None,
    scratch: Path,
    ranks: Ranks,
) -> Course:
    """The model, its trainer and its state, where the checkpoint has them."""
    settings = order.settings
    model = models.load(order.base_folder, settings, order.start, begins=found is None)
    ranks.shard(model)
    kept = state.state_of(found) if found else None
    pairing = kept.pairing if kept else Pairing.OTHER_QUESTION
    splits = ((_TRAINING, training), (_VALIDATION, validation))
    feeds = {name: feed_of(rows, settings, pairing) for name, rows in splits if rows}
    steps = Steps(
        feeds[_TRAINING].lengths,
        batch_rows=settings.batch_rows,
        epochs=settings.epochs,
        seed=settings.seed,
        max_steps=settings.max_steps,
    )
    progress = found.progress if found else Progress(total_steps=len(steps))
    trainer = trainer_for(model, order.base_folder, settings, Plan(feeds[_TRAINING], steps, progress.step), scratch)
    trainer.ranks = ranks
    own = kept or _begun(trainer, feeds)
    for split, reference in own.references.items():
        compared: Any = feeds[split]
        compared.reference = reference
    course = Course(trainer, order, hooks, feeds.get(_VALIDATION), questions, progress, own)
    if found is not None:
        course.go_on(found)
    return course


def _begun(trainer: Any, feeds: Mapping[str, Feed]) -> state.State:
    """The state before the first step: the references of feeds that compare with them, the generators by the seed."""
    compared = {split: feed for split, feed in feeds.items() if isinstance(feed, PairFeed | JudgedFeed)}
    references = {split: trainer.sequence_log_probs(feed.sequences()) for split, feed in compared.items()}
    set_seed(models.seed_of(trainer.settings))
    return state.State(references=references, generators=state.generators())


def _check(settings: Settings, training: Sequence[Row], *, evaluated: bool, answered: bool) -> None:
    """Refuse what could only fail later.  Raises ValueError."""
    if not training:
        raise ValueError("there is no row to train on")
    known = [Metric.LOSS]
    if settings.objective is Objective.DPO:
        known.append(Metric.PREFERENCE_ACCURACY)
    if answered:
        known += [Metric.EXACT_MATCH, Metric.TOKEN_F1, Metric.VALID_JSON]
    if evaluated and settings.metric not in known:
        names = ", ".join(metric.value for metric in known)
        raise ValueError(f"evaluations of this job give no {settings.metric.value}, they give {names}")
    if settings.method.joint:
        raise ValueError(f"{settings.method.value} jobs train on the shared base, not alone")
    if not 0 <= settings.label_smoothing < 0.5:
        raise ValueError("label_smoothing must be at least 0 and less than a half")
    if settings.method is Method.FULL and settings.rank_pattern:
        raise ValueError("rank_pattern is for adapters; full fine-tuning has no ranks")
