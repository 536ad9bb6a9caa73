"""The verbs of fine-tuning: order, look, end, pause, go on.

Invariant: a job is queued once everything that it names was found, and what is told of it was asked for in this call.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from gateway.fine_tuning import checkpoints, events, labels, view
from gateway.fine_tuning.checkpoints import Checkpoint, Checkpoints
from gateway.fine_tuning.materials import Materials
from gateway.fine_tuning.order import Asked, model_name, settings_of
from gateway.fine_tuning.results import Results
from gateway.fine_tuning.training import Job, Models, Order, Trainer
from gateway.fine_tuning.view import TuningJob
from gateway.names import AUTO, BASE
from gateway.routing import ModelKind
from services.chassis.context import current
from services.chassis.errors import Failure, Reason

_JOBS = 20
_CHECKPOINTS = 10
# As many are looked through at once for what is written on them.
_SIEVED = 500
_FRESH_LETTERS = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Entries, newest first, and whether the list goes on behind them."""

    entries: Sequence[T]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs: at most ``size`` (0: the default) behind ``after``, with this metadata, or with none at all."""

    size: int = 0
    after: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False

    def takes(self, job: Job) -> bool:
        """Whether the job is one of these."""
        written = labels.metadata(job.labels)
        return not written if self.bare else self.metadata.items() <= written.items()


class Tuner:
    """Answers for the caller whose request is being served.  ``new_id`` gives ids that end in random digits."""

    def __init__(
        self, trainer: Trainer, materials: Materials, models: Models, results: Results, new_id: Callable[[], str]
    ) -> None:
        self._trainer = trainer
        self._materials = materials
        self._models = models
        self._results = results
        self._checkpoints = Checkpoints(trainer)
        self._new_id = new_id

    async def create(self, asked: Asked) -> TuningJob:
        """Queue a job.

        Raises FILE_NOT_FOUND, FIELD_INVALID, MODEL_NOT_FOUND, DATASET_MALFORMED and as the trainer does, which also says
        who may.
        """
        order = await self._order(asked)
        multiplier = asked.hyperparameters.learning_rate_multiplier
        if multiplier is not None:
            rate = (await self._trainer.completed(order))["learning_rate"] * multiplier
            if not 0 < rate <= 1:
                problem = f"the learning rate would be {rate:g}, and must be above 0 and at most 1; choose another"
                raise Failure(Reason.FIELD_INVALID, field="hyperparameters.learning_rate_multiplier", problem=problem)
            order = replace(order, settings={**order.settings, "learning_rate": rate})
        return self._told(await self._trainer.create(order))

    async def _order(self, asked: Asked) -> Order:
        model = model_name(asked.suffix, (asked.request_id or self._new_id()).replace("-", "")[-_FRESH_LETTERS:])
        settings = settings_of(asked)
        base, start = await self._start(asked)
        dataset = await self._materials.dataset(asked.training_file, "training_file")
        held_out = asked.validation_file
        return Order(
            model=model,
            dataset=dataset,
            validation_dataset=await self._materials.dataset(held_out, "validation_file") if held_out else "",
            base=base,
            start_version=start,
            settings=settings,
            alias=asked.alias,
            labels=labels.written(asked),
            request_id=asked.request_id,
        )

    async def _start(self, asked: Asked) -> tuple[str, str]:
        """The base, and the adapter to go on from, empty for none: what the model's name means, once."""
        if asked.model == AUTO:
            problem = "auto chooses by a question, and here is none: name the model to begin from, or base"
            raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)
        route = await self._models.resolve(asked.model)
        if route.kind is ModelKind.ADAPTER:
            return asked.base, route.version
        if asked.base:
            problem = f"{asked.model} is no adapter, and says itself what is trained: leave it out"
            raise Failure(Reason.FIELD_INVALID, field="base", problem=problem)
        if route.kind is ModelKind.BASE:
            return asked.model, ""
        if route.kind is ModelKind.FULL:
            model = route.resolved.partition("@")[0].removeprefix(f"{BASE}:")
            return f"{BASE}:{model}@{route.number}", ""
        problem = f"{asked.model} is an encoder, and models of text alone are fine-tuned here"
        raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)

    async def get(self, job: str) -> TuningJob:
        """The job, with its results once it has succeeded.  Raises JOB_NOT_FOUND, PEER_UNAVAILABLE."""
        return self._told(await self._results.kept(await self._trainer.get(job)))

    async def page(self, wanted: Wanted) -> Page[TuningJob]:
        """Jobs, newest first.  Raises JOB_NOT_FOUND for one to go on behind."""
        size = wanted.size or _JOBS
        sieving = wanted.bare or bool(wanted.metadata)
        found: list[Job] = []
        after, more = wanted.after, True
        while more and len(found) <= size:
            page, more = await self._trainer.page(_SIEVED if sieving else size + 1 - len(found), after)
            found += [job for job in page if wanted.takes(job)]
            after = page[-1].job if page else after
        kept = await asyncio.gather(*map(self._results.kept, found[:size]))
        return Page([self._told(job) for job in kept], len(found) > size)

    async def cancel(self, job: str) -> TuningJob:
        """End it at its next step.  Raises ROLE_MISSING, JOB_NOT_FOUND, JOB_FINISHED."""
        return self._told(await self._trainer.cancel(job))

    async def pause(self, job: str) -> TuningJob:
        """Stop it after a checkpoint.  Raises ROLE_MISSING, JOB_NOT_FOUND, JOB_FINISHED."""
        return self._told(await self._trainer.pause(job))

    async def resume(self, job: str) -> TuningJob:
        """Queue it again.  Raises ROLE_MISSING, JOB_NOT_FOUND, JOB_NOT_PAUSED."""
        return self._told(await self._trainer.resume(job))

    async def events(self, job: str, size: int, after: str) -> Page[events.Told]:
        """Its events.  Raises JOB_NOT_FOUND, FIELD_INVALID for an event that is none of its."""
        try:
            sequence = events.sequence_of(job, after)
        except Failure:
            # A job that is not there is what is wrong first, as everywhere: of another's nothing else is told.
            await self._trainer.get(job)
            raise
        found = await self._trainer.events(job, size or _JOBS, sequence)
        return Page([events.told(job, event) for event in found], bool(found) and found[-1].sequence > 1)

    async def checkpoints(self, job: str, size: int, after: str) -> Page[Checkpoint]:
        """Its checkpoints.  Raises JOB_NOT_FOUND, FIELD_INVALID, and what the trainer refuses to publish with."""
        left = checkpoints.behind(await self._checkpoints.of(job), after)
        most = size or _CHECKPOINTS
        return Page(left[:most], len(left) > most)

    def _told(self, job: Job) -> TuningJob:
        return view.told(job, current().tenant_id)
