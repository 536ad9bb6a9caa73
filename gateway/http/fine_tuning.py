"""/v1/fine_tuning/jobs and what lies below it: OpenAI's encoding of ``FineTuningService``."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from trivium.gateway.v1 import fine_tuning_pb2 as pb

from gateway.http import fine_tuning_answers as answers
from gateway.http import fine_tuning_rendering as rendering
from gateway.http import queries
from gateway.http.answers import NoQuery
from gateway.http.fine_tuning_schemas import CreateJob, to_request
from gateway.http.parsing import parse
from gateway.http.routes import Route
from gateway.http.transport import Asked
from gateway.http.unary import Unary
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

# What the caller calls our fields, where the names differ.
_SENT = (
    ("page_size", "limit"),
    ("base", "trivium.base"),
    ("alias", "trivium.alias"),
    ("request_id", "trivium.request_id"),
    ("job", "fine_tuning_job_id"),
)


class CreateExchange:
    """A new job; which hyperparameter is at fault is told by where the request wrote it."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent = dict(_SENT)
        self._servicer = servicers.fine_tuning

    def parse(self, asked: Asked) -> pb.CreateFineTuningJobRequest:
        """As Exchange."""
        queries.only(asked.query)
        body = parse(CreateJob, asked.body)
        self.sent |= body.sent
        request = to_request(body)
        # Under which it is repeated: what the body says, else the header.
        request.request_id = request.request_id or self.request_id
        return request

    async def answer(self, message: pb.CreateFineTuningJobRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        queued = await self._servicer.CreateFineTuningJob(message, context)
        yield json.dumps(rendering.job(queued.job), ensure_ascii=False).encode()


def _listed(asked: Asked) -> pb.ListFineTuningJobsRequest:
    bare = asked.query.get("metadata") == "null"
    written = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in asked.query.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    known = ("after", "limit", *(f"metadata[{name}]" for name in written))
    queries.only(asked.query, *known, *(("metadata",) if bare else ()))
    return pb.ListFineTuningJobsRequest(
        after=asked.query.get("after", ""),
        page_size=queries.limit(asked.query),
        metadata=written,
        without_metadata=bare,
    )


def _paging(query: Mapping[str, str]) -> dict[str, Any]:
    queries.only(query, "after", "limit")
    return {"after": query.get("after", ""), "page_size": queries.limit(query)}


_JOBS = "/v1/fine_tuning/jobs"
_JOB = _JOBS + "/{job}"


_RPCS = pb.DESCRIPTOR.services_by_name["FineTuningService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        _JOBS,
        CreateExchange,
        rpc=_RPCS["CreateFineTuningJob"],
        summary="Queue a job.",
        query=NoQuery,
        body=CreateJob,
        answer=answers.JobShown,
    ),
    Route(
        "GET",
        _JOBS,
        Unary(
            _listed,
            lambda to, message, context: to.fine_tuning.ListFineTuningJobs(message, context),
            lambda _, answer: queries.page([*map(rendering.job, answer.jobs)], has_more=answer.has_more),
            _SENT,
        ),
        rpc=_RPCS["ListFineTuningJobs"],
        summary="The jobs, newest first.",
        query=answers.JobsQuery,
        answer=answers.JobsShown,
    ),
    Route(
        "GET",
        _JOB,
        Unary(
            lambda asked: pb.GetFineTuningJobRequest(job=asked.path["job"]),
            lambda to, message, context: to.fine_tuning.GetFineTuningJob(message, context),
            lambda _, answer: rendering.job(answer.job),
            _SENT,
        ),
        rpc=_RPCS["GetFineTuningJob"],
        summary="One job.",
        query=NoQuery,
        answer=answers.JobShown,
    ),
    Route(
        "POST",
        _JOB + "/cancel",
        Unary(
            lambda asked: pb.CancelFineTuningJobRequest(job=asked.path["job"]),
            lambda to, message, context: to.fine_tuning.CancelFineTuningJob(message, context),
            lambda _, answer: rendering.job(answer.job),
            _SENT,
        ),
        rpc=_RPCS["CancelFineTuningJob"],
        summary="End a job at its next step.",
        query=NoQuery,
        body=answers.Nothing,
        answer=answers.JobShown,
    ),
    Route(
        "POST",
        _JOB + "/pause",
        Unary(
            lambda asked: pb.PauseFineTuningJobRequest(job=asked.path["job"]),
            lambda to, message, context: to.fine_tuning.PauseFineTuningJob(message, context),
            lambda _, answer: rendering.job(answer.job),
            _SENT,
        ),
        rpc=_RPCS["PauseFineTuningJob"],
        summary="Stop a job at its next step.",
        query=NoQuery,
        body=answers.Nothing,
        answer=answers.JobShown,
    ),
    Route(
        "POST",
        _JOB + "/resume",
        Unary(
            lambda asked: pb.ResumeFineTuningJobRequest(job=asked.path["job"]),
            lambda to, message, context: to.fine_tuning.ResumeFineTuningJob(message, context),
            lambda _, answer: rendering.job(answer.job),
            _SENT,
        ),
        rpc=_RPCS["ResumeFineTuningJob"],
        summary="Queue a paused job again.",
        query=NoQuery,
        body=answers.Nothing,
        answer=answers.JobShown,
    ),
    Route(
        "GET",
        _JOB + "/events",
        Unary(
            lambda asked: pb.ListFineTuningEventsRequest(job=asked.path["job"], **_paging(asked.query)),
            lambda to, message, context: to.fine_tuning.ListFineTuningEvents(message, context),
            lambda _, answer: queries.page([*map(rendering.event, answer.events)], has_more=answer.has_more),
            _SENT,
        ),
        rpc=_RPCS["ListFineTuningEvents"],
        summary="The events of a job, newest first.",
        query=answers.PageQuery,
        answer=answers.EventsShown,
    ),
    Route(
        "GET",
        _JOB + "/checkpoints",
        Unary(
            lambda asked: pb.ListFineTuningCheckpointsRequest(job=asked.path["job"], **_paging(asked.query)),
            lambda to, message, context: to.fine_tuning.ListFineTuningCheckpoints(message, context),
            lambda _, answer: queries.page([*map(rendering.checkpoint, answer.checkpoints)], has_more=answer.has_more),
            _SENT,
        ),
        rpc=_RPCS["ListFineTuningCheckpoints"],
        summary="The checkpoints of a job, newest first.",
        query=answers.PageQuery,
        answer=answers.CheckpointsShown,
    ),
)
