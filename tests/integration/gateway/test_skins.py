"""gRPC and OpenAI-compatible HTTP are two encodings of one behaviour."""

from collections.abc import Iterator

import grpc
import httpx
import pytest

from services.ops.supervisor import Suite
from tests.conformance.gateway_cases import cases
from tests.conformance.gateway_skins import GrpcSkin, HttpSkin, Skin
from tests.integration.gateway.stock import Served

NAMES = [case.says for case in cases("", "", "")]


@pytest.fixture(scope="module")
def skins(suite: Suite) -> Iterator[dict[str, Skin]]:
    with grpc.insecure_channel(suite.addresses["gateway"]) as channel, httpx.Client(base_url=suite.http) as client:
        yield {
            "grpc": GrpcSkin(channel, suite.api_key),
            "http": HttpSkin(client, suite.api_key, stream=False),
            "http events": HttpSkin(client, suite.api_key, stream=True),
        }


@pytest.mark.parametrize("says", NAMES)
def test_both_skins_tell_the_same(says: str, skins: dict[str, Skin], collection: str, adapter: Served) -> None:
    case = next(item for item in cases(collection, adapter.model, adapter.version) if item.says == says)
    told = {name: skin.ask(case.wanted) for name, skin in skins.items()}
    assert case.holds(told["grpc"]), told["grpc"]
    assert told["http"] == told["grpc"]
    assert told["http events"] == told["grpc"]
