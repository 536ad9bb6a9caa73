"""OpenAI's client for Node, as it is published, at the gateway's door: each flow of `node/` tells here what it found."""

import json

import pytest
from openai.types.fine_tuning import FineTuningJob

from services.ops.supervisor import Suite
from tests.node_flows import NodeFlows


@pytest.fixture(scope="module")
def flow(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> NodeFlows:
    return NodeFlows(tmp_path_factory.mktemp("node"), f"{suite.http}/v1", suite.api_key)


def test_models_are_listed_the_base_first_and_found_by_name(flow: NodeFlows) -> None:
    found = flow("models")
    assert found["ids"][0] == "base"
    assert (found["base"]["id"], found["base"]["owned_by"]) == ("base", "trivium")


def test_a_chat_is_the_same_whole_in_chunks_and_gathered(flow: NodeFlows) -> None:
    found = flow("chat")
    (choice,) = found["whole"]["choices"]
    assert "Tokyo" in choice["message"]["content"]
    assert choice["message"]["content"] == found["text"] == found["gathered"]
    assert found["ends"] == [choice["finish_reason"]]
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [found["usage"][name] for name in counted] == [found["whole"]["usage"][name] for name in counted]
    assert found["usage"]["completion_tokens"] > 0
    assert found["requestId"]


def test_a_schema_of_zod_shapes_the_answer_and_reads_it(flow: NodeFlows) -> None:
    found = flow("parsed")
    assert found["parsed"] == json.loads(found["content"])
    assert found["parsed"]["name"] in ("Tokyo", "Kyoto")
    assert found["parsed"]["inhabited"] in (True, False)


def test_files_are_asked_and_the_annotation_resolves_to_their_characters(flow: NodeFlows) -> None:
    found = flow("file_search")
    assert found["statuses"] == ["completed", "completed"]
    assert (found["uploaded"]["filename"], found["uploaded"]["purpose"]) == ("fares.md", "assistants")
    assert found["parsed"] == {"answer": "9 crowns [1]"}
    (result,) = found["results"]
    assert (found["annotation"]["type"], found["annotation"]["filename"]) == ("file_citation", "fares.md")
    assert found["annotation"]["file_id"] == result["file_id"]
    assert found["marker"] == "[1]"
    assert found["contentIsTheFile"]
    assert found["cited"] == result["text"]
    assert "9 crowns" in found["cited"]
    assert (found["events"][0], found["events"][-1]) == ("response.created", "response.completed")
    assert "response.output_text.annotation.added" in found["events"]
    assert found["streamed"] == found["whole"]


def test_a_fine_tuned_model_chats_by_the_name_that_its_job_ends_with(
    flow: NodeFlows, fine_tuned: FineTuningJob
) -> None:
    assert fine_tuned.fine_tuned_model is not None
    answer = flow("chat", fine_tuned.fine_tuned_model)["whole"]
    assert answer["model"] == fine_tuned.fine_tuned_model
    assert answer["choices"][0]["message"]["content"]
    assert answer["trivium"]["version"] == fine_tuned.fine_tuned_model.partition("@")[2]
