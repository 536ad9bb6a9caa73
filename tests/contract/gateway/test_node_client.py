"""OpenAI's client for Node, as it is published, at the gateway's door without an engine, or before one that says anything."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.front import Front, Visitor
from tests.node_flows import NodeFlows


@pytest.fixture
def flow(front: Front, visitor: Visitor, tmp_path: Path) -> NodeFlows:
    return NodeFlows(tmp_path, front.http, visitor.key)


def test_it_comes_again_after_the_seconds_that_it_was_told(flow: NodeFlows) -> None:
    told = flow("retries")
    assert (told["class"], told["status"], told["code"]) == ("InternalServerError", 503, "peer_unavailable")
    assert told["requestID"]
    first, second = told["asked"]
    assert (first["status"], first["retryAfter"], second["status"]) == (503, "1", 503)
    assert second["begun"] - first["ended"] >= 1000  # milliseconds


def test_what_is_refused_is_told_by_the_clients_own_classes(flow: NodeFlows) -> None:
    found = flow("errors")
    assert all(refusal["requestID"] and refusal["message"] for refusal in found.values())
    told = {name: tuple(refusal[key] for key in ("class", "status", "code")) for name, refusal in found.items()}
    assert told == {
        "model": ("NotFoundError", 404, "model_not_found"),
        "streamed": ("NotFoundError", 404, "model_not_found"),
        "parameter": ("BadRequestError", 400, "parameter_unsupported"),
        "key": ("AuthenticationError", 401, "invalid_api_key"),
        "file": ("NotFoundError", 404, "file_not_found"),
        "deletion": ("BadRequestError", 400, "field_invalid"),
    }
    assert (found["model"]["param"], found["parameter"]["param"]) == ("model", "store")


def test_files_are_searched_by_words_and_attributes_and_read_again(flow: NodeFlows) -> None:
    found = flow("stores")
    assert found["statuses"] == ["completed", "completed"]
    assert (found["uploaded"]["filename"], found["uploaded"]["purpose"]) == ("fog.md", "assistants")
    assert found["near"] == ["fog.md"]
    hit = found["filtered"]
    assert (hit["filename"], hit["attributes"]) == ("fares.md", {"about": "money"})
    assert found["contentIsTheFile"]
    assert found["passage"] == hit["content"][0]["text"]
    assert "9 crowns" in found["passage"]


def test_vectors_are_the_same_by_base64_and_as_numbers(flow: NodeFlows) -> None:
    found = flow("embeddings")
    plain, numbers = (np.array(found[name], "<f4") for name in ("plain", "numbers"))
    assert plain.shape == (2, 384)
    assert np.array_equal(plain, numbers)
    assert np.allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-5)
    assert found["tokens"] > 2


def test_what_else_it_does_with_files_and_stores(flow: NodeFlows) -> None:
    found = flow("library")
    file, whole = found["file"], {"in_progress": 0, "completed": 1, "failed": 0, "cancelled": 0, "total": 1}
    assert found == {
        "file": file,
        "processed": "processed",
        "same": True,
        "content": "# mooring\n\nOf the mooring nothing else is known.\n",
        "files": [file],
        "names": ["Ferries", "Ferries"],
        "store": found["store"],
        "stores": [found["store"]],
        "polled": "completed",
        "put": True,
        "waited": "completed",
        "counts": whole,
        "listed": [file],
        "cancelled": "cancelled",
        "together": ["completed", 2],
        "held": 4,
        "left": 3,
        "gone": [True, True],
    }


@pytest.fixture
def answered(answering: Front, tmp_path: Path) -> NodeFlows:
    return NodeFlows(tmp_path, answering.http, answering.newcomer().key)


def test_a_text_is_continued_whole_and_in_chunks_alike(answered: NodeFlows) -> None:
    found = answered("completions")
    (choice,) = found["whole"]["choices"]
    assert (choice["text"], choice["finish_reason"]) == (found["text"], "length") == (" word word word", "length")
    assert found["usage"] == found["whole"]["usage"]


def test_functions_are_called_read_and_run_by_its_own_helpers(answered: NodeFlows) -> None:
    found = answered("tools")
    zug = {"city": "Zug"}
    assert found["whole"]["finish_reason"] == "tool_calls"
    (call,) = found["whole"]["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", zug)
    assert found["parsed"] == zug
    assert json.loads(found["gathered"]["arguments"]) == zug
    assert (found["ran"], found["said"]) == ([zug], " word word word")
    assert found["roles"] == ["user", "assistant", "tool", "assistant"]


def test_a_function_is_called_in_a_response_and_what_it_returned_goes_on_from_there(answered: NodeFlows) -> None:
    found = answered("functions")
    assert (found["call"]["name"], found["call"]["parsed_arguments"]) == ("weather", {"city": "Zug"})
    assert found["said"] == found["kept"] == " word word word"
    assert found["asked"] == ["function_call_output"]
    assert (found["cancelled"], found["gone"]) == ("response_not_in_background", "response_not_found")
