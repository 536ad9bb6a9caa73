"""The trainer's RPCs: wire to domain, call, domain to wire."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from protovalidate import Validator
from trivium.trainer.v1 import dataset_pb2, dataset_pb2_grpc, training_pb2, training_pb2_grpc

from services.chassis import paging
from services.chassis.context import current
from services.chassis.idempotency import key_for
from services.chassis.runtime import Runtime
from services.chassis.streams import Chunk
from services.trainer import checkpoints, wire, wire_datasets, wire_jobs, wire_recipes, wire_sweeps
from services.trainer.bases import Chosen
from services.trainer.composition import Verbs
from services.trainer.data.checking import MAX_NAMED_PROBLEMS
from services.trainer.data.rows import Format, Problem
from services.trainer.job import Job, Order
from services.trainer.publications import Wanted
from services.trainer.recipes.filling import RECIPES, fill, names_answers, require_fit
from services.trainer.row_needs import Data
from services.trainer.sweeping.estimating import estimate
from services.trainer.sweeping.record import require_sound
from services.trainer.sweeping.sweep import Asked
from services.trainer.watching import follow
from services.trainer.work import CHECKPOINTS

_PREVIEW_ROWS = 5


class DatasetServicer(dataset_pb2_grpc.DatasetServiceServicer):
    """Datasets of the caller's tenant."""

    def __init__(self, verbs: Verbs) -> None:
        self._datasets = verbs.datasets

    async def UploadDataset(
        self, requests: AsyncIterator[dataset_pb2.UploadDatasetRequest], context: Any
    ) -> dataset_pb2.UploadDatasetResponse:
        first = await anext(requests)
        warnings: list[Problem] = []

        def warn(said: Sequence[Problem]) -> None:
            warnings.extend(said[: MAX_NAMED_PROBLEMS - len(warnings)])

        stored = await self._datasets.upload(wire.tenant(), wire.incoming(first.header), _chunks(requests), warn)
        return dataset_pb2.UploadDatasetResponse(
            dataset=wire.dataset(stored), warnings=[wire.problem(entry) for entry in warnings]
        )

    async def GetDatasetUpload(
        self, request: dataset_pb2.GetDatasetUploadRequest, context: Any
    ) -> dataset_pb2.GetDatasetUploadResponse:
        committed, complete = await self._datasets.committed(wire.tenant(), request.sha256)
        return dataset_pb2.GetDatasetUploadResponse(status=wire.upload_status(request.sha256, committed, complete))

    async def GetDataset(self, request: dataset_pb2.GetDatasetRequest, context: Any) -> dataset_pb2.GetDatasetResponse:
        found = await self._datasets.get(wire.tenant(), request.dataset)
        return dataset_pb2.GetDatasetResponse(dataset=wire.dataset(found))

    async def ValidateDataset(
        self, request: dataset_pb2.ValidateDatasetRequest, context: Any
    ) -> dataset_pb2.ValidateDatasetResponse:
        settings = wire_datasets.asked(request.settings, request.recipe, request.max_row_tokens)
        return wire_datasets.checked(
            *await self._datasets.validate(
                wire.tenant(), request.dataset, request.validation_dataset, request.base, settings
            )
        )

    async def ListDatasetProblems(
        self, request: dataset_pb2.ListDatasetProblemsRequest, context: Any
    ) -> dataset_pb2.ListDatasetProblemsResponse:
        (place,) = paging.decode(request.page_token, [str], request.dataset) or ("",)
        size = paging.size_of(request.page_size)
        found, following = await self._datasets.problems(wire.tenant(), request.dataset, size, str(place))
        return wire_datasets.problems(found, paging.encode([following], request.dataset) if following else "")

    async def PreviewDataset(
        self, request: dataset_pb2.PreviewDatasetRequest, context: Any
    ) -> dataset_pb2.PreviewDatasetResponse:
        settings = wire_datasets.asked(request.settings, request.recipe)
        return wire_datasets.previewed(
            *await self._datasets.preview(
                wire.tenant(),
                request.dataset,
                request.base,
                settings,
                request.offset,
                request.rows or _PREVIEW_ROWS,
            )
        )

    async def ListDatasets(
        self, request: dataset_pb2.ListDatasetsRequest, context: Any
    ) -> dataset_pb2.ListDatasetsResponse:
        size = paging.size_of(request.page_size)
        found = await self._datasets.page(wire.tenant(), size, wire.position(request.page_token))
        return dataset_pb2.ListDatasetsResponse(
            datasets=[wire.dataset(entry) for entry in found],
            next_page_token=wire.next_token([(entry.create_time, entry.key) for entry in found], size),
        )

    async def DeleteDataset(
        self, request: dataset_pb2.DeleteDatasetRequest, context: Any
    ) -> dataset_pb2.DeleteDatasetResponse:
        await self._datasets.delete(wire.tenant(), request.dataset)
        return dataset_pb2.DeleteDatasetResponse()


class TrainingServicer(training_pb2_grpc.TrainingServiceServicer):
    """Training jobs of the caller's tenant."""

    def __init__(self, verbs: Verbs, runtime: Runtime) -> None:
        self._jobs = verbs.jobs
        self._sweeps = verbs.sweeps
        self._rules = Validator()
        self._datasets = verbs.datasets
        self._bell = verbs.bell
        self._bases = verbs.bases
        self._folder = verbs.jobs_dir
        self._runtime = runtime
        self._runner = verbs.runner
        self._starts = verbs.starts
        self._estimates = verbs.estimates
        self._publications = verbs.publications

    async def CreateJob(self, request: training_pb2.CreateJobRequest, context: Any) -> training_pb2.CreateJobResponse:
        base, asked = await self._order(request)
        self._runner.require_fit(wire.tenant(), asked)
        (order,) = await self._estimates.warned(wire.tenant(), [asked], base.architecture)
        queued = await self._jobs.create(wire.tenant(), current().principal_id, order, key_for(request))
        return training_pb2.CreateJobResponse(job=self._job(queued))

    async def GetJob(self, request: training_pb2.GetJobRequest, context: Any) -> training_pb2.GetJobResponse:
        found = await self._jobs.get(wire.tenant(), request.job)
        return training_pb2.GetJobResponse(job=(await self._explained([found]))[0])

    async def ListJobs(self, request: training_pb2.ListJobsRequest, context: Any) -> training_pb2.ListJobsResponse:
        size = paging.size_of(request.page_size)
        begin = wire.position(request.page_token)
        found = await self._jobs.page(wire.tenant(), size, begin, request.after_job)
        fitting = paging.fitting(await self._explained(found))
        full = size if len(fitting) == len(found) else len(fitting)
        return training_pb2.ListJobsResponse(
            jobs=fitting,
            next_page_token=wire.next_token([(entry.create_time, entry.job) for entry in found[: len(fitting)]], full),
        )

    async def UpdateJob(self, request: training_pb2.UpdateJobRequest, context: Any) -> training_pb2.UpdateJobResponse:
        labelled = await self._jobs.label(wire.tenant(), request.job, request.labels)
        return training_pb2.UpdateJobResponse(job=self._job(labelled))

    async def CancelJob(self, request: training_pb2.CancelJobRequest, context: Any) -> training_pb2.CancelJobResponse:
        return training_pb2.CancelJobResponse(job=self._job(await self._jobs.cancel(wire.tenant(), request.job)))

    async def PauseJob(self, request: training_pb2.PauseJobRequest, context: Any) -> training_pb2.PauseJobResponse:
        return training_pb2.PauseJobResponse(job=self._job(await self._jobs.pause(wire.tenant(), request.job)))

    async def ResumeJob(self, request: training_pb2.ResumeJobRequest, context: Any) -> training_pb2.ResumeJobResponse:
        return training_pb2.ResumeJobResponse(job=self._job(await self._jobs.resume(wire.tenant(), request.job)))

    async def WatchJob(
        self, request: training_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[training_pb2.WatchJobResponse]:
        async for event in follow(self._jobs, self._bell, wire.tenant(), request.job, request.after_sequence):
            yield training_pb2.WatchJobResponse(event=wire_jobs.event(event))

    async def ListJobEvents(
        self, request: training_pb2.ListJobEventsRequest, context: Any
    ) -> training_pb2.ListJobEventsResponse:
        size = paging.size_of(request.page_size)
        found = await self._jobs.past(wire.tenant(), request.job, request.before_sequence, size)
        return training_pb2.ListJobEventsResponse(events=[wire_jobs.event(event) for event in found])

    async def ListCheckpoints(
        self, request: training_pb2.ListCheckpointsRequest, context: Any
    ) -> training_pb2.ListCheckpointsResponse:
        found = await self._jobs.get(wire.tenant(), request.job)
        if not found.state.keeps_checkpoints:
            return training_pb2.ListCheckpointsResponse()
        kept = await self._runtime.blocking(checkpoints.kept, self._folder / found.job / CHECKPOINTS)
        return training_pb2.ListCheckpointsResponse(checkpoints=[wire_jobs.checkpoint(entry) for entry in kept])

    async def PublishCheckpoint(
        self, request: training_pb2.PublishCheckpointRequest, context: Any
    ) -> training_pb2.PublishCheckpointResponse:
        wanted = Wanted(request.job, request.step, request.model, request.alias)
        made = await self._publications.publish(wire.tenant(), current().principal_id, wanted, key_for(request))
        return training_pb2.PublishCheckpointResponse(version=made.version, step=made.step)

    async def _order(self, request: training_pb2.CreateJobRequest) -> tuple[Chosen, Order]:
        """The base that a request means, and the order that it makes."""
        base = await self._bases.chosen(request.base)
        start = await self._starts.chosen(request.start_version, base)
        data = await self._estimates.data(wire.tenant(), request.dataset, request.validation_dataset)
        granted = self._runner.allowance(wire.tenant())
        order = self._bases.completed(wire_jobs.order(request, base, start, granted), base, data)
        await self._require_named(order, data)
        return base, order

    async def _require_named(self, order: Order, data: Data) -> None:
        """Refuse records with more answers than the recipe has names for, which would fail the job when it begins.

        They are read for a recipe with such names alone: it takes a second or so.
        """
        if names_answers(order.recipe) and data.training is not None and data.training.format is Format.RECORDS:
            described = await self._datasets.described(wire.tenant(), order.dataset)
            require_fit(order.recipe, wire_recipes.facts(*described))

    def _job(self, value: Job) -> training_pb2.Job:
        """The job as it is, and as the last plan saw it."""
        return wire_jobs.job(value, self._runner.verdicts.get(value.job))

    async def _explained(self, jobs: Sequence[Job]) -> list[training_pb2.Job]:
        """The jobs, each with why it waits: as the plan says, or its sweep."""
        answers, sweeps = [self._job(job) for job in jobs], await self._sweeps.why_wait(jobs)
        for answer in answers:
            answer.waiting_reason = answer.waiting_reason or sweeps.get(answer.job, "")
        return answers

    async def EstimateJob(
        self, request: training_pb2.EstimateJobRequest, context: Any
    ) -> training_pb2.EstimateJobResponse:
        with wire.below("job"):
            base, order = await self._order(request.job)
            misfit = self._runner.misfit(wire.tenant(), order)
            found = await self._estimates.of(wire.tenant(), order, base.architecture, misfit)
        return wire_jobs.estimate(found)

    async def CreateSweep(
        self, request: training_pb2.CreateSweepRequest, context: Any
    ) -> training_pb2.CreateSweepResponse:
        tenant = wire.tenant()
        base, asked = await self._asked(request, lambda order: self._runner.require_fit(tenant, order))
        warned = await self._estimates.warned(tenant, asked.orders, base.architecture)
        asked = replace(asked, orders=tuple(warned))
        made = await self._sweeps.create(tenant, current().principal_id, asked, key_for(request))
        return training_pb2.CreateSweepResponse(sweep=wire_sweeps.sweep(made, self._job))

    async def EstimateSweep(
        self, request: training_pb2.EstimateSweepRequest, context: Any
    ) -> training_pb2.EstimateSweepResponse:
        tenant = wire.tenant()
        with wire.below("sweep"):
            base, asked = await self._asked(request.sweep, lambda order: order)
            require_sound(asked)
            orders = [(order, self._runner.misfit(tenant, order)) for order in asked.orders]
            members = await self._estimates.of_all(tenant, orders, base.architecture)
            return wire_sweeps.estimate(estimate(asked, members))

    async def _asked(
        self, request: training_pb2.CreateSweepRequest, fitting: Callable[[Order], Order]
    ) -> tuple[Chosen, Asked]:
        """The base of a sweep and what is asked for; `fitting` may refuse the order of a member."""
        members = wire_sweeps.members(request, self._rules)
        with wire.below("job"):
            base = await self._bases.chosen(request.job.base)
            start = await self._starts.chosen(request.job.start_version, base)
            data = await self._estimates.data(wire.tenant(), request.job.dataset, request.job.validation_dataset)
        orders, granted = [], self._runner.allowance(wire.tenant())
        for place, member in enumerate(members):
            with wire_sweeps.at_member(request, place):
                order = self._bases.completed(wire_jobs.order(member, base, start, granted), base, data)
                orders.append(fitting(order))
        with wire.below("job"):
            # Of all members: axes and members are settings.
            await self._require_named(orders[0], data)
        return base, wire_sweeps.asked(request, orders)

    async def GetSweep(self, request: training_pb2.GetSweepRequest, context: Any) -> training_pb2.GetSweepResponse:
        found = await self._sweeps.get(wire.tenant(), request.sweep)
        return training_pb2.GetSweepResponse(sweep=wire_sweeps.sweep(found, self._job))

    async def ListSweeps(
        self, request: training_pb2.ListSweepsRequest, context: Any
    ) -> training_pb2.ListSweepsResponse:
        size = paging.size_of(request.page_size)
        found = await self._sweeps.page(wire.tenant(), size, wire.position(request.page_token))
        fitting = paging.fitting([wire_sweeps.sweep(entry, self._job) for entry in found])
        full = size if len(fitting) == len(found) else len(fitting)
        return training_pb2.ListSweepsResponse(
            sweeps=fitting,
            next_page_token=wire.next_token(
                [(entry.create_time, entry.sweep) for entry in found[: len(fitting)]], full
            ),
        )

    async def CancelSweep(
        self, request: training_pb2.CancelSweepRequest, context: Any
    ) -> training_pb2.CancelSweepResponse:
        found = await self._sweeps.cancel(wire.tenant(), request.sweep)
        return training_pb2.CancelSweepResponse(sweep=wire_sweeps.sweep(found, self._job))

    async def ListRecipes(
        self, request: training_pb2.ListRecipesRequest, context: Any
    ) -> training_pb2.ListRecipesResponse:
        return training_pb2.ListRecipesResponse(recipes=[wire_recipes.recipe(entry) for entry in RECIPES.values()])

    async def FillRecipe(
        self, request: training_pb2.FillRecipeRequest, context: Any
    ) -> training_pb2.FillRecipeResponse:
        facts = wire_recipes.facts(*await self._datasets.described(wire.tenant(), request.dataset))
        filled = fill(request.recipe, facts, request.choice, request.model)
        return wire_recipes.filled(filled, request.dataset, facts.distinct_answers)


async def _chunks(requests: AsyncIterator[dataset_pb2.UploadDatasetRequest]) -> AsyncIterator[Chunk]:
    async for request in requests:
        yield request.chunk
