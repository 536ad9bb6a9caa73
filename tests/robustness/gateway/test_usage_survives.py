"""The gateway and access are killed under load: every answer whose end was seen has its record, exactly once."""

import json
import threading
import uuid
from collections import Counter
from contextlib import suppress

import grpc
import httpx
from trivium.access.v1 import access_pb2

from tests.edge import Edge
from tests.harness.gateway import Gateway
from tests.stack import eventually, pages

TOKENS = 3
CLIENTS = 8


class Load:
    """Clients that ask one after another until they are told to stop; the ids whose end they saw."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.ended: list[str] = []
        self.codes: Counter[int] = Counter()
        self._gateway = gateway
        self._key = key
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, stream: bool) -> None:
        with httpx.Client(headers={"authorization": f"Bearer {self._key}"}, timeout=30) as client:
            while not self._stopping.is_set():
                request_id = str(uuid.uuid4())
                try:
                    if self._ends(client, request_id, stream):
                        self.ended.append(request_id)
                except (httpx.HTTPError, FileNotFoundError, json.JSONDecodeError):
                    self._stopping.wait(0.01)

    def _ends(self, client: httpx.Client, request_id: str, stream: bool) -> bool:
        body = {
            "model": "base",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": TOKENS,
            "stream": stream,
            "trivium": {"request_id": request_id},
        }
        with client.stream("POST", f"{self._gateway.http}/v1/chat/completions", json=body) as answer:
            self.codes[answer.status_code] += 1
            if answer.status_code != 200:
                answer.read()
                return False
            if not stream:
                return bool(json.loads(answer.read())["usage"])
            return any(line == "data: [DONE]" for line in answer.iter_lines())

    def until(self, more: int) -> None:
        """Wait until so many more answers have ended."""
        wanted = len(self.ended) + more
        eventually(lambda: len(self.ended) >= wanted, f"{more} more answers end: {self.codes}")


def records(edge: Edge, key: str) -> Counter[str]:
    api = edge.access_api(key)

    def page(token: str):
        return api.ListUsage(access_pb2.ListUsageRequest(page_size=1000, page_token=token))

    return Counter(record.request_id for record in pages(page, "records"))


def heard(edge: Edge, key: str) -> set[str]:
    """The ids of the records; none while our own connection is still the one to the access that was killed."""
    try:
        return set(records(edge, key))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return set()


def test_killing_gateway_and_access_loses_no_record_and_doubles_none(edge: Edge, gateway: Gateway):
    key = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}")
    with Load(gateway, key) as load:
        for _ in range(2):
            load.until(40)
            with gateway.killed():
                pass
        load.until(40)
        with edge.access.killed():
            load.until(40)
            # What ended meanwhile is on this gateway's disk alone when it dies.
            with gateway.killed():
                pass
        load.until(40)
    ended = set(load.ended)
    assert len(ended) == len(load.ended)
    eventually(lambda: ended <= heard(edge, key), "every answer whose end was seen has a record")
    kept = records(edge, key)
    assert set(kept.values()) == {1}
    spent = edge.access_api(key).ListUsage(access_pb2.ListUsageRequest(page_size=1)).records[0].receipt.usage
    assert (spent.prompt_tokens, spent.completion_tokens) == (7, TOKENS)


def heard_until_killed(gateway: Gateway, key: str, request_id: str) -> int:
    """How many tokens came of a stream whose gateway is killed under it."""
    body = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4000, "stream": True}
    headers = {"authorization": f"Bearer {key}", "x-trivium-request-id": request_id}
    texts = 0
    with (
        httpx.Client(headers=headers, timeout=30) as client,
        client.stream("POST", f"{gateway.http}/v1/chat/completions", json=body) as answer,
    ):
        lines = answer.iter_lines()
        while texts < 100:
            texts += '" word"' in next(lines)
        with gateway.killed(), suppress(httpx.RemoteProtocolError):
            for line in lines:
                texts += '" word"' in line
    return texts


def test_what_had_left_of_a_stream_counts_although_its_gateway_was_killed(edge: Edge, gateway: Gateway):
    key, request_id = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}"), str(uuid.uuid4())
    texts = heard_until_killed(gateway, key, request_id)
    api = edge.access_api(key)
    (record,) = eventually(lambda: api.ListUsage(access_pb2.ListUsageRequest()).records, "it is recorded")
    assert record.request_id.startswith(f"{request_id}~cancelled-")
    assert record.receipt.usage.prompt_tokens == 7
    # What is about to leave counts, and the last of it may not have come to this side of the connection.
    assert texts <= record.receipt.usage.completion_tokens <= texts + 5
    assert records(edge, key).total() == 1
