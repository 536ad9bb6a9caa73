"""One method an RPC of fine-tuning: wire to domain, call, domain to wire."""

from trivium.gateway.v1 import fine_tuning_pb2, fine_tuning_pb2_grpc

from gateway.fine_tuning import wire
from gateway.fine_tuning.tuner import Tuner
from services.chassis.interceptors.call import ServicerContext


class FineTuningServicer(fine_tuning_pb2_grpc.FineTuningServiceServicer):
    """Fine-tuning jobs of the caller's tenant."""

    def __init__(self, tuner: Tuner) -> None:
        self._tuner = tuner

    async def CreateFineTuningJob(
        self, request: fine_tuning_pb2.CreateFineTuningJobRequest, context: ServicerContext
    ) -> fine_tuning_pb2.CreateFineTuningJobResponse:
        queued = await self._tuner.create(wire.asked(request))
        return fine_tuning_pb2.CreateFineTuningJobResponse(job=wire.job(queued))

    async def GetFineTuningJob(
        self, request: fine_tuning_pb2.GetFineTuningJobRequest, context: ServicerContext
    ) -> fine_tuning_pb2.GetFineTuningJobResponse:
        return fine_tuning_pb2.GetFineTuningJobResponse(job=wire.job(await self._tuner.get(request.job)))

    async def ListFineTuningJobs(
        self, request: fine_tuning_pb2.ListFineTuningJobsRequest, context: ServicerContext
    ) -> fine_tuning_pb2.ListFineTuningJobsResponse:
        return wire.jobs(await self._tuner.page(wire.wanted(request)))

    async def CancelFineTuningJob(
        self, request: fine_tuning_pb2.CancelFineTuningJobRequest, context: ServicerContext
    ) -> fine_tuning_pb2.CancelFineTuningJobResponse:
        return fine_tuning_pb2.CancelFineTuningJobResponse(job=wire.job(await self._tuner.cancel(request.job)))

    async def PauseFineTuningJob(
        self, request: fine_tuning_pb2.PauseFineTuningJobRequest, context: ServicerContext
    ) -> fine_tuning_pb2.PauseFineTuningJobResponse:
        return fine_tuning_pb2.PauseFineTuningJobResponse(job=wire.job(await self._tuner.pause(request.job)))

    async def ResumeFineTuningJob(
        self, request: fine_tuning_pb2.ResumeFineTuningJobRequest, context: ServicerContext
    ) -> fine_tuning_pb2.ResumeFineTuningJobResponse:
        return fine_tuning_pb2.ResumeFineTuningJobResponse(job=wire.job(await self._tuner.resume(request.job)))

    async def ListFineTuningEvents(
        self, request: fine_tuning_pb2.ListFineTuningEventsRequest, context: ServicerContext
    ) -> fine_tuning_pb2.ListFineTuningEventsResponse:
        return wire.events(await self._tuner.events(request.job, request.page_size, request.after))

    async def ListFineTuningCheckpoints(
        self, request: fine_tuning_pb2.ListFineTuningCheckpointsRequest, context: ServicerContext
    ) -> fine_tuning_pb2.ListFineTuningCheckpointsResponse:
        return wire.checkpoints(await self._tuner.checkpoints(request.job, request.page_size, request.after))
