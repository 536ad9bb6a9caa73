"""No method of the published clients is without an answer: each is served, and a test tries it, or says what to use instead."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from websockets.exceptions import InvalidStatus

from tests.contract.gateway.published_client import FAMILIES, REFUSED, SERVED
from tests.front import Front, Visitor
from tests.node_flows import FLOWS, NodeFlows

ROOT = Path(__file__).resolve().parents[3]
# Other faces of the same methods.
_FACES = ("with_raw_response", "with_streaming_response")


def methods_of(resource: Any, path: str) -> Iterator[str]:
    """The public methods of a resource of the client's and of what is below it, in dotted names."""
    for name in dir(type(resource)):
        if name.startswith("_") or name in _FACES:
            continue
        if callable(inspect.getattr_static(type(resource), name)):
            yield f"{path}.{name}"
        else:
            yield from methods_of(getattr(resource, name), f"{path}.{name}")


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_every_method_is_in_the_table_and_no_other(kind: Any) -> None:
    client = kind(base_url="http://127.0.0.1:9", api_key="k")
    found = {method for family in FAMILIES for method in methods_of(getattr(client, family), family)}
    assert found == SERVED.keys() | REFUSED.keys()
    assert not SERVED.keys() & REFUSED.keys()


@pytest.mark.parametrize("method", SERVED)
def test_a_test_tries_what_is_served(method: str) -> None:
    file, _, test = SERVED[method].partition("::")
    source = (ROOT / file).read_text()
    functions = {it.name for it in ast.parse(source).body if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert test in functions
    assert re.search(rf"\bclient\.{re.escape(method)}\b(?!\.)", source)


@pytest.fixture
def client(front: Front, visitor: Visitor) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=front.http, api_key=visitor.key, max_retries=0) as opened:
        yield opened


@pytest.mark.filterwarnings("ignore:Retrieve is deprecated")
@pytest.mark.parametrize("method", REFUSED)
def test_what_is_not_served_says_what_to_use_instead(method: str, client: openai.OpenAI) -> None:
    refusal = REFUSED[method]
    with pytest.raises((openai.APIStatusError, InvalidStatus)) as refused:
        refusal.call(client)
    error = refused.value
    if isinstance(error, openai.APIStatusError):
        status, said = error.status_code, error.message
        assert error.request_id
    else:
        assert isinstance(error, InvalidStatus)
        status, said = error.response.status_code, (error.response.body or b"").decode()
    assert status == refusal.status
    assert refusal.word in said.partition(". Instead: ")[2]


def test_a_parameter_that_asks_for_what_is_not_served_is_named(client: openai.OpenAI) -> None:
    for call, param in (
        (lambda: client.responses.retrieve("resp_1", stream=True), "stream"),
        (lambda: client.responses.stream(response_id="resp_1").__enter__(), "stream"),
        (lambda: client.responses.create(model="base", input="x", background=True), "background"),
        (lambda: client.files.create(file=("f", b"x"), purpose="vision"), "purpose"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            call()
        assert refused.value.param == param


def test_what_the_client_for_node_has_is_tried_by_one_of_its_flows_or_refused(
    front: Front, visitor: Visitor, tmp_path: Path
) -> None:
    methods = NodeFlows(tmp_path, front.http, visitor.key)("methods")["methods"]
    assert len(methods) > 60
    flows = "".join(flow.read_text() for flow in FLOWS.glob("*.mjs"))
    snake = {method: re.sub(r"[A-Z]", lambda it: f"_{it[0].lower()}", method) for method in methods}
    untried = [method for method in methods if f"client.{method}(" not in flows]
    assert [method for method in untried if snake[method] not in REFUSED] == []
