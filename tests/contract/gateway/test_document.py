"""The document of the HTTP API lies where tools look for it."""

import httpx

from tests.front import Front


def test_the_document_lies_at_both_places(front: Front) -> None:
    first, second = [httpx.get(base + "/openapi.json") for base in (front.http, front.http.removesuffix("/v1"))]
    assert first.json() == second.json()
    assert first.json()["openapi"] == "3.1.0"
    assert first.headers["x-request-id"]
