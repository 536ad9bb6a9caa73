"""Tenants whose limits gateways have heard of, so that a test of a limit has one to test."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

import httpx
from trivium.access.v1 import access_pb2

from tests.edge import Edge
from tests.harness.gateway import Gateway

BODY = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
_ATTEMPTS = 30
# A gateway whose call access did not answer makes no other for so long: what asks meanwhile learns nothing.
_AWAY_SECONDS = 1.0


def ask(gateway: Gateway, key: str, **fields: object) -> httpx.Response:
    """One chat; ``fields`` are of its body."""
    headers = {"authorization": f"Bearer {key}"}
    # Nothing is encrypted here, and reading all certificates takes longer than the call.
    with httpx.Client(verify=False, headers=headers, timeout=30) as client:
        return client.post(f"{gateway.http}/v1/chat/completions", json={**BODY, **fields})


def limited_and_known(edge: Edge, gateways: Sequence[Gateway], **limits: Any) -> tuple[str, list[httpx.Response]]:
    """A key of a tenant whose limit each gateway has heard of, and the answers by which that was seen.

    Where access does not answer within a second, a gateway lets requests in until it has heard of a limit: then there is
    none to be held, and another tenant is tried. One of ``limits`` is of a minute: answers tell of no other.
    """
    for _ in range(_ATTEMPTS):
        key = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}", access_pb2.Quota(**limits))
        answers = [ask(gateway, key) for gateway in gateways]
        if all(any(name.startswith("x-ratelimit-limit-") for name in answer.headers) for answer in answers):
            return key, answers
        time.sleep(_AWAY_SECONDS)
    raise AssertionError("access answers no gateway within a second")
