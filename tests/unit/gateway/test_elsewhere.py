"""What is not served says what to use instead: every call of the official client that has no route here has a word here."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette

from gateway.http import elsewhere
from gateway.http.app import create_app
from tests.unit.gateway.test_openapi import Servicers

ID = "01890000-0000-7000-8000-000000000000"
CALL = re.compile(r"self\._(get_api_list|get|post|delete|put|patch)\(\s*(?:path_template\(\s*)?f?\"(/[^\"?]*)")


def application() -> Starlette:
    runtime: Any = SimpleNamespace(
        new_id=lambda: ID,
        settings=SimpleNamespace(max_message_bytes=100, max_calls=4),
        layers=SimpleNamespace(ordered=()),
        health=SimpleNamespace(serving=True, reason=""),
    )
    servicers: Any = Servicers()
    return create_app(runtime, servicers)


def calls_of_the_client() -> set[tuple[str, str]]:
    """Verb and path, with ids in place of what the client puts in; of lists it asks with another method of its own."""
    root = Path(openai.__file__).parent / "resources"
    found = {call for file in root.rglob("*.py") for call in CALL.findall(file.read_text())}
    return {(verb.replace("get_api_list", "get").upper(), re.sub(r"{[^}]*}", "x", path)) for verb, path in found}


APPLICATION = application()


async def refused(verb: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(APPLICATION, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        return await client.request(verb, path)


def test_no_path_of_the_clients_is_without_a_route_or_a_word() -> None:
    calls = calls_of_the_client()
    assert len(calls) > 300
    served = {re.sub(r"{[^}]*}", "x", route.path) for route in APPLICATION.routes if hasattr(route, "path")}
    nothing_like_it = elsewhere.instead("/v1/nonsense")
    assert elsewhere.instead("/v2/chat") == nothing_like_it
    bare = [
        path for _, path in calls if f"/v1{path}" not in served and elsewhere.instead(f"/v1{path}") == nothing_like_it
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("verb", "path", "status", "word"),
    [
        ("POST", "/v1/responses/compact", 405, "previous_response_id"),
        ("GET", "/v1/chat/completions", 405, "POST /v1/responses stores"),
        ("GET", "/v1/chat/completions/chatcmpl-1/messages", 404, "POST /v1/responses stores"),
        ("POST", "/v1/fine_tuning/alpha/graders/run", 404, "supervised or dpo"),
        ("GET", "/v1/fine_tuning/checkpoints/c/permissions", 404, "tenant's alone"),
        ("POST", "/v1/containers", 404, "no code"),
        ("POST", "/v1/evals", 404, "POST /v1/batches"),
        ("PATCH", "/v1/files/file-1", 405, "GET /openapi.json"),
    ],
)
async def test_what_is_not_served_says_what_to_use_instead(verb: str, path: str, status: int, word: str) -> None:
    answer = await refused(verb, path)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].startswith(f"{verb} {path}: ")
    assert word in error["message"].partition(". Instead: ")[2]


async def test_a_wrong_verb_is_told_every_right_one() -> None:
    answer = await refused("PATCH", "/v1/files/file-1")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"
    assert "takes DELETE, GET, HEAD." in answer.json()["error"]["message"]
