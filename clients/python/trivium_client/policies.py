"""Content policies of tenants: which server judges what they ask and are answered; role admin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import policy_pb2
from trivium.access.v1.access_pb2_grpc import AccessServiceStub

from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.access.v1.access_pb2_grpc import AccessServiceAsyncStub

ANSWERS = {
    "pieces": policy_pb2.ANSWER_CHECK_PIECES,
    "whole": policy_pb2.ANSWER_CHECK_WHOLE,
    "none": policy_pb2.ANSWER_CHECK_NONE,
}
_WORDS = {int(number): word for word, number in ANSWERS.items()}


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Who judges, at `endpoint` (host:port), and how.

    `answers` is pieces (a sentence at a time), whole, or none; `fail_open` lets pass what the server did not judge
    within `timeout_ms`.
    """

    endpoint: str
    timeout_ms: int = 2000
    fail_open: bool = False
    prompts: bool = True
    answers: str = "pieces"


class Policies:
    """Content policies; a server of them implements `trivium.policy.v1.PolicyService`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> AccessServiceAsyncStub:
        stub: AccessServiceAsyncStub = self._transport.stub("access", AccessServiceStub)
        return stub

    async def get(self, tenant: str) -> ContentPolicy | None:
        """A tenant's policy, None where it has none.  Raises NotFoundError."""
        response = await self._transport.call("access", self._stub().GetPolicy, pb.GetPolicyRequest(tenant=tenant))
        return _policy(response.policy)

    async def set(self, tenant: str, policy: ContentPolicy) -> ContentPolicy:
        """Replace a tenant's policy; every gateway keeps to it within ten seconds.

        Raises NotFoundError, InvalidRequestError, and ValueError for `answers` that there are not.
        """
        if policy.answers not in ANSWERS:
            raise ValueError(f"answers are not judged {policy.answers!r}; there are: {', '.join(ANSWERS)}")
        message = policy_pb2.Policy(
            endpoint=policy.endpoint,
            timeout_ms=policy.timeout_ms,
            failure=policy_pb2.POLICY_FAILURE_OPEN if policy.fail_open else policy_pb2.POLICY_FAILURE_CLOSED,
            answers=ANSWERS[policy.answers],
            skip_prompts=not policy.prompts,
        )
        return await self._update(tenant, message) or policy

    async def remove(self, tenant: str) -> None:
        """End a tenant's policy; nothing is judged then.  Raises NotFoundError."""
        await self._update(tenant, policy_pb2.Policy())

    async def _update(self, tenant: str, message: policy_pb2.Policy) -> ContentPolicy | None:
        request = pb.UpdatePolicyRequest(tenant=tenant, policy=message)
        return _policy((await self._transport.call("access", self._stub().UpdatePolicy, request)).policy)


def _policy(message: policy_pb2.Policy) -> ContentPolicy | None:
    if not message.endpoint:
        return None
    return ContentPolicy(
        endpoint=message.endpoint,
        timeout_ms=message.timeout_ms,
        fail_open=message.failure == policy_pb2.POLICY_FAILURE_OPEN,
        prompts=not message.skip_prompts,
        answers=_WORDS.get(message.answers, "pieces"),
    )
