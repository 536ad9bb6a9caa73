"""Responses at the gateway's doors, as far as no model is needed: what is kept, whose it is, what is refused."""

import uuid

from trivium.common.v1 import chat_pb2
from trivium.files.v1 import response_pb2
from trivium.gateway.v1 import responses_pb2 as pb

from tests.stack import refused


def kept(visitor, **fields):
    """A response that the gateway could have kept."""
    name = f"resp_{uuid.uuid4().hex}"
    payload = pb.Response(response=name, status=pb.RESPONSE_STATUS_COMPLETED, **fields)
    turn = pb.ResponseItem(item="msg_1", message=pb.ResponseMessage(role=chat_pb2.CHAT_ROLE_USER, parts=["How much?"]))
    request = response_pb2.PutResponseRequest(
        response=response_pb2.StoredResponse(response=name, payload=payload.SerializeToString()),
        input_items=[response_pb2.InputItem(item="msg_1", payload=turn.SerializeToString())],
    )
    visitor.keeper.responses.PutResponse(request)
    return name


def test_a_kept_response_is_read_listed_and_deleted_at_both_doors(visitor):
    call = pb.FileSearchCall(queries=["q"], results=[pb.FileSearchResult(file="f", text="t")])
    name = kept(visitor, output=[pb.ResponseItem(item="fs_1", file_search_call=call)])
    plain = visitor.responses.GetResponse(pb.GetResponseRequest(response=name)).response
    assert list(plain.output[0].file_search_call.results) == []
    whole = pb.GetResponseRequest(response=name, include_results=True)
    assert [it.text for it in visitor.responses.GetResponse(whole).response.output[0].file_search_call.results] == ["t"]
    wanted = {"include[]": "file_search_call.results"}
    (search,) = visitor.ask("GET", f"/responses/{name}", **wanted).json()["output"]
    assert [it["text"] for it in search["results"]] == ["t"]
    (item,) = visitor.ask("GET", f"/responses/{name}/input_items").json()["data"]
    assert item["content"] == [{"type": "input_text", "text": "How much?"}]
    with refused("RESPONSE_NOT_IN_BACKGROUND"):
        visitor.responses.CancelResponse(pb.CancelResponseRequest(response=name))
    assert visitor.ask("DELETE", f"/responses/{name}").json()["deleted"]
    with refused("RESPONSE_NOT_FOUND"):
        visitor.responses.GetResponse(pb.GetResponseRequest(response=name))


def test_another_tenants_response_looks_like_one_that_is_not_there(visitor, front):
    name, other = kept(visitor), front.newcomer()
    for verb, path, body in (
        ("GET", "/responses/{}", None),
        ("DELETE", "/responses/{}", None),
        ("POST", "/responses/{}/cancel", None),
        ("GET", "/responses/{}/input_items", None),
        ("POST", "/responses", {"model": "base", "input": "And?", "previous_response_id": "{}"}),
    ):
        answers = []
        for asked in (name, f"resp_{uuid.uuid4().hex}"):
            filled = body and {key: value.format(asked) for key, value in body.items()}
            answer = other.ask(verb, path.format(asked), filled)
            answers.append((answer.status_code, answer.text.replace(asked, "ID")))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    assert visitor.ask("GET", f"/responses/{name}").status_code == 200


def test_what_the_door_cannot_do_is_refused_by_name(visitor):
    for body, param in (
        ({"input": "Hello", "background": True}, "background"),
        ({"input": "Hello", "metadata": {"k" * 65: "v"}}, "metadata"),
        ({"input": "Hello", "temperature": 3.0}, "temperature"),
        ({"input": [{"role": "assistant", "content": "Hello"}]}, "input"),
        ({"input": "Hello", "tool_choice": "required"}, "tool_choice"),
    ):
        answer = visitor.ask("POST", "/responses", {"model": "base", **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    answer = visitor.ask("GET", "/responses/resp_1", stream="true")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")
