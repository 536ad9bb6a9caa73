"""What an earlier release wrote of an alias is still read: events and stored responses outlive an upgrade."""

from services.registry.alias_view import Alias, Canary
from services.registry.readiness import AliasState, Readiness, ReadinessState

BEFORE_CANARIES = {
    "tenant": "t", "model": "m", "alias": "prod", "target": "v2", "serving": "v1", "state": "PENDING",
    "reason": "0 of 1", "etag": "7", "updated_at": 1.5,
    "readiness": [
        {"generator": "g", "version": "v2", "state": "LOADING", "reason": "", "updated_at": 1.0, "instance": "i"}
    ],
}  # fmt: skip


def test_an_alias_of_before_canaries_has_none():
    alias = Alias.restore(BEFORE_CANARIES)
    assert (alias.canaries, alias.previous) == ((), "")
    assert (alias.state, alias.readiness[0].state) == (AliasState.PENDING, ReadinessState.LOADING)


def test_an_alias_with_canaries_is_read_back_as_it_was():
    word = Readiness("g", "v3", ReadinessState.READY, "", 2.0, "i")
    canary = Canary("v3", 3, 10, AliasState.SERVING, "", (word,))
    alias = Alias(
        "t", "m", "prod", "v2", "v2", AliasState.SERVING, "", "8", 2.5, readiness=(), canaries=(canary,), previous="v1"
    )
    assert Alias.restore(alias.snapshot()) == alias
