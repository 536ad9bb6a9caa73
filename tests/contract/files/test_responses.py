"""Responses are stored once, and a conversation is read whole or not at all."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.files.v1 import file_pb2
from trivium.files.v1 import response_pb2 as pb

from tests.adapters import noise
from tests.filing import Filing, Keeper
from tests.stack import refused


def conversation(keeper: Keeper, response: str) -> list[tuple[str, bytes, list[str]]]:
    """Each response with its payload and the ids of its items, put together from the messages."""
    found: list[tuple[str, bytes, list[str]]] = []
    going_on = False
    for message in keeper.responses.ReadConversation(pb.ReadConversationRequest(response=response)):
        items = [item.item for item in message.input_items]
        if going_on:
            assert not message.response.payload
            found[-1][2].extend(items)
        else:
            found.append((message.response.response, message.response.payload, items))
        going_on = message.continues
    return found


def test_a_response_is_stored_and_a_repeat_changes_nothing(keeper: Keeper):
    first = keeper.put("resp_1", payload=b"{}", items={"msg_1": b"a", "msg_2": b"b"})
    assert keeper.put("resp_1", payload=b"{}", items={"msg_1": b"a", "msg_2": b"b"}) == first
    found = keeper.responses.GetResponse(pb.GetResponseRequest(response="resp_1")).response
    assert (found.payload, found.model) == (b"{}", "m")
    assert found.expire_time.seconds - found.create_time.seconds == 30 * 24 * 3600
    with refused("RESPONSE_EXISTS"):
        keeper.put("resp_1", payload=b"{ }", items={"msg_1": b"a", "msg_2": b"b"})
    for items in ({"msg_1": b"a", "msg_2": b"c"}, {"msg_1": b"a", "msg_3": b"b"}, {"msg_1": b"a"}):
        with refused("RESPONSE_EXISTS"):
            keeper.put("resp_1", payload=b"{}", items=items)


def test_a_conversation_comes_oldest_first_with_all_its_items(keeper: Keeper):
    keeper.put("resp_a", payload=b"A", items={"1": b"x"})
    keeper.put("resp_b", previous="resp_a", payload=b"B", items={"2": b"y", "3": b"z"})
    keeper.put("resp_c", previous="resp_b", payload=b"C")
    keeper.put("resp_other", previous="resp_a", payload=b"O")
    assert conversation(keeper, "resp_c") == [
        ("resp_a", b"A", ["1"]),
        ("resp_b", b"B", ["2", "3"]),
        ("resp_c", b"C", []),
    ]


def test_what_does_not_fit_into_one_message_comes_in_several(keeper: Keeper):
    large = noise(900_000)
    keeper.put("resp_large", payload=noise(1_000_000), items={f"{number}": large for number in range(3)})
    ((name, payload, items),) = conversation(keeper, "resp_large")
    assert (name, len(payload), items) == ("resp_large", 1_000_000, ["0", "1", "2"])
    request = pb.ListInputItemsRequest(response="resp_large", order=file_pb2.ORDER_ASCENDING)
    page = keeper.responses.ListInputItems(request)
    assert [item.item for item in page.input_items] == ["0", "1", "2"]


def test_a_conversation_that_lacks_one_is_refused_by_name(keeper: Keeper):
    keeper.put("resp_a")
    keeper.put("resp_b", previous="resp_a")
    keeper.put("resp_c", previous="resp_b")
    keeper.responses.DeleteResponse(pb.DeleteResponseRequest(response="resp_a"))
    with refused("RESPONSE_NOT_FOUND") as failures:
        conversation(keeper, "resp_c")
    assert failures[0].variables["name"] == "resp_a"
    with refused("RESPONSE_NOT_FOUND"):
        keeper.put("resp_d", previous="resp_a")


def test_items_are_listed_in_both_orders_page_by_page(keeper: Keeper):
    keeper.put("resp_1", items={f"msg_{number}": b"x" for number in range(5)})

    def listed(**fields) -> tuple[list[str], bool]:
        page = keeper.responses.ListInputItems(pb.ListInputItemsRequest(response="resp_1", **fields))
        return [item.item for item in page.input_items], page.has_more

    assert listed(page_size=2) == (["msg_4", "msg_3"], True)
    assert listed(page_size=2, after="msg_1") == (["msg_0"], False)
    assert listed(order=file_pb2.ORDER_ASCENDING, after="msg_2") == (["msg_3", "msg_4"], False)
    with refused("FIELD_INVALID"):
        listed(after="msg_9")


def test_two_items_of_one_name_and_a_time_that_is_over_are_refused(keeper: Keeper):
    item = pb.InputItem(item="msg", payload=b"x")
    stored = pb.StoredResponse(response="resp_1")
    with refused("FIELD_INVALID"):
        keeper.responses.PutResponse(pb.PutResponseRequest(response=stored, input_items=[item, item]))
    stored.expire_time.CopyFrom(Timestamp(seconds=1))
    with refused("FIELD_INVALID"):
        keeper.responses.PutResponse(pb.PutResponseRequest(response=stored))


@pytest.mark.parametrize("rpc", ["GetResponse", "DeleteResponse", "ListInputItems", "ReadConversation", "PutResponse"])
def test_another_tenants_response_looks_like_one_that_is_not_there(filing: Filing, keeper: Keeper, rpc: str):
    filing.newcomer().put("resp_foreign", items={"msg": b"x"})
    answers = []
    for name in ("resp_foreign", "resp_missing"):
        with refused("RESPONSE_NOT_FOUND") as failures:
            if rpc == "PutResponse":
                keeper.put("resp_mine", previous=name)
            else:
                answer = getattr(keeper.responses, rpc)(getattr(pb, f"{rpc}Request")(response=name))
                list(answer if rpc == "ReadConversation" else ())
        answers.append(failures[0].message.replace(name, "NAME"))
    assert answers[0] == answers[1]
    # The same id in another tenant is another response, with its own items.
    keeper.put("resp_foreign", payload=b"mine", items={"own": b"y"})
    assert conversation(keeper, "resp_foreign") == [("resp_foreign", b"mine", ["own"])]
