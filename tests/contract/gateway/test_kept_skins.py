"""Each case of files, batches, embeddings and responses runs at both doors, which say the same."""

import json
from collections.abc import Iterator

import grpc
import httpx
import pytest

from tests.conformance.kept_cases import Stock, cases
from tests.conformance.kept_skins import GrpcSkin, HttpSkin
from tests.conformance.verbs import Skin
from tests.front import Front, Visitor
from tests.stack import User, eventually

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "base", "prompt": "x"}}
CONTENT = json.dumps(LINE).encode() + b"\n"
NAMES = [case.says for case in cases(Stock(), CONTENT)]


@pytest.fixture(scope="module")
def somebody(answering: Front) -> Visitor:
    return answering.newcomer()


@pytest.fixture(scope="module")
def skins(answering: Front, somebody: Visitor) -> Iterator[dict[str, Skin]]:
    with grpc.insecure_channel(answering.process.address) as channel, httpx.Client(base_url=answering.http) as client:
        yield {"grpc": GrpcSkin(channel, somebody.key), "http": HttpSkin(client, somebody.key)}


@pytest.fixture(scope="module")
def stock(answering: Front, somebody: Visitor) -> Stock:
    ask = somebody.ask
    batch = somebody.keeper.batch(CONTENT, metadata={"of": "both"})
    file = somebody.file("# Fares\n\nA day ticket is 9 crowns.\n", "fares.md")
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
    User(answering.stack.registry_api(somebody.key), "").publish("fares")
    return Stock(
        file=batch.input_file,
        batch=batch.batch,
        store=store,
        response=response["id"],
        encoder="all-minilm-l6-v2",
    )


@pytest.mark.parametrize("says", NAMES)
def test_both_skins_tell_the_same(says: str, skins: dict[str, Skin], stock: Stock) -> None:
    case = next(item for item in cases(stock, CONTENT) if item.says == says)
    told = {name: skin.ask(case.verb, case.fields) for name, skin in skins.items()}
    assert case.holds(told["grpc"]), told["grpc"]
    assert told["http"] == told["grpc"]
