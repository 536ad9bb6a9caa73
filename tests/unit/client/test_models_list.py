"""`trivium models list` over services that answer: what can be asked, and which encoders of one's own there are."""

import json
import sys
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.registry.v1 import model_pb2, registry_pb2, registry_pb2_grpc
from trivium_client.cli import main


class Gateway(gateway_pb2_grpc.GatewayServiceServicer):
    """Serves the base, one adapter and an encoder."""

    def ListModels(self, request: gateway_pb2.ListModelsRequest, context: Any) -> gateway_pb2.ListModelsResponse:
        """All."""
        kinds = {
            "base": gateway_pb2.MODEL_KIND_BASE,
            "desk": gateway_pb2.MODEL_KIND_ADAPTER,
            "finder@2": gateway_pb2.MODEL_KIND_ENCODER,
        }
        return gateway_pb2.ListModelsResponse(
            models=[gateway_pb2.ServedModel(name=name, kind=kind) for name, kind in kinds.items()]
        )


@dataclass(slots=True)
class Registry(registry_pb2_grpc.RegistryServiceServicer):
    """Has encoders, newest first, on pages of two."""

    encoders: list[model_pb2.Version] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def SearchVersions(
        self, request: registry_pb2.SearchVersionsRequest, context: Any
    ) -> registry_pb2.SearchVersionsResponse:
        """Those of a page."""
        self.asked.append(request.kind)
        begin = int(request.page_token or 0)
        page = [registry_pb2.FoundVersion(version=version) for version in self.encoders[begin : begin + 2]]
        following = str(begin + 2) if begin + 2 < len(self.encoders) else ""
        return registry_pb2.SearchVersionsResponse(found=page, next_page_token=following)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry, and a gateway beside it."""
    made = Registry()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    gateway_pb2_grpc.add_GatewayServiceServicer_to_server(Gateway(), server)
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(made, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    monkeypatch.setenv("TRIVIUM_API_KEY", "k")
    monkeypatch.setenv("TRIVIUM_GATEWAY_ADDRESS", address)
    monkeypatch.setenv("TRIVIUM_REGISTRY_ADDRESS", address)
    yield made
    server.stop(None).wait()


def listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    monkeypatch.setattr(sys, "argv", ["trivium", "models", "list", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def encoder(model: str, number: int, role: int) -> model_pb2.Version:
    return model_pb2.Version(
        model=model,
        number=number,
        version=f"sha256:{number}",
        kind=model_pb2.VERSION_KIND_ENCODER,
        encoder_role=model_pb2.EncoderRole.ValueType(role),
    )


def test_an_encoder_is_seen_by_the_name_that_commands_take_with_its_role(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.encoders = [
        encoder("finder", 2, model_pb2.ENCODER_ROLE_EMBEDDER),
        encoder("finder", 1, model_pb2.ENCODER_ROLE_EMBEDDER),
        encoder("judge", 1, model_pb2.ENCODER_ROLE_RERANKER),
    ]
    rows = json.loads(listed(capsys, monkeypatch, "--json"))
    assert [(row["name"], row["kind"], row["role"]) for row in rows] == [
        ("base", "base", ""),
        ("desk", "adapter", ""),
        ("finder@2", "encoder", "embedder"),
        ("judge@1", "encoder", "reranker"),
    ]
    assert set(registry.asked) == {model_pb2.VERSION_KIND_ENCODER}
    table = listed(capsys, monkeypatch)
    assert [line.split()[:3] for line in table.splitlines() if "encoder" in line] == [
        ["finder@2", "encoder", "embedder"],
        ["judge@1", "encoder", "reranker"],
    ]


def test_without_encoders_there_are_only_the_names_that_are_asked(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = listed(capsys, monkeypatch)
    assert "role" not in table
    assert "desk" in table
