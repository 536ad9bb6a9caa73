import json

import pytest

from gateway.http.errors import of_http, of_status
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
