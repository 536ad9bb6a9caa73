"""Each case of functions and of texts that are continued runs over gRPC and over HTTP, whole and as events, alike."""

from collections.abc import Iterator

import grpc
import httpx
import pytest

from tests.conformance.gateway_cases import Case
from tests.conformance.gateway_http_skins import HttpSkin
from tests.conformance.gateway_skins import GrpcSkin, Skin
from tests.conformance.tool_cases import cases
from tests.front import Front


@pytest.fixture(scope="module")
def skins(answering: Front) -> Iterator[dict[str, Skin]]:
    key, url = answering.newcomer().key, answering.http.removesuffix("/v1")
    with grpc.insecure_channel(answering.process.address) as channel, httpx.Client(base_url=url) as client:
        yield {
            "grpc": GrpcSkin(channel, key),
            "http": HttpSkin(client, key, stream=False),
            "http events": HttpSkin(client, key, stream=True),
        }


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.says)
def test_both_skins_tell_the_same(case: Case, skins: dict[str, Skin]) -> None:
    told = {name: skin.ask(case.wanted) for name, skin in skins.items()}
    assert case.holds(told["grpc"]), told["grpc"]
    assert told["http"] == told["grpc"]
    assert told["http events"] == told["grpc"]
