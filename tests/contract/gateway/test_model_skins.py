"""Each case of names, of where they lead, and of receipts and replays runs at both doors, which say the same."""

from collections.abc import Iterator

import grpc
import httpx
import pytest
from trivium.registry.v1 import registry_pb2

from tests.conformance.model_cases import Stock, cases
from tests.conformance.model_skins import GrpcSkin, HttpSkin
from tests.conformance.verbs import Skin
from tests.front import Front, Visitor
from tests.stack import User

NAMES = [case.says for case in cases(Stock())]
EXAMPLES = (
    "How much is a day ticket for the ferry?",
    "What does the ferry cost for a child?",
    "Is there a cheaper fare for families?",
    "Do I pay for my dog on the boat?",
    "What is the price of a ticket with a bicycle?",
    "Can I buy a weekly pass for the ferry?",
)


@pytest.fixture(scope="module")
def somebody(answering: Front) -> Visitor:
    return answering.newcomer()


@pytest.fixture(scope="module")
def skins(answering: Front, somebody: Visitor) -> Iterator[dict[str, Skin]]:
    with grpc.insecure_channel(answering.process.address) as channel, httpx.Client(base_url=answering.http) as client:
        yield {"grpc": GrpcSkin(channel, somebody.key), "http": HttpSkin(client, somebody.key)}


@pytest.fixture(scope="module")
def stock(answering: Front, somebody: Visitor) -> Stock:
    owner = User(answering.stack.registry_api(somebody.key), "")
    version = owner.publish("fares")
    answering.stack.service().report("g1", somebody.keeper.tenant, version.version, "READY")
    owner.point("fares", version.version)
    owner.api.UpdateModel(
        registry_pb2.UpdateModelRequest(
            model="fares", description="Fares of the ferry.", examples=EXAMPLES, replace_examples=True
        )
    )
    chat = {"model": "base", "messages": [{"role": "user", "content": "How much?"}], "max_tokens": 2}
    answer = somebody.ask("POST", "/chat/completions", chat).json()
    return Stock(
        model="fares",
        version=version.version,
        number=version.number,
        meant="What does a day ticket for the ferry cost?",
        unmeant="What is the capital of Japan?",
        request_id=answer["trivium"]["request_id"],
        encoder="all-minilm-l6-v2",
    )


@pytest.mark.parametrize("says", NAMES)
def test_both_skins_tell_the_same(says: str, skins: dict[str, Skin], stock: Stock) -> None:
    case = next(item for item in cases(stock) if item.says == says)
    told = {name: skin.ask(case.verb, case.fields) for name, skin in skins.items()}
    assert case.holds(told["grpc"]), told["grpc"]
    assert told["http"] == told["grpc"]
