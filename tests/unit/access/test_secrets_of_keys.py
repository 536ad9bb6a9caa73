"""A key is 256 random bits, stored as a keyed hash, found by its prefix, compared in constant time."""

import base64
import hmac
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.access.keys import Keys, NewKey
from services.access.tenants import Tenants
from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey

OWNER = RequestContext("acme", "owner", frozenset({Role.OWNER}), Bearer(), "", None, "/m")
WANTED = NewKey("acme", "", frozenset({Role.MEMBER}))


def _now() -> int:
    return 1_000_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/access.db", "services.access.migrations") as opened:
        await opened.write(lambda session: Tenants(opened, _now).add(session, "acme", "", "p"))
        yield opened


async def _made(keys: Keys, name: str) -> str:
    _, text = await keys.create(OWNER, WANTED, IdempotencyKey("acme", "/made", name, b"f"))
    return text


async def test_a_secret_is_256_bits_that_no_other_key_has(database: Database) -> None:
    keys = Keys(database, b"hashing key", _now)
    texts = [await _made(keys, str(number)) for number in range(32)]
    secrets = {base64.urlsafe_b64decode(text.split("_", 2)[2] + "=") for text in texts}
    assert {len(secret) for secret in secrets} == {32}
    assert len(secrets) == len(texts)
    # No bit stands still: each is seen set and unset (by chance one in 2 ** 23 runs is not).
    numbers = [int.from_bytes(secret) for secret in secrets]
    seen_set, seen_unset = 0, 0
    for number in numbers:
        seen_set |= number
        seen_unset |= ~number
    assert seen_set == 2**256 - 1
    assert seen_unset & (2**256 - 1) == 2**256 - 1


async def test_the_database_has_no_secret_and_is_of_no_use_without_the_hashing_key(
    database: Database, tmp_path: Path
) -> None:
    keys = Keys(database, b"hashing key", _now)
    text = await _made(keys, "one")
    assert (await keys.check(text)).tenant == "acme"
    with sqlite3.connect(tmp_path / "access.db") as reading:
        told = "\n".join(reading.iterdump())
    secret = text.split("_", 2)[2]
    assert secret not in told
    assert secret.encode().hex() not in told.lower()
    # A hash without a key would let whoever has the file make entries that a thief's key opens.
    with pytest.raises(Failure) as refused:
        await Keys(database, b"another hashing key", _now).check(text)
    assert refused.value.reason is Reason.CREDENTIAL_INVALID


@pytest.mark.parametrize("known", [True, False], ids=["a-wrong-secret", "an-unknown-id"])
async def test_what_is_refused_cost_one_comparison_in_constant_time(
    database: Database, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    keys = Keys(database, b"hashing key", _now)
    text = await _made(keys, "one")
    kind, identifier, secret = text.split("_", 2)
    # Found by its prefix: the rest decides, and the first letter and the last count alike.
    wrong = [
        f"{kind}_{identifier}_{_other(secret[0])}{secret[1:]}",
        f"{kind}_{identifier}_{secret[:-2]}{_other(secret[-2])}A",
    ]
    asked = wrong if known else [f"{kind}_{'0' * len(identifier)}_{secret}"]
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return real(left, right)

    monkeypatch.setattr("services.access.keys.hmac.compare_digest", counting)
    for attempt in asked:
        with pytest.raises(Failure):
            await keys.check(attempt)
    assert compared == [(32, 32)] * len(asked)


def _other(letter: str) -> str:
    return "b" if letter == "a" else "a"
