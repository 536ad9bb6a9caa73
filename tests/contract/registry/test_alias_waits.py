"""Whoever waits for an alias waits through its history at once, and through a restart of the registry."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from trivium_client import Trivium
from trivium_client.nouns import Alias

from tests.stack import Stack, User, eventually


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry that can be killed and comes back where it was."""
    stack = Stack(tmp_path_factory.mktemp("waits"))
    stack.registry.keep_port()
    yield stack
    stack.close()


def test_a_wait_for_an_alias_outlives_a_restart_of_the_registry(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = own.tenant()
    key = own.tenant_key(tenant)
    user = User(own.registry_api(key), tenant)
    first, second = (user.publish("desk").version for _ in range(2))
    own.service().report("g1", tenant, first, "READY")
    # History of the alias, which is not asked about event by event.
    for _ in range(5):
        user.point("desk", first)
    user.point("desk", second)
    asked: list[str] = []
    with (
        Trivium(api_key=key, addresses={"registry": own.registry.address}) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        look = client.models._inner.alias

        async def counted(model: str, alias: str = "prod") -> Alias:
            found = await look(model, alias)
            asked.append(found.state)
            return found

        monkeypatch.setattr(client.models._inner, "alias", counted)
        waiting = pool.submit(client.models.wait_alias, "desk")
        # Once before the watch, and once when that has caught up, whatever the history holds.
        eventually(lambda: len(asked) >= 2, "it watches")
        own.registry.kill()
        own.registry.start()
        assert (asked[:2], waiting.done()) == (["pending", "pending"], False)
        own.service().report("g1", tenant, second, "READY")
        settled = waiting.result(60)
    assert (settled.state, settled.serving_version) == ("serving", second)
    assert len(asked) < 7
