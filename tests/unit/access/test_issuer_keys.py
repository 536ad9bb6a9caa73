"""Keys of issuers: asked for seldom, believed for a while, and only those that are fit to verify."""

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import ValidationError

from services.access.config import AccessSettings
from services.access.issuer_keys import IssuerKeys, KeysUnavailable, fetch_from, keys_in
from services.access.issuers import Issuer
from services.chassis.logs import logger
from tests.token_issuer import TokenIssuer, served

URL = "https://issuer.test"


class World:
    """An issuer that counts how often it is asked, and a clock that stands still."""

    def __init__(self):
        self.issuer = TokenIssuer(URL)
        self.now = 1000.0
        self.asked = 0
        self.away = False
        settings = Issuer(**self.issuer.settings())
        self.keys = IssuerKeys(settings, logger("access"), self.fetch, lambda: self.now)

    async def fetch(self):
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise KeysUnavailable("away")
        return self.issuer.key_set()

    async def known(self, key_id):
        return await self.keys.find(key_id) is not None


async def test_an_issuer_is_asked_once_however_many_wait():
    world = World()
    assert all(await asyncio.gather(*(world.known(world.issuer.newest) for _ in range(50))))
    assert world.asked == 1


async def test_unknown_key_ids_ask_the_issuer_every_thirty_seconds_at_most():
    world = World()
    assert await world.known(world.issuer.newest)
    for second in range(60):
        world.now = 1000.0 + second
        assert not await world.known(f"guess-{second}")
    assert world.asked == 2


async def test_a_new_key_is_found_and_the_one_before_it_still_counts():
    world = World()
    first = world.issuer.newest
    assert await world.known(first)
    second = world.issuer.add()
    assert not await world.known(second)
    world.now += 30
    assert await world.known(second)
    assert await world.known(first)


async def test_a_withdrawn_key_counts_for_ten_minutes_at_most():
    world = World()
    first = world.issuer.newest
    assert await world.known(first)
    world.issuer.withdraw(first)
    world.now += 599
    assert await world.known(first)
    world.now += 1
    assert not await world.known(first)


async def test_keys_of_an_issuer_that_is_away_count_for_an_hour_and_no_longer():
    world = World()
    assert await world.known(world.issuer.newest)
    world.away = True
    world.now += 3599
    assert await world.known(world.issuer.newest)
    world.now += 1
    assert not await world.known(world.issuer.newest)
    asked = world.asked
    assert not await world.known(world.issuer.newest)
    assert world.asked == asked
    world.away = False
    world.now += 30
    assert await world.known(world.issuer.newest)


def test_keys_that_should_not_verify_are_not_kept():
    issuer = TokenIssuer(URL)
    good = issuer.published[issuer.newest]
    settings = Issuer(**issuer.settings())
    weak = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), as_dict=True
    )
    shared = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "k"}
    private = json.loads(_private(issuer)) | {"kid": "k"}
    for unfit in (
        shared,
        shared | {"alg": "ES256"},
        shared | {"alg": "HS256"},
        weak | {"kid": "k"},
        private,
        good | {"use": "enc"},
        good | {"alg": "ES512"},
        good | {"alg": "none"},
        good | {"kid": 7},
        {name: value for name, value in good.items() if name != "kid"},
        good | {"x": "AA"},
        good | {"crv": "P-9"},
        {},
        "text",
        None,
    ):
        assert not keys_in({"keys": [unfit]}, settings), unfit
        assert set(keys_in({"keys": [unfit, good]}, settings)) == {issuer.newest}
    others: list[object] = [[], None, {"keys": {}}, {"keys": "text"}, "text"]
    for nothing in others:
        with pytest.raises(KeysUnavailable):
            keys_in(nothing, settings)


def _private(issuer):
    return ECAlgorithm.to_jwk(issuer.private[issuer.newest])


async def test_keys_are_discovered_over_http():
    with served() as issuer:
        settings = Issuer(**issuer.settings())
        assert set(keys_in(await fetch_from(settings)(), settings)) == {issuer.newest}
        assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/keys", (500, {}, b"{}")),
        ("/keys", (302, {"Location": "/elsewhere"}, b"{}")),
        ("/keys", (200, {}, b"{")),
        ("/keys", (200, {}, b"[" * 100_000)),
        ("/keys", (200, {}, b'{"keys": [], "more": "' + b"x" * 600_000 + b'"}')),
        ("/.well-known/openid-configuration", (200, {}, b"[]")),
        (
            "/.well-known/openid-configuration",
            (200, {}, b'{"issuer": "https://elsewhere.test", "jwks_uri": "URL/keys"}'),
        ),
        ("/.well-known/openid-configuration", (200, {}, b'{"issuer": "URL"}')),
        ("/.well-known/openid-configuration", (200, {}, b'{"issuer": "URL", "jwks_uri": "http://10.0.0.1/keys"}')),
        ("/.well-known/openid-configuration", (200, {}, b'{"issuer": "URL", "jwks_uri": "file:///etc/passwd"}')),
    ],
)
async def test_what_is_not_an_issuers_answer_gives_no_keys(path, answer):
    with served() as issuer:
        status, headers, body = answer
        issuer.answers[path] = (status, headers, body.replace(b"URL", issuer.url.encode()))
        settings = Issuer(**issuer.settings())
        with pytest.raises(KeysUnavailable):
            keys_in(await fetch_from(settings)(), settings)
        assert "/elsewhere" not in issuer.asked


async def test_an_issuer_that_nobody_reaches_gives_no_keys():
    with pytest.raises(KeysUnavailable):
        await fetch_from(Issuer(**TokenIssuer("http://127.0.0.1:9").settings()))()


async def test_keys_may_come_from_a_file(tmp_path):
    issuer = TokenIssuer(URL)
    settings = Issuer(**issuer.settings(jwks_file=tmp_path / "keys.json"))
    with pytest.raises(KeysUnavailable):
        await fetch_from(settings)()
    (tmp_path / "keys.json").write_text(json.dumps(issuer.key_set()))
    assert set(keys_in(await fetch_from(settings)(), settings)) == {issuer.newest}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"issuer": "http://issuer.test"}, "https URL"),
        ({"issuer": "http://127.0.0.1.issuer.test"}, "https URL"),
        ({"issuer": "https://user:word@issuer.test"}, "https URL"),
        ({"issuer": "file:///keys"}, "https URL"),
        ({"issuer": "trivium-access"}, "https URL"),
        ({"issuer": "https://[issuer"}, "https URL"),
        ({"tenant": "acme"}, r"\btenant\b.* tenant_claim\b"),
        ({"tenant_claim": ""}, r"\btenant\b.* tenant_claim\b"),
        ({"tenant": "acme", "tenant_claim": "", "tenants": ["acme"]}, r"\btenants\b.* tenant_claim\b"),
        ({"roles_claim": ""}, r"\broles\b.* roles_claim\b"),
        ({"roles": {"all": "service"}}, "role service"),
        ({"default_roles": ["service"]}, "role service"),
        ({"roles": {"all": "emperor"}}, "roles"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": []}, "algorithm"),
        ({"audience": ""}, "audience"),
        ({"leeway": 3}, "leeway"),
    ],
)
def test_an_issuer_that_could_not_be_trusted_stops_the_start(monkeypatch, fields, problem):
    issuer = TokenIssuer(URL)
    monkeypatch.setenv("TRIVIUM_ACCESS_OIDC_ISSUERS", json.dumps([issuer.settings()]))
    assert [one.issuer for one in AccessSettings().oidc_issuers] == [URL]
    monkeypatch.setenv("TRIVIUM_ACCESS_OIDC_ISSUERS", json.dumps([issuer.settings(**fields)]))
    with pytest.raises(ValidationError, match=problem):
        AccessSettings()


def test_an_issuer_is_named_once(monkeypatch):
    settings = TokenIssuer(URL).settings()
    monkeypatch.setenv("TRIVIUM_ACCESS_OIDC_ISSUERS", json.dumps([settings, settings]))
    with pytest.raises(ValidationError, match="twice"):
        AccessSettings()
