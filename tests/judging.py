"""A server of a content policy, as an operator would run one, in the test's own process."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from trivium.policy.v1 import policy_pb2 as pb
from trivium.policy.v1 import policy_pb2_grpc

Verdict = pb.Allow | pb.Refuse | pb.Replace | None


class Judge(policy_pb2_grpc.PolicyServiceServicer):
    """Says what the test tells it to; None is no verdict.  Keeps what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.prompts: list[pb.CheckPromptRequest] = []
        self.parts: list[pb.CheckAnswerRequest] = []
        self.metadata: set[str] = set()
        self.of_prompt: Callable[[pb.CheckPromptRequest], Verdict] = lambda _: pb.Allow()
        self.of_part: Callable[[pb.CheckAnswerRequest], Verdict] = lambda _: pb.Allow()
        # While it is clear nobody gets a verdict.
        self.awake = threading.Event()
        self.awake.set()

    def CheckPrompt(self, request: pb.CheckPromptRequest, context: Any) -> pb.CheckPromptResponse:
        self._heard(self.prompts, request, context)
        response = pb.CheckPromptResponse()
        _say(response, self.of_prompt(request))
        return response

    def CheckAnswer(self, request: pb.CheckAnswerRequest, context: Any) -> pb.CheckAnswerResponse:
        self._heard(self.parts, request, context)
        response = pb.CheckAnswerResponse()
        _say(response, self.of_part(request))
        return response

    def _heard(self, into: list[Any], request: Any, context: Any) -> None:
        into.append(request)
        self.metadata |= {name for name, _ in context.invocation_metadata()}
        self.awake.wait(30)


def _say(response: Any, verdict: Verdict) -> None:
    match verdict:
        case pb.Allow():
            response.allow.CopyFrom(verdict)
        case pb.Refuse():
            response.refuse.CopyFrom(verdict)
        case pb.Replace():
            response.replace.CopyFrom(verdict)
        case None:
            pass


@contextmanager
def judging() -> Iterator[Judge]:
    """A judge that listens inside the block."""
    judge = Judge()
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads)
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(judge, server)
        judge.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield judge
        finally:
            judge.awake.set()
            server.stop(None).wait()
