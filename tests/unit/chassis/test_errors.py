"""Failures render, travel and stay small."""

import pickle
from typing import Any

import grpc
from google.rpc import error_details_pb2

from services.chassis.catalogue import Code, Reason
from services.chassis.errors import Failure, Violation
from services.chassis.status import MAX_DETAILS_BYTES, MAX_VIOLATIONS, read, to_status


def details_of(failure: Failure, subject: str = "acme") -> dict[str, Any]:
    found = {}
    for packed in to_status(failure, correlation_id="id", subject=subject).details:
        name = packed.type_url.rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name)()
        packed.Unpack(found[name])
    return found


def test_every_reason_has_a_code_of_grpc_and_a_sentence() -> None:
    numbers = {code.value[0] for code in grpc.StatusCode}
    for reason in Reason:
        assert int(reason.value.code) in numbers
        assert reason.value.sentence.endswith((".", "}", "!", "?"))


def test_no_two_reasons_share_a_sentence() -> None:
    sentences = [reason.value.sentence for reason in Reason]
    assert len(set(sentences)) == len(sentences) == len(Reason.__members__)


def test_a_forgotten_variable_does_not_hide_the_failure() -> None:
    assert "?" in Failure(Reason.MODEL_NOT_FOUND, name="x").sentence


def test_what_no_wire_can_carry_of_a_callers_words_does_not_hide_the_failure() -> None:
    half = "\ud800"
    failure = Failure(Reason.FIELD_INVALID, field=half, violations=[Violation(half, half)], problem=half, name=half)
    assert details_of(failure)["BadRequest"].field_violations[0].field == "?"
    assert details_of(Failure(Reason.MODEL_NOT_FOUND, name=half, nearest=half))["ResourceInfo"].resource_name == "?"
    assert details_of(Failure(Reason.BATCH_ENDED, name=half, state=half))["PreconditionFailure"].violations


def test_a_failure_survives_pickling() -> None:
    failure = Failure(Reason.FIELD_INVALID, field="a.b", problem="p", retry_after_seconds=2.0)
    copy = pickle.loads(pickle.dumps(failure))
    assert (copy.reason, copy.field, copy.variables, copy.retry_after_seconds) == (
        failure.reason,
        "a.b",
        failure.variables,
        2.0,
    )


def test_details_stay_small_whatever_is_put_in() -> None:
    violations = [Violation("f" * 5000, "d" * 5000) for _ in range(500)]
    failure = Failure(Reason.REQUEST_INVALID, violations=violations, first="x" * 50_000, count=500)
    status = to_status(failure, correlation_id="id")
    assert status.ByteSize() <= MAX_DETAILS_BYTES
    small = Failure(Reason.REQUEST_INVALID, violations=[Violation("f", "d")] * 500)
    assert len(details_of(small)["BadRequest"].field_violations) == MAX_VIOLATIONS
    variables: dict[str, Any] = {f"v{index}": "x" * 600 for index in range(50)}
    many = Failure(Reason.MODEL_NOT_FOUND, **variables)
    assert to_status(many, correlation_id="id").ByteSize() <= MAX_DETAILS_BYTES


def test_each_code_brings_the_detail_that_its_reader_needs() -> None:
    quota = details_of(Failure(Reason.TENANT_CALLS_EXHAUSTED, limit=1, retry_after_seconds=1.5))
    assert quota["QuotaFailure"].violations[0].subject == "tenants/acme"
    assert quota["RetryInfo"].retry_delay.ToMilliseconds() == 1500
    field = details_of(Failure(Reason.PAGE_TOKEN_INVALID, field="page_token"))
    assert field["BadRequest"].field_violations[0].field == "page_token"
    state = details_of(Failure(Reason.MODEL_SOURCE_INVALID, uri="u", problem="p", name="u"))
    assert state["PreconditionFailure"].violations[0].type == "MODEL_SOURCE_INVALID"


def test_a_status_reads_back_as_it_was_written() -> None:
    failure = Failure(Reason.OVERLOADED, limit=3, retry_after_seconds=0.25)
    back = read(to_status(failure, correlation_id="id"))
    assert (back.code, back.reason, back.retry_after_seconds) == (Code.UNAVAILABLE, "OVERLOADED", 0.25)
    assert (back.variables["limit"], back.correlation_id) == ("3", "id")
