"""A credential is asked about once in a while, and never counts beyond its own end."""

import asyncio
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.chassis.credentials import ISSUER, AssertionVerifier, CachingAuthenticator, Kind, identity_of, kind_of
from services.chassis.errors import Failure, Reason
from tests.token_issuer import TokenIssuer


class Access:
    """Exchanges whatever comes for an assertion that ends after some seconds, and keeps what it was asked."""

    def __init__(self, lives_seconds=600):
        self.private = Ed25519PrivateKey.generate()
        self.lives_seconds = lives_seconds
        self.asked = []
        self.fails = None
        self.now = time.time()

    async def keys(self):
        return {"k": self.private.public_key()}

    async def exchange(self, credential):
        self.asked.append(credential)
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "user_1", "tid": "t", "iat": now, "exp": now + self.lives_seconds}
        return jwt.encode(claims, self.private, "EdDSA", headers={"kid": "k"})

    def authenticator(self):
        return CachingAuthenticator(AssertionVerifier(self.keys), self.exchange, clock=lambda: self.now)


@pytest.mark.parametrize("credential", ["tv_a_secret", TokenIssuer("https://issuer.test").token()])
async def test_a_key_and_a_token_are_exchanged_once_a_minute(credential):
    access = Access()
    door = access.authenticator()
    for _ in range(3):
        assert (await door.authenticate(credential)).principal_id == "user_1"
    assert access.asked == [credential]
    access.now += 60
    await door.authenticate(credential)
    assert access.asked == [credential, credential]


async def settled(door):
    """Wait until what is being asked about is known."""
    await asyncio.gather(*door._asking.values(), return_exceptions=True)


async def test_what_still_counts_is_asked_about_again_before_it_ends_and_no_call_waits_or_fails_for_it():
    access = Access()
    door = access.authenticator()
    await door.authenticate("tv_a_secret")
    access.now += 31
    access.fails = Failure(Reason.PEER_UNAVAILABLE, service="access")
    for _ in range(3):
        assert (await door.authenticate("tv_a_secret")).principal_id == "user_1"
    await settled(door)
    # Access is away, and not asked by every call.
    assert (await door.authenticate("tv_a_secret")).principal_id == "user_1"
    assert len(access.asked) == 2
    access.fails, access.now = None, access.now + 6
    await door.authenticate("tv_a_secret")
    await settled(door)
    access.now += 29
    await door.authenticate("tv_a_secret")
    assert len(access.asked) == 3


async def test_what_is_refused_when_it_is_asked_about_again_counts_no_longer():
    access = Access()
    door = access.authenticator()
    await door.authenticate("tv_a_secret")
    access.now += 31
    access.fails = Failure(Reason.CREDENTIAL_INVALID)
    await door.authenticate("tv_a_secret")
    await settled(door)
    with pytest.raises(Failure) as refused:
        await door.authenticate("tv_a_secret")
    assert refused.value.reason is Reason.CREDENTIAL_INVALID


async def test_what_nobody_answers_for_counts_no_longer_than_it_did():
    access = Access()
    door = access.authenticator()
    await door.authenticate("tv_a_secret")
    access.fails = Failure(Reason.PEER_UNAVAILABLE, service="access")
    access.now += 60
    with pytest.raises(Failure) as refused:
        await door.authenticate("tv_a_secret")
    assert refused.value.reason is Reason.PEER_UNAVAILABLE


async def test_a_token_is_not_remembered_beyond_its_own_end():
    access = Access(lives_seconds=40)
    door, token = access.authenticator(), TokenIssuer("https://issuer.test").token()
    await door.authenticate(token)
    access.now += 11
    await door.authenticate(token)
    assert len(access.asked) == 2


async def test_an_assertion_is_verified_here_and_what_is_none_of_the_three_is_not_asked_about():
    access = Access()
    door = access.authenticator()
    assert (await door.authenticate(await access.exchange("a key"))).tenant_id == "t"
    forged = jwt.encode({"iss": ISSUER, "sub": "user_1"}, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": "k"})
    for credential in (forged, "nonsense", "a.b.c", ""):
        with pytest.raises(Failure) as caught:
            await door.authenticate(credential)
        assert caught.value.reason is Reason.CREDENTIAL_INVALID
    assert access.asked == ["a key"]


def test_an_access_that_signs_no_weight_gives_everybody_one_and_what_is_none_is_refused():
    claims = {"sub": "user_1", "tid": "t", "iat": 0, "exp": 60}
    assert identity_of(claims, "").weight == 1
    assert identity_of({**claims, "weight": 3}, "").weight == 3
    for none in (0, -1, 2.5, "3", None, [3]):
        with pytest.raises(Failure) as caught:
            identity_of({**claims, "weight": none}, "")
        assert caught.value.reason is Reason.CREDENTIAL_INVALID


async def test_no_text_of_a_credential_is_remembered():
    access = Access()
    door, token = access.authenticator(), TokenIssuer("https://issuer.test").token()
    for credential in ("tv_a_secret", token, await access.exchange("")):
        await door.authenticate(credential)
        assert credential not in door._known
        assert credential.encode() not in door._known


def test_who_issued_a_token_says_what_kind_it_is():
    assert kind_of("tv_a_b") is Kind.KEY
    assert kind_of(jwt.encode({"iss": ISSUER}, "x" * 32)) is Kind.ASSERTION
    for claims in ({"iss": "https://issuer.test"}, {}, {"iss": None}, {"iss": f"{ISSUER}/"}):
        assert kind_of(jwt.encode({name: value for name, value in claims.items() if value}, "x" * 32)) is Kind.TOKEN
