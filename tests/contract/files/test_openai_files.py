"""OpenAI's own client, unmodified, keeps files behind the gateway; and forms that it would not send are refused by name."""

import io
import json
import socket
from typing import Any

import grpc
import httpx
import httpx2
import openai
import pytest
from trivium.access.v1 import access_pb2
from trivium.common.v1 import permission_pb2
from trivium.files.v1 import file_pb2
from trivium.gateway.v1 import files_pb2, files_pb2_grpc

from tests.adapters import noise
from tests.filing import Filing, Keeper
from tests.harness.gateway import Gateway
from tests.stack import Api, eventually


def test_a_file_is_uploaded_listed_read_and_deleted(client: openai.OpenAI):
    content = noise(3 * 1024**2 + 5)
    made = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(content), "rows.jsonl", "fine-tune")
    assert made.status == "processed"
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    assert [file.id for file in client.files.list(purpose="fine-tune")] == [made.id]
    assert list(client.files.list(purpose="batch")) == []
    gone = client.files.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError) as refused:
        client.files.content(made.id)
    assert refused.value.code == "file_not_found"
    assert refused.value.request_id


def test_pages_go_on_by_themselves_in_both_orders(client: openai.OpenAI):
    made = [client.files.create(file=(f"{n}", b"x"), purpose="user_data").id for n in range(5)]
    assert [file.id for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == made


def test_a_file_may_expire_and_an_empty_one_may_be_kept(client: openai.OpenAI):
    made = client.files.create(
        file=("empty", b""), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    assert client.files.content(made.id).read() == b""


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"purpose": "vision"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"purpose": "batch", "expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after[seconds]"),
        ({"purpose": "batch", "expires_after": {"anchor": "created_at", "seconds": 0}}, "expires_after[seconds]"),
        ({"purpose": "batch", "expires_after": {"anchor": "created_at"}}, "expires_after[seconds]"),
        ({"purpose": "batch", "expires_after": {"anchor": "last_active_at", "seconds": 3600}}, "expires_after[anchor]"),
        ({"purpose": "batch", "extra_body": {"colour": "red"}}, "colour"),
        ({"purpose": "batch", "extra_query": {"colour": "red"}}, "colour"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI, asked: dict[str, Any], param: str):
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("f", b"x"), **asked)
    assert refused.value.param == param
    assert list(client.files.list()) == []


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", "purpose=vision", "colour=red"])
def test_a_list_is_refused_by_the_name_of_what_is_wrong(gateway: Gateway, keeper: Keeper, query: str):
    answer = httpx.get(f"{gateway.http}/v1/files?{query}", headers={"authorization": f"Bearer {keeper.credential}"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


def _form(*parts: str, end: str = "--cut--\r\n") -> bytes:
    return ("".join(f"--cut\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + end).encode()


FILE = 'name="file"; filename="f.txt"\r\nContent-Type: text/plain\r\n\r\nabc'
PURPOSE = 'name="purpose"\r\n\r\nuser_data'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (_form(FILE), "purpose"),
        (_form(PURPOSE), "file"),
        (_form(PURPOSE, FILE, FILE), "file"),
        (_form(PURPOSE, FILE, end=""), "body"),
        (_form(PURPOSE, 'name="other"; filename="f"\r\n\r\nabc'), "other"),
        (_form(PURPOSE, f'name="purpose"\r\n\r\n{"x" * 2000}'), "purpose"),
        (_form(*[PURPOSE] * 17), "body"),
        (_form(PURPOSE, 'name="file"; filename=""\r\n\r\nabc'), "file"),
        (b"--no\r\nform", "body"),
        (b"", "body"),
    ],
)
def test_a_form_that_is_none_is_refused_and_nothing_is_kept(gateway: Gateway, keeper: Keeper, body: bytes, param: str):
    headers = {"authorization": f"Bearer {keeper.credential}", "content-type": "multipart/form-data; boundary=cut"}
    answer = httpx.post(f"{gateway.http}/v1/files", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert keeper.listed() == []


def test_the_file_may_stand_before_the_fields_as_other_clients_send_it(gateway: Gateway, keeper: Keeper):
    headers = {"authorization": f"Bearer {keeper.credential}", "content-type": "multipart/form-data; boundary=cut"}
    answer = httpx.post(f"{gateway.http}/v1/files", content=_form(FILE, PURPOSE), headers=headers)
    assert answer.status_code == 200
    assert keeper.read(answer.json()["id"]) == b"abc"


def test_a_file_over_the_limit_is_refused_while_it_comes(client: openai.OpenAI):
    sent = list[httpx2.Request]()
    counting = httpx2.Client(event_hooks={"request": [sent.append]})
    with pytest.raises(openai.APIStatusError) as refused:
        client.with_options(max_retries=2, http_client=counting).files.create(
            file=("large", io.BytesIO(bytes(12 * 1024**2))), purpose="user_data"
        )
    assert (refused.value.status_code, refused.value.code) == (413, "file_too_large")
    assert refused.value.type == "invalid_request_error"
    # Sent again it would be as large.
    assert len(sent) == 1


def test_a_client_that_goes_away_leaves_nothing(gateway: Gateway, filing: Filing, keeper: Keeper):
    host, port = gateway.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {keeper.credential}\r\n"
        head += "content-type: multipart/form-data; boundary=cut\r\ncontent-length: 9000000\r\n\r\n"
        connection.sendall(head.encode() + _form(PURPOSE, FILE, end="")[:-2] + bytes(2 * 1024**2))
        staging = filing.data / "files" / "blobs" / "staging"
        eventually(lambda: any(path.is_file() for path in staging.glob("*/*")), "the upload has begun")
    eventually(lambda: not any(path.is_file() for path in staging.glob("*/*")), "what came of it is gone")
    assert keeper.listed() == []


def test_another_tenants_file_looks_like_one_that_is_not_there(client: openai.OpenAI, filing: Filing):
    foreign = filing.newcomer().upload(b"secret").file
    answers = []
    for file in (foreign, foreign[:-8] + "0" * 8):
        told = []
        for call in (client.files.retrieve, client.files.delete, client.files.content):
            with pytest.raises(openai.NotFoundError) as refused:
                call(file)
            told.append(json.dumps(refused.value.body).replace(file, "FILE"))
        answers.append(told)
    assert answers[0] == answers[1]


def test_a_file_that_may_be_in_a_vector_store_is_kept_while_the_retriever_is_away(
    client: openai.OpenAI, keeper: Keeper
):
    made = client.files.create(file=("f.md", b"abc"), purpose="assistants")
    keeper.files.AttachFile(file_pb2.AttachFileRequest(file=made.id))
    with pytest.raises(openai.InternalServerError) as refused:
        client.files.delete(made.id)
    assert (refused.value.status_code, refused.value.code) == (503, "peer_unavailable")
    assert "retriever" in refused.value.message
    assert client.files.content(made.id).read() == b"abc"


def test_a_key_that_may_only_write_files_deletes_what_it_stored(client: openai.OpenAI, filing: Filing, keeper: Keeper):
    asking = access_pb2.CreateKeyRequest(
        tenant=keeper.tenant, roles=[access_pb2.ROLE_MEMBER], scopes=[permission_pb2.SCOPE_FILES_WRITE]
    )
    key = filing.stack.access_api(filing.stack.key("admin")).CreateKey(asking).api_key
    narrow = client.with_options(api_key=key)
    made = narrow.files.create(file=("f.md", b"abc"), purpose="assistants")
    assert narrow.files.delete(made.id).deleted
    assert list(client.files.list()) == []


def test_grpc_says_the_same(gateway: Gateway, client: openai.OpenAI, keeper: Keeper):
    made = client.files.create(file=("f", b"abc"), purpose="evals")
    with grpc.insecure_channel(gateway.address) as channel:
        api = Api(files_pb2_grpc.FileServiceStub(channel), keeper.credential)
        assert [item.file for item in api.ListFiles(files_pb2.ListFilesRequest()).files] == [made.id]
        pieces = api.ReadFile(files_pb2.ReadFileRequest(file=made.id, offset_bytes=1))
        assert b"".join(piece.chunk.data for piece in pieces) == b"bc"
        api.DeleteFile(files_pb2.DeleteFileRequest(file=made.id))
    assert list(client.files.list()) == []
