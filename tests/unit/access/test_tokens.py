"""A token counts when its issuer is known and all of it is right; whatever else is wrong gives one answer."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.access.issuer_keys import IssuerKeys
from services.access.issuers import Issuer
from services.access.tokens import Person, Tokens
from services.chassis.context import Role
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from tests.token_issuer import AUDIENCE, TokenIssuer

URL = "https://issuer.test"


@pytest.fixture(scope="module")
def issuer():
    made = TokenIssuer(URL, "RS256")
    made.add("EdDSA")
    made.add("ES256")
    return made


def tokens_of(issuer, **fields):
    async def fetch():
        return issuer.key_set()

    return Tokens(
        [Issuer(**issuer.settings(**fields))],
        logger("access"),
        lambda settings, log: IssuerKeys(settings, log, fetch, lambda: 0.0),
    )


async def refused(tokens, token):
    with pytest.raises(Failure) as caught:
        await tokens.check(token)
    assert caught.value.reason is Reason.CREDENTIAL_INVALID
    assert not caught.value.variables


def part(value):
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=")


def by_hand(header, claims, secret=None):
    """What no library signs: a token with any header, with an HMAC or with nothing behind it."""
    signed = part(header) + b"." + part(claims)
    mac = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + part(mac)).decode()


def claims_of(issuer, **more):
    return jwt.decode(issuer.token(**more), options={"verify_signature": False})


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA", "ES256"])
async def test_a_token_names_a_person_under_each_algorithm(issuer, algorithm):
    key_id = next(one for one, named in issuer.algorithms.items() if named == algorithm)
    token = issuer.token(key_id=key_id, groups=["others", "writers"], name="Ana")
    person = await tokens_of(issuer).check(token)
    ends_at = claims_of(issuer)["exp"]
    assert abs(person.ends_at - ends_at) < 60
    assert person == Person(URL, "ana", "acme", frozenset({Role.DEVELOPER}), "Ana", person.ends_at, may_be_new=True)


NOW = int(time.time())
# A run may end long after its tests were collected.
YEARS = 10 * 365 * 86400
WRONG = {
    "another audience": {"aud": "elsewhere"},
    "audiences without ours": {"aud": ["elsewhere", f"{AUDIENCE}/"]},
    "another issuer": {"iss": "https://elsewhere.test"},
    "an issuer that is almost ours": {"iss": f"{URL}/"},
    "an issuer that is a list": {"iss": [URL]},
    "over": {"exp": NOW - 3600},
    "over this moment": {"exp": NOW - 1},
    "not begun": {"nbf": NOW + YEARS},
    "made in the future": {"iat": NOW + YEARS},
    "an end that is no time": {"exp": "tomorrow"},
    "an end that is never": {"exp": float("inf")},
    "nobody": {"sub": ""},
    "somebody who is a number": {"sub": 7},
    "somebody too long": {"sub": "a" * 256},
    "a name with a NUL": {"sub": "a\0b"},
    "no tenant": {"tenant": ""},
    "a tenant that is a list": {"tenant": ["acme"]},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
async def test_a_claim_that_is_wrong_is_refused(issuer, claims):
    await tokens_of(issuer).check(issuer.token())
    try:
        token = issuer.token(**claims)
    except TypeError:
        # The library does not sign what the token should not be.
        token = signed_anyway(issuer, claims)
    await refused(tokens_of(issuer), token)


def signed_anyway(issuer, claims):
    header = {"alg": issuer.algorithms[issuer.newest], "kid": issuer.newest, "typ": "JWT"}
    payload = claims_of(issuer) | claims
    return jwt.api_jws.encode(
        json.dumps(payload).encode(), issuer.private[issuer.newest], algorithm=header["alg"], headers=header
    )


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "iat", "sub", "tenant"])
async def test_a_claim_that_is_missing_is_refused(issuer, claim):
    await refused(tokens_of(issuer), issuer.token(without=(claim,)))


async def test_an_issuers_clock_may_be_a_little_ahead(issuer):
    soon = int(time.time()) + 10
    assert (await tokens_of(issuer).check(issuer.token(nbf=soon, iat=soon))).subject == "ana"


async def test_a_token_of_several_audiences_counts(issuer):
    assert (await tokens_of(issuer).check(issuer.token(aud=["elsewhere", AUDIENCE]))).subject == "ana"


async def test_a_token_that_nobody_signed_is_refused(issuer):
    for name in ("none", "None", "NONE"):
        await refused(tokens_of(issuer), by_hand({"alg": name, "kid": issuer.newest}, claims_of(issuer)))


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA", "ES256"])
async def test_what_an_issuer_publishes_is_no_secret_to_sign_with(issuer, algorithm):
    key_id = next(one for one, named in issuer.algorithms.items() if named == algorithm)
    public = issuer.private[key_id].public_key()
    for text in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).rstrip(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(issuer.published[key_id]).encode(),
    ):
        await refused(tokens_of(issuer), by_hand({"alg": "HS256", "kid": key_id}, claims_of(issuer), text))


async def test_a_key_that_is_not_published_verifies_nothing(issuer):
    other = TokenIssuer(URL)
    await refused(tokens_of(issuer), other.token())
    # Under the id of a key that is.
    taken = jwt.encode(claims_of(issuer), other.private[other.newest], "ES256", headers={"kid": issuer.newest})
    await refused(tokens_of(issuer), taken)


async def test_a_key_verifies_no_algorithm_but_its_own(issuer):
    by_algorithm = {named: one for one, named in issuer.algorithms.items()}
    crossed = jwt.encode(
        claims_of(issuer), issuer.private[by_algorithm["RS256"]], "RS256", headers={"kid": by_algorithm["ES256"]}
    )
    await refused(tokens_of(issuer), crossed)
    stronger = jwt.encode(
        claims_of(issuer), issuer.private[by_algorithm["RS256"]], "RS512", headers={"kid": by_algorithm["RS256"]}
    )
    await refused(tokens_of(issuer), stronger)


async def test_an_algorithm_that_the_operator_left_out_is_refused(issuer):
    await tokens_of(issuer, algorithms=["ES256"]).check(issuer.token())
    await refused(tokens_of(issuer, algorithms=["RS256"]), issuer.token())


async def test_a_token_without_a_key_id_or_with_another_payload_is_refused(issuer):
    private = issuer.private[issuer.newest]
    await refused(tokens_of(issuer), jwt.encode(claims_of(issuer), private, "ES256"))
    head, _, signature = issuer.token().split(".")
    changed = part(claims_of(issuer) | {"tenant": "others"}).decode()
    await refused(tokens_of(issuer), f"{head}.{changed}.{signature}")


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "tv_a_b", "eyJhbGciOiJFUzI1NiJ9.W10.", "x" * 16384])
async def test_what_is_no_token_is_refused(issuer, text):
    await refused(tokens_of(issuer), text)


async def test_a_token_that_is_nested_deeper_than_a_stack_is_refused(issuer):
    deep = b"[" * 9000
    await refused(tokens_of(issuer), by_hand({"alg": "ES256", "kid": issuer.newest}, deep))


async def test_nobody_is_believed_where_the_operator_named_no_issuer(issuer):
    await refused(Tokens([], logger("access")), issuer.token())


async def test_an_issuer_speaks_for_its_own_tenants_alone(issuer):
    limited = tokens_of(issuer, tenants=["acme"])
    assert (await limited.check(issuer.token())).tenant == "acme"
    await refused(limited, issuer.token(tenant="others"))
    fixed = tokens_of(issuer, tenant="acme", tenant_claim="")
    assert (await fixed.check(issuer.token(tenant="others"))).tenant == "acme"


async def test_only_mapped_values_give_roles(issuer):
    for groups, roles in (
        (["writers", "bosses"], {Role.DEVELOPER, Role.OWNER}),
        ("bosses", {Role.OWNER}),
        (["admin", "service", "owner", 7, None, ["bosses"]], {Role.VIEWER}),
        ({"bosses": True}, {Role.VIEWER}),
        (None, {Role.VIEWER}),
    ):
        assert (await tokens_of(issuer).check(issuer.token(groups=groups))).roles == roles, groups
    assert not (await tokens_of(issuer, default_roles=[]).check(issuer.token(groups=["admin"]))).roles
