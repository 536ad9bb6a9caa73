"""Fine-tuning over both skins of the gateway behind one face: a verb with its fields in, what is certain of it out."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grpc
import httpx
from google.protobuf import json_format
from google.protobuf.message import Message
from trivium.gateway.v1 import fine_tuning_pb2 as pb
from trivium.gateway.v1 import fine_tuning_pb2_grpc

from services.chassis.status import from_rpc_error
from tests.conformance.gateway_skins import TIMEOUT_SECONDS, Refused

# What came back, in OpenAI's words: a job, or the entries of a page with "has_more".
Told = dict[str, Any]


class Skin(Protocol):
    """One way to ask."""

    def ask(self, verb: str, fields: Mapping[str, Any]) -> Told | Refused:
        """Send it.  ``verb`` is create, get, list, cancel, pause, resume, events or checkpoints."""


class GrpcSkin:
    """``FineTuningService``."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._stub = fine_tuning_pb2_grpc.FineTuningServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    def ask(self, verb: str, fields: Mapping[str, Any]) -> Told | Refused:
        """As Skin."""
        name, request, told = _CALLS[verb]
        call: Callable[..., Any] = getattr(self._stub, name)
        try:
            message = json_format.ParseDict(dict(fields), request())
            answer = call(message, timeout=TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            return Refused(from_rpc_error(error).reason.lower())
        return told(answer)


def _of_job(answer: Any) -> Told:
    job: pb.FineTuningJob = answer.job
    return {
        "id": job.job,
        "status": pb.FineTuningStatus.Name(job.status).removeprefix("FINE_TUNING_STATUS_").lower(),
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model or None,
        "training_file": job.training_file,
        "hyperparameters": json_format.MessageToDict(job.hyperparameters, preserving_proto_field_name=True),
        "method": pb.FineTuningMethod.Name(job.method).removeprefix("FINE_TUNING_METHOD_").lower(),
        "suffix": job.suffix or None,
        "seed": job.seed,
        "metadata": dict(job.metadata),
        "error": job.error.reason.lower() or None,
        "result_files": list(job.result_files),
    }


def _of_jobs(answer: Any) -> Told:
    return {"ids": [job.job for job in answer.jobs], "has_more": answer.has_more}


def _of_events(answer: Any) -> Told:
    told = [[event.event, event.message, dict(event.metrics)] for event in answer.events]
    return {"events": told, "has_more": answer.has_more}


def _of_checkpoints(answer: Any) -> Told:
    told = [[found.checkpoint, found.step, found.fine_tuned_model_checkpoint] for found in answer.checkpoints]
    return {"checkpoints": told, "has_more": answer.has_more}


_CALLS: dict[str, tuple[str, Callable[[], Message], Callable[[Any], Told]]] = {
    "create": ("CreateFineTuningJob", pb.CreateFineTuningJobRequest, _of_job),
    "get": ("GetFineTuningJob", pb.GetFineTuningJobRequest, _of_job),
    "list": ("ListFineTuningJobs", pb.ListFineTuningJobsRequest, _of_jobs),
    "cancel": ("CancelFineTuningJob", pb.CancelFineTuningJobRequest, _of_job),
    "pause": ("PauseFineTuningJob", pb.PauseFineTuningJobRequest, _of_job),
    "resume": ("ResumeFineTuningJob", pb.ResumeFineTuningJobRequest, _of_job),
    "events": ("ListFineTuningEvents", pb.ListFineTuningEventsRequest, _of_events),
    "checkpoints": ("ListFineTuningCheckpoints", pb.ListFineTuningCheckpointsRequest, _of_checkpoints),
}
_GETS = {"get": "", "events": "/events", "checkpoints": "/checkpoints"}


class HttpSkin:
    """OpenAI's ``/v1/fine_tuning/jobs``."""

    def __init__(self, client: httpx.Client, key: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {key}"}

    def ask(self, verb: str, fields: Mapping[str, Any]) -> Told | Refused:
        """As Skin."""
        response = self._client.request(
            **self._request(verb, dict(fields)), headers=self._headers, timeout=TIMEOUT_SECONDS
        )
        body = response.json()
        return Refused(body["error"]["code"]) if response.status_code != 200 else _of_json(verb, body)

    def _request(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        jobs = "/v1/fine_tuning/jobs"
        if verb == "create":
            return {"method": "POST", "url": jobs, "json": _body(fields)}
        query = {"limit": fields["page_size"]} if "page_size" in fields else {}
        query |= {"after": fields["after"]} if "after" in fields else {}
        query |= {f"metadata[{name}]": value for name, value in fields.get("metadata", {}).items()}
        if verb == "list":
            return {"method": "GET", "url": jobs, "params": query}
        job = f"{jobs}/{fields['job']}"
        if verb in _GETS:
            return {"method": "GET", "url": job + _GETS[verb], "params": query}
        return {"method": "POST", "url": f"{job}/{verb}"}


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    method = fields.pop("method", "FINE_TUNING_METHOD_SUPERVISED").removeprefix("FINE_TUNING_METHOD_").lower()
    chosen = {"type": method, method: {"hyperparameters": fields.pop("hyperparameters", {})}}
    trivium = {name: fields.pop(name) for name in ("settings", "alias", "base", "request_id") if name in fields}
    return {**fields, "method": chosen, "trivium": trivium}


def _of_json(verb: str, body: dict[str, Any]) -> Told:
    if verb == "list":
        return {"ids": [job["id"] for job in body["data"]], "has_more": body["has_more"]}
    if verb == "events":
        told = [[event["id"], event["message"], event["data"]] for event in body["data"]]
        return {"events": told, "has_more": body["has_more"]}
    if verb == "checkpoints":
        told = [[item["id"], item["step_number"], item["fine_tuned_model_checkpoint"]] for item in body["data"]]
        return {"checkpoints": told, "has_more": body["has_more"]}
    same = ("id", "status", "model", "fine_tuned_model", "training_file", "seed", "metadata", "result_files")
    return {
        **{name: body[name] for name in same},
        "hyperparameters": json.loads(json.dumps(body["hyperparameters"])),
        "method": body["method"]["type"],
        "suffix": body["user_provided_suffix"],
        "error": body["error"] and body["error"]["code"],
    }
