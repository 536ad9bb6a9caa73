"""Each case runs over gRPC and over HTTP, chats whole and as events, and the transports tell the same."""

import json
from collections.abc import Iterator

import grpc
import httpx
import pytest
from trivium.registry.v1 import registry_pb2

from tests.conformance.runner import Case, Grpc, Http, Transport, run
from tests.conformance.tables import chat, files, models, responses
from tests.conformance.tables.chat_cases import simulated_cases
from tests.conformance.tables.stock import Stock
from tests.front import Front, Visitor
from tests.stack import User, eventually

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "base", "prompt": "x"}}
CONTENT = json.dumps(LINE).encode() + b"\n"
ENCODER = "all-minilm-l6-v2"
EXAMPLES = (
    "How much is a day ticket for the ferry?",
    "What does the ferry cost for a child?",
    "Is there a cheaper fare for families?",
    "Do I pay for my dog on the boat?",
    "What is the price of a ticket with a bicycle?",
    "Can I buy a weekly pass for the ferry?",
)


def file_cases(stock: Stock) -> list[Case]:
    return [*files.cases(stock, CONTENT), *responses.cases(stock)]


@pytest.fixture(scope="module")
def files_owner(answering: Front) -> Visitor:
    return answering.newcomer()


@pytest.fixture(scope="module")
def models_owner(answering: Front) -> Visitor:
    return answering.newcomer()


@pytest.fixture(scope="module")
def clients(answering: Front) -> Iterator[tuple[grpc.Channel, httpx.Client]]:
    url = answering.http.removesuffix("/v1")
    with grpc.insecure_channel(answering.process.address) as channel, httpx.Client(base_url=url) as client:
        yield channel, client


def transports(clients: tuple[grpc.Channel, httpx.Client], key: str) -> dict[str, Transport]:
    channel, client = clients
    return {"grpc": Grpc(channel, key), "http": Http(client, key)}


@pytest.fixture(scope="module")
def files_stock(files_owner: Visitor, answering: Front) -> Stock:
    ask = files_owner.ask
    batch = files_owner.keeper.batch(CONTENT, metadata={"of": "both"})
    file = files_owner.file("# Fares\n\nA day ticket is 9 crowns.\n", "fares.md")
    store = ask("POST", "/vector_stores", {"name": "Ferry", "file_ids": [file]}).json()["id"]
    eventually(lambda: ask("GET", f"/vector_stores/{store}").json()["status"] == "completed", "the store is read")
    search = {"type": "file_search", "vector_store_ids": [store]}
    body = {
        "model": "base",
        "input": "How much?",
        "tools": [search],
        "max_output_tokens": 2,
        "trivium": {"explain": True},
    }
    response = ask("POST", "/responses", body).json()
    # None of its aliases serves.
    User(answering.stack.registry_api(files_owner.key), "").publish("fares")
    return Stock(file=batch.input_file, batch=batch.batch, store=store, response=response["id"], encoder=ENCODER)


@pytest.fixture(scope="module")
def models_stock(models_owner: Visitor, answering: Front) -> Stock:
    owner = User(answering.stack.registry_api(models_owner.key), "")
    version = owner.publish("fares")
    answering.stack.service().report("g1", models_owner.keeper.tenant, version.version, "READY")
    owner.point("fares", version.version)
    owner.api.UpdateModel(
        registry_pb2.UpdateModelRequest(
            model="fares", description="Fares of the ferry.", examples=EXAMPLES, replace_examples=True
        )
    )
    turns = {"model": "base", "messages": [{"role": "user", "content": "How much?"}], "max_tokens": 2}
    answer = models_owner.ask("POST", "/chat/completions", turns).json()
    return Stock(
        model="fares",
        version=version.version,
        number=version.number,
        meant="What does a day ticket for the ferry cost?",
        unmeant="What is the capital of Japan?",
        request_id=answer["trivium"]["request_id"],
        encoder=ENCODER,
    )


@pytest.mark.parametrize("name", [case.name for case in file_cases(Stock())])
def test_files_batches_embeddings_and_responses(
    name: str, clients: tuple[grpc.Channel, httpx.Client], files_owner: Visitor, files_stock: Stock
) -> None:
    case = next(item for item in file_cases(files_stock) if item.name == name)
    run(case, {**files.OPERATIONS, **responses.OPERATIONS}, transports(clients, files_owner.key))


@pytest.mark.parametrize("name", [case.name for case in models.cases(Stock())])
def test_models_routes_receipts_and_replays(
    name: str, clients: tuple[grpc.Channel, httpx.Client], models_owner: Visitor, models_stock: Stock
) -> None:
    case = next(item for item in models.cases(models_stock) if item.name == name)
    run(case, models.OPERATIONS, transports(clients, models_owner.key))


@pytest.mark.parametrize("case", simulated_cases(), ids=lambda case: case.name)
def test_functions_and_continuations(
    case: Case, clients: tuple[grpc.Channel, httpx.Client], models_owner: Visitor
) -> None:
    (channel, client), key = clients, models_owner.key
    over: dict[str, Transport] = {
        "grpc": Grpc(channel, key),
        "http": Http(client, key, stream=False),
        "http events": Http(client, key, stream=True),
    }
    run(case, chat.OPERATIONS, over)
