"""OpenAI's own client, unmodified, runs batches through the gateway; what answers the lines is a stand-in without engine."""

import json
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from trivium.access.v1 import access_pb2
from trivium.common.v1 import permission_pb2
from trivium.files.v1 import batch_pb2 as pb
from trivium.gateway.v1 import batches_pb2, batches_pb2_grpc

from tests.answering_door import AnsweringDoor, requests
from tests.filing import Filing, Keeper, new_id
from tests.harness.gateway import Gateway
from tests.node_flows import NodeFlows
from tests.stack import Api, eventually, refused

NARROW = [permission_pb2.SCOPE_INFERENCE, permission_pb2.SCOPE_FILES_WRITE]
WINDOW: Any = {"endpoint": "/v1/completions", "completion_window": "24h"}


def begun(client: openai.OpenAI, content: bytes, **extra: Any) -> Any:
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, **WINDOW, **extra)


def answered(batch: Any) -> int:
    return int(batch.request_counts.completed)


def ended(client: openai.OpenAI, batch: str) -> Any:
    def look() -> Any:
        found = client.batches.retrieve(batch)
        return found if found.status in ("completed", "failed", "expired", "cancelled") else None

    return eventually(look, f"{batch} ends")


def test_from_a_file_of_requests_to_a_file_of_answers_and_one_of_errors(client: openai.OpenAI):
    made = begun(client, requests(1, 2, -3), metadata={"for": "test"})
    assert (made.object, made.status, made.errors, made.output_file_id) == ("batch", "validating", None, None)
    found = ended(client, made.id)
    assert found.status == "completed", found
    assert found.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (6, 4, 10)
    assert (found.model, found.metadata, found.completed_at >= found.created_at) == ("base", {"for": "test"}, True)
    answers = [json.loads(line) for line in client.files.content(found.output_file_id).text.splitlines()]
    assert [(line["custom_id"], line["response"]["body"]["n"], line["error"]) for line in answers] == [
        ("c1", 1, None),
        ("c2", 2, None),
    ]
    (error,) = [json.loads(line) for line in client.files.content(found.error_file_id).text.splitlines()]
    assert (error["custom_id"], error["response"]["status_code"]) == ("c-3", 400)
    output = client.files.retrieve(found.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{made.id}_output.jsonl")


def test_a_bad_line_fails_the_batch_and_is_named(client: openai.OpenAI):
    found = ended(client, begun(client, requests(1) + b"{}\nnothing\n").id)
    assert found.status == "failed"
    assert [(each.line, each.code, each.param) for each in found.errors.data] == [
        (2, "invalid_custom_id", "custom_id"),
        (3, "invalid_json_line", None),
    ]
    assert found.request_counts.total == 3


def test_a_running_batch_is_cancelled(client: openai.OpenAI, door: AnsweringDoor):
    door.held = {101, 102}
    made = begun(client, requests(100, 101, 102, 103))
    eventually(lambda: answered(client.batches.retrieve(made.id)), "the first is answered")
    assert client.batches.cancel(made.id).status == "cancelling"
    found = ended(client, made.id)
    door.let_go()
    assert (found.status, found.cancelled_at >= found.cancelling_at) == ("cancelled", True)
    errors = [json.loads(line) for line in client.files.content(found.error_file_id).text.splitlines()]
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert {"c101", "c102"} <= {line["custom_id"] for line in errors}
    ended_ = ended(client, begun(client, requests(1)).id)
    with pytest.raises(openai.BadRequestError) as told:
        client.batches.cancel(ended_.id)
    assert told.value.code == "batch_ended"


def test_what_the_gateway_puts_off_is_asked_again_after_its_hint(client: openai.OpenAI, door: AnsweringDoor):
    door.overloaded = {201}
    before = door.asked[201]
    found = ended(client, begun(client, requests(201, 202)).id)
    assert (found.status, found.request_counts.completed) == ("completed", 2)
    assert door.asked[201] - before == 2
    # Under one id: each world has a batch of its own.
    assert len(door.ids[201]) == door.asked[201] / 2


def test_the_client_for_node_runs_one_too(gateway: Gateway, keeper: Keeper, tmp_path: Path):
    found = NodeFlows(tmp_path, f"{gateway.http}/v1", keeper.credential)("batches")
    batch = found["batch"]
    assert (batch["status"], batch["metadata"]) == ("completed", {"for": "node"})
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert found["answered"] == ["c1", "c2"]
    assert (found["listed"], found["refused"]) == ([batch["id"]], "batch_ended")


def test_pages_go_on_by_themselves(client: openai.OpenAI):
    made = [begun(client, requests(1)).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"x" * 65: "y"}}, "metadata"),
        ({"extra_body": {"colour": "red"}}, "colour"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI, changes: dict[str, Any], param: str):
    file = client.files.create(file=("f", requests(1)), purpose="batch")
    with pytest.raises(openai.BadRequestError) as told:
        client.batches.create(**{"input_file_id": file.id, **WINDOW, **changes})
    assert told.value.param is not None
    assert told.value.param.startswith(param)


def test_a_file_that_is_none_or_for_something_else_is_no_input(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as missing:
        client.batches.create(input_file_id="file-none", **WINDOW)
    assert missing.value.code == "file_not_found"
    other = client.files.create(file=("f", b"{}"), purpose="evals")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.batches.create(input_file_id=other.id, **WINDOW)
    assert wrong.value.param == "input_file_id"


def test_a_repeated_request_begins_one_batch(keeper: Keeper):
    request_id = new_id()
    file = keeper.upload(requests(1), purpose=2).file
    order = pb.CreateBatchRequest(
        input_file=file, endpoint=pb.BATCH_ENDPOINT_COMPLETIONS, request_id=request_id, completion_window_seconds=60
    )
    first, second = (keeper.batches.CreateBatch(order).batch.batch for _ in range(2))
    assert first == second
    assert keeper.ended(first).completed == 1


@pytest.mark.parametrize(
    ("roles", "scopes", "asks"),
    [
        ([access_pb2.ROLE_MEMBER], [], (["member"], [])),
        ([access_pb2.ROLE_MEMBER], NARROW, (["member"], ["files.write", "inference"])),
        ([access_pb2.ROLE_DEVELOPER], [], (["developer"], [])),
        ([access_pb2.ROLE_OWNER], [], (["developer"], [])),
    ],
)
def test_a_line_is_asked_with_its_creators_rights_and_no_more(
    filing: Filing, keeper: Keeper, door: AnsweringDoor, roles: list[Any], scopes: list[Any], asks: Any
):
    wanted = access_pb2.CreateKeyRequest(tenant=keeper.tenant, roles=roles, scopes=scopes)
    key = filing.stack.access_api(filing.stack.key("admin")).CreateKey(wanted)
    creator = filing.keeper(key.api_key, keeper.tenant)
    assert creator.ended(creator.batch(requests(301)).batch).completed == 1
    claims = door.claims[301]
    assert (claims["sub"], claims["tid"]) == (key.key.key, keeper.tenant)
    assert (claims["roles"], claims.get("scopes", [])) == asks
    # Which service acts is how the gateway knows that nobody waits for the answer.
    service = filing.stack.access_api(filing.stack.key("service")).WhoAmI(access_pb2.WhoAmIRequest())
    assert claims["act"]["sub"] == service.principal


def test_a_reader_looks_and_begins_nothing(filing: Filing, keeper: Keeper):
    made = keeper.batch(requests(1)).batch
    reader = filing.keeper(filing.stack.tenant_key(keeper.tenant, access_pb2.ROLE_READER))
    assert reader.ended(made).batch == made
    with refused("ROLE_MISSING"):
        reader.batches.CancelBatch(pb.CancelBatchRequest(batch=made))


def test_another_tenants_batch_and_file_look_like_ones_that_are_not_there(client: openai.OpenAI, filing: Filing):
    victim = filing.newcomer()
    foreign = victim.batch(requests(1))
    pairs = [(foreign.batch, foreign.batch[:-8] + "0" * 8), (foreign.input_file, foreign.input_file[:-8] + "0" * 8)]
    calls: list[list[Any]] = [
        [client.batches.retrieve, client.batches.cancel],
        [lambda file: client.batches.create(input_file_id=file, **WINDOW)],
    ]
    for names, some in zip(pairs, calls, strict=True):
        for call in some:
            told = []
            for name in names:
                with pytest.raises(openai.NotFoundError) as answer:
                    call(name)
                told.append(json.dumps(answer.value.body).replace(name, "NAME"))
            assert told[0] == told[1]
    assert list(client.batches.list()) == []
    assert victim.ended(foreign.batch).completed == 1


def test_grpc_says_the_same(gateway: Gateway, client: openai.OpenAI, keeper: Keeper):
    made = begun(client, requests(1)).id
    ended(client, made)
    with grpc.insecure_channel(gateway.address) as channel:
        api = Api(batches_pb2_grpc.BatchServiceStub(channel), keeper.credential)
        assert [each.batch for each in api.ListBatches(batches_pb2.ListBatchesRequest()).batches] == [made]
        found = api.GetBatch(batches_pb2.GetBatchRequest(batch=made)).batch
        assert (found.state, found.completed) == (pb.BATCH_STATE_COMPLETED, 1)
        with refused("BATCH_ENDED"):
            api.CancelBatch(batches_pb2.CancelBatchRequest(batch=made))
