"""Who cannot use an encoder says so, over a running registry: the gateway, a generator, the trainer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from gateway.peers.registry import RemoteRegistry
from gateway.routing import ModelKind, Router
from services.chassis.context import Bearer, RequestContext, serving
from services.chassis.errors import Failure, Reason
from services.trainer.peers import RegistryBases
from tests.contract.registry.test_followers import OnCalls, call, come_true, following
from tests.encoder_files import EncoderFiles
from tests.stack import Stack, User

ENCODER = model_pb2.VERSION_KIND_ENCODER
ASKING = RequestContext("t", "p", frozenset(), Bearer(), "c", None, "/trivium.gateway.v1.GatewayService/Chat")


def publish_encoder(user: User, model: str, seed: int = 0) -> str:
    version: str = user.publish(model, EncoderFiles(seed=seed).files(), kind=ENCODER, base_digest="").version
    return version


@pytest.fixture
def finder(user: User) -> str:
    """The version of an encoder that an alias serves."""
    version = publish_encoder(user, "finder")
    user.point("finder", version)
    return version


@pytest.fixture(scope="module")
def lonely(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry that only the generator of these tests reports to."""
    alone = Stack(tmp_path_factory.mktemp("followed"), {}, beside=stack)
    yield alone
    alone.close()


def channel_of(stack: Stack, user: User) -> grpc.aio.Channel:
    keys: list[Any] = [OnCalls(stack.tenant_key(user.tenant))]
    return grpc.aio.insecure_channel(stack.registry.address, interceptors=keys)


async def test_the_gateway_lists_no_encoder_and_refuses_one_by_name(stack: Stack, user: User, finder: str):
    adapter = user.publish("fares").version
    stack.service().report("g1", user.tenant, adapter, "READY")
    user.point("fares", adapter)
    async with channel_of(stack, user) as channel:
        registry = RemoteRegistry(channel)
        unused: Any = None  # nothing is generated, and auto is not named
        router = Router(registry, unused, unused)
        assert [alias.model for alias in await registry.aliases()] == ["fares"]
        for name in ("finder", "finder@1", f"finder@{finder}"):
            with serving(ASKING), pytest.raises(Failure, match=name) as caught:
                await router.resolve(name)
            assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, "model")
        with serving(ASKING):
            assert (await router.resolve("fares")).kind is ModelKind.ADAPTER


async def test_a_generator_never_hears_of_an_encoder(lonely: Stack, tmp_path: Path):
    user = lonely.newcomer()
    first, second = await call(publish_encoder, user, "finder"), await call(publish_encoder, user, "finder", 1)
    await call(user.point, "finder", first)
    adapter = (await call(user.publish, "fares")).version
    async with following(lonely, "g", tmp_path / "cursor.json") as follower:
        await call(user.point, "finder", second)
        share = pb.SetCanaryRequest(model="finder", alias="prod", version=first, percent=50)
        await call(user.api.SetCanary, share)
        await call(user.point, "fares", adapter)
        # Words are sent in the order of what is heard: behind this one there would be those on the encoder.
        await come_true(lambda: user.alias("fares").serving_version == adapter, "the adapter serves")
        alias = await call(user.alias, "finder")
        assert (alias.kind, list(alias.readiness), list(alias.canaries[0].readiness)) == (ENCODER, [], [])
        assert not follower.holds(first)
        assert not follower.holds(second)


class Link:
    """What the trainer's peer needs of a runtime."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def channel(self, _: str) -> grpc.aio.Channel:
        return self._channel


async def test_the_trainer_goes_on_from_no_encoder_and_trains_none_as_its_base(stack: Stack, user: User, finder: str):
    async with channel_of(stack, user) as channel:
        bases = RegistryBases(Link(channel))  # type: ignore[arg-type]  # one thing of a runtime is enough
        for name in ("finder", "finder@1", finder):
            with pytest.raises(Failure, match="encoder") as caught:
                await bases.adapter(name)
            assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, "start_version")
        with pytest.raises(Failure, match="encoder") as caught:
            await bases.base("finder@1")
        assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, "base")
