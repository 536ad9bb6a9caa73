"""Content policies, between protobuf and the domain."""

from trivium.access.v1 import policy_pb2

from services.access.policies import DEFAULT_TIMEOUT_MS, AnswerCheck, ContentPolicy

_CHECKS = {
    AnswerCheck.PIECES: policy_pb2.ANSWER_CHECK_PIECES,
    AnswerCheck.WHOLE: policy_pb2.ANSWER_CHECK_WHOLE,
    AnswerCheck.NONE: policy_pb2.ANSWER_CHECK_NONE,
}
_CHECKS_BACK = {int(number): check for check, number in _CHECKS.items()}


def of_policy(message: policy_pb2.Policy) -> ContentPolicy | None:
    """A policy as it was asked for; without an endpoint there is none."""
    if not message.endpoint:
        return None
    return ContentPolicy(
        endpoint=message.endpoint,
        timeout_ms=message.timeout_ms or DEFAULT_TIMEOUT_MS,
        fail_open=message.failure == policy_pb2.POLICY_FAILURE_OPEN,
        prompts=not message.skip_prompts,
        answers=_CHECKS_BACK.get(message.answers, AnswerCheck.PIECES),
    )


def policy(value: ContentPolicy | None) -> policy_pb2.Policy:
    """A policy as the API shows it."""
    if value is None:
        return policy_pb2.Policy()
    return policy_pb2.Policy(
        endpoint=value.endpoint,
        timeout_ms=value.timeout_ms,
        failure=policy_pb2.POLICY_FAILURE_OPEN if value.fail_open else policy_pb2.POLICY_FAILURE_CLOSED,
        answers=_CHECKS[value.answers],
        skip_prompts=not value.prompts,
    )
