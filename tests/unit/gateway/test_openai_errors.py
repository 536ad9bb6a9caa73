import json

import pytest

from gateway.http.errors import NUMBERS, of_http, of_status
from gateway.http.headers import REFUSALS
from services.chassis.errors import Failure, Reason, Violation
from services.chassis.status import to_status


def answer(failure):
    error = of_status(to_status(failure, correlation_id="c1"), "r1")
    return error, json.loads(error.body)["error"]


def test_an_unknown_model_is_a_404_about_the_model_with_the_nearest_name():
    error, body = answer(Failure(Reason.MODEL_NOT_FOUND, name="suport", nearest="support"))
    assert error.status == 404
    assert body["code"] == "model_not_found"
    assert body["param"] == "model"
    assert "support" in body["message"]
    assert error.headers["x-request-id"] == "r1"


def test_overload_says_when_to_come_back():
    error, body = answer(Failure(Reason.OVERLOADED, retry_after_seconds=0.2, limit=1))
    assert error.status == 503
    assert error.headers["retry-after"] == "1"
    assert error.headers["x-should-retry"] == "true"
    assert body["type"] == "server_error"


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (Failure(Reason.FILES_EXHAUSTED, limit=1), 429, "rate_limit_error"),
        (Failure(Reason.RESPONSES_EXHAUSTED, limit=1), 429, "rate_limit_error"),
        (Failure(Reason.DISK_FULL, what="files"), 429, "rate_limit_error"),
        (Failure(Reason.FILE_TOO_LARGE, limit_bytes=1), 413, "invalid_request_error"),
        (Failure(Reason.DATASET_TOO_LARGE, size_bytes=2, limit_bytes=1), 413, "invalid_request_error"),
        (Failure(Reason.ETAG_MISMATCH, name="desk", etag="2"), 409, "invalid_request_error"),
        (Failure(Reason.INSUFFICIENT_QUOTA, retry_after_seconds=1e6), 429, "rate_limit_error"),
    ],
    ids=lambda it: it.reason.name if isinstance(it, Failure) else "",
)
def test_what_a_moment_does_not_change_is_not_sent_again(failure, status, kind):
    error, body = answer(failure)
    assert (error.status, body["type"]) == (status, kind)
    assert error.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "failure",
    [
        Failure(Reason.RATE_LIMIT_EXCEEDED, retry_after_seconds=2.0),
        Failure(Reason.TENANT_CALLS_EXHAUSTED, retry_after_seconds=1.0, limit=1),
        Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0),
        Failure(Reason.PEER_UNAVAILABLE, service="retriever"),
    ],
    ids=lambda it: it.reason.name,
)
def test_what_says_when_to_come_back_is_sent_again(failure):
    assert answer(failure)[0].headers["x-should-retry"] == "true"


def test_no_answer_has_a_header_that_the_document_lacks():
    told = {number: set(headers) for numbers, headers in REFUSALS.values() for number in numbers}
    # Of every answer, and HTTP's own.
    everywhere = {"x-request-id", "connection"}
    for status in NUMBERS:
        assert status in told
    for reason in Reason:
        error, _ = answer(Failure(reason))
        assert set(error.headers) - everywhere <= told[error.status], reason


def test_an_invalid_key_is_what_clients_know_it_as():
    error, body = answer(Failure(Reason.CREDENTIAL_INVALID))
    assert (error.status, body["code"], body["type"]) == (401, "invalid_api_key", "authentication_error")


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("sampling.max_tokens", "max_tokens"),
        ("sampling.logprobs", "top_logprobs"),
        ("sampling.stop[3]", "stop[3]"),
        ("history[2].content", "messages"),
        ("question", "messages"),
        ("structured_output.json_schema", "response_format"),
        ("collections[0]", "trivium.collections"),
        ("messages[0].content", "messages[0].content"),
        ("model", "model"),
    ],
)
def test_a_broken_rule_names_the_parameter_in_openais_words(field, param):
    failure = Failure(Reason.REQUEST_INVALID, violations=[Violation(field, "is wrong")], count=1, first="x")
    error, body = answer(failure)
    assert error.status == 400
    assert body["param"] == param


def test_a_field_that_a_service_refuses_is_told_by_the_callers_name_of_it_in_the_message_too():
    status = to_status(
        Failure(Reason.FIELD_INVALID, field="sampling.max_tokens", problem="is below min_tokens"), correlation_id="c1"
    )
    error = json.loads(of_status(status, "r1", {"sampling.max_tokens": "max_completion_tokens"}).body)["error"]
    assert error["param"] == "max_completion_tokens"
    assert error["message"] == "max_completion_tokens: is below min_tokens"


def test_what_is_not_there_yet_is_not_tried_again():
    error, _ = answer(Failure(Reason.NOT_YET_AVAILABLE, field="model", what="projects"))
    assert error.status == 501
    assert error.headers["x-should-retry"] == "false"


def test_a_fault_of_ours_says_nothing_but_its_id():
    _, body = answer(Failure(Reason.INTERNAL, correlation_id="c1"))
    assert body["code"] == "internal"
    assert "c1" in body["message"]


def test_an_unknown_path_has_the_same_shape():
    error = of_http(404, "GET /v2: Not Found", "r1")
    assert set(json.loads(error.body)["error"]) == {"message", "type", "param", "code"}
