"""The document of the HTTP API lies where tools look for it, and what is not in it is refused with a way on."""

import re

import httpx
import openai
import pytest

from gateway.http.app import ROUTES
from gateway.http.elsewhere import instead
from gateway.http.openapi import PATHS
from tests.front import Front, Visitor


def test_the_document_lies_at_both_places(front: Front) -> None:
    first, second = [httpx.get(base + "/openapi.json") for base in (front.http, front.http.removesuffix("/v1"))]
    assert first.json() == second.json()
    assert first.json()["openapi"] == "3.1.0"
    assert first.headers["x-request-id"]


def test_what_is_not_served_is_refused_in_openais_shape_and_says_what_to_use(visitor: Visitor, front: Front) -> None:
    client = openai.OpenAI(base_url=front.http, api_key=visitor.key, max_retries=0)
    with pytest.raises(openai.NotFoundError, match="POST /v1/files") as refused:
        client.uploads.create(bytes=1, filename="a.txt", mime_type="text/plain", purpose="user_data")
    assert (refused.value.code, refused.value.type, refused.value.param) == ("not_found", "invalid_request_error", None)
    assert refused.value.request_id
    for verb, path in (("GET", "/assistants"), ("POST", "/images/generations"), ("GET", "/unheard/of")):
        answer = visitor.ask(verb, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert "/openapi.json" in answer.json()["error"]["message"]


def test_what_stands_in_for_a_route_that_is_not_served_is_one_that_is() -> None:
    served = {f"{route.verb} {route.path}" for route in ROUTES} | {f"GET {path}" for path in PATHS}
    for family in ("assistants", "conversations", "edits", "engines", "realtime", "threads", "uploads", "unheard"):
        named = re.findall(r"(?:GET|POST) /[a-z0-9_./]*\w", instead(f"/v1/{family}/x"))
        assert named
        assert set(named) <= served
