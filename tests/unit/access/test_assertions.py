"""Signing keys rotate without invalidating what lives, and lie in files of their owner's."""

import stat
import time
from pathlib import Path

import jwt
import pytest

from services.access.assertions import Assertions, SigningKeys
from services.chassis.context import Role
from tests.harness.clock import ManualClock

DAY = 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000.0)


def opened(folder: Path, clock: ManualClock) -> SigningKeys:
    keys = SigningKeys(folder, rotate_days=1, now_seconds=clock)
    keys.refresh()
    return keys


def test_a_restart_keeps_the_key(tmp_path: Path, clock: ManualClock):
    assert list(opened(tmp_path, clock).public()) == list(opened(tmp_path, clock).public())
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_old_key_is_replaced_and_verifies_until_the_next_is_replaced(tmp_path: Path, clock: ManualClock):
    keys = opened(tmp_path, clock)
    seen = [keys.current.key_id]
    for _ in range(3):
        clock.advance(DAY - 1)
        assert not keys.refresh()
        clock.advance(1)
        assert keys.refresh()
        seen.append(keys.current.key_id)
        assert list(keys.public()) == [seen[-1], seen[-2]]
    assert len(set(seen)) == 4
    assert len(list(tmp_path.iterdir())) == 2


def test_an_assertion_from_before_a_rotation_still_verifies(tmp_path: Path):
    # With the real clock: the library that verifies has no other.
    keys = SigningKeys(tmp_path, rotate_days=1, now_seconds=time.time)
    keys.refresh()
    issued = Assertions(keys, lifetime_seconds=600, now_seconds=time.time).issue("p", "t", frozenset({Role.VIEWER}))
    later = SigningKeys(tmp_path, rotate_days=1, now_seconds=lambda: time.time() + 2 * DAY)
    assert later.refresh()
    key = later.public()[jwt.get_unverified_header(issued.token)["kid"]]
    claims = jwt.decode(issued.token, key, algorithms=["EdDSA"])
    assert (claims["sub"], claims["tid"], claims["roles"]) == ("p", "t", ["viewer"])


def test_who_acts_for_somebody_is_named(tmp_path: Path, clock: ManualClock):
    assertions = Assertions(opened(tmp_path, clock), lifetime_seconds=600, now_seconds=clock)
    token = assertions.issue("p", "t", frozenset({Role.MEMBER}), actor="services").token
    assert jwt.decode(token, options={"verify_signature": False})["act"] == {"sub": "services"}
