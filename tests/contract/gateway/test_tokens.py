"""An OIDC token at the gateway's doors, in a key's place."""

from trivium.access.v1 import access_pb2

from tests.front import Front
from tests.token_issuer import TokenIssuer


def test_a_token_opens_the_http_door_like_a_key_and_sees_its_own_tenant_alone(front: Front, issuer: TokenIssuer):
    visitor = front.newcomer()
    made = visitor.ask("POST", "/vector_stores", {"name": "theirs"}).json()["id"]
    tenant = front.stack.access_api(visitor.key).WhoAmI(access_pb2.WhoAmIRequest()).tenant

    def found(token: str) -> tuple[int, list[str]]:
        answer = visitor.holding(token).ask("GET", "/vector_stores")
        return answer.status_code, [store["id"] for store in answer.json().get("data", [])]

    assert found(issuer.token(tenant=tenant, groups=["writers"])) == (200, [made])
    assert found(issuer.token(tenant=front.stack.tenant(), groups=["writers"])) == (200, [])


def test_a_token_that_does_not_count_gets_the_answer_of_a_key_that_does_not(front: Front, issuer: TokenIssuer):
    visitor = front.newcomer()
    tenant = front.stack.tenant()
    answers = []
    for credential in (
        "tv_wrong_key",
        issuer.token(tenant=tenant, aud="elsewhere"),
        TokenIssuer(issuer.url).token(tenant=tenant),
    ):
        answer = visitor.holding(credential).ask("GET", "/vector_stores")
        answers.append((answer.status_code, answer.json()))
    assert answers[0][0] == 401
    assert answers[1:] == answers[:1] * 2
