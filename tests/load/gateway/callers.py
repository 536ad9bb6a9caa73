"""Load over both transports, from bytes that are made once: the caller's own work stays small."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import grpc
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2

CONCURRENCY = 32
_END = b"0\r\n\r\n"


def chat_body(tokens: int, **fields: Any) -> bytes:
    """A turn that is answered with so many tokens."""
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    return json.dumps({"model": "base", "messages": turns, "max_tokens": tokens, **fields}).encode()


def http_request(url: str, path: str, key: str, body: bytes) -> bytes:
    """A whole HTTP/1.1 request on a connection that stays open."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class HttpCaller:
    """Requests over connections that stay open, each read to its end."""

    def __init__(self, url: str, request: bytes) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._request = request

    async def load(self, count: int) -> int:
        """``count`` requests, CONCURRENCY at a time; how many were answered with 200."""

        async def worker(share: int) -> int:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            good = 0
            for _ in range(share):
                writer.write(self._request)
                good += (await answer(reader))[0] == 200
            writer.close()
            return good

        return sum(await asyncio.gather(*map(worker, shares(count))))


def shares(count: int) -> list[int]:
    """How many of them each of CONCURRENCY workers sends."""
    return [(count + first) // CONCURRENCY for first in range(CONCURRENCY)]


async def answer(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str], bytes]:
    """One answer: its status, headers and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = b""
        while not body.endswith(_END):
            body += await reader.readuntil(b"\r\n")
    return int(head[0].split()[1]), headers, body


def chat_request(tokens: int) -> bytes:
    """A turn as gRPC carries it."""
    turns = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="What is the capital of France?")]
    request = gateway_pb2.ChatRequest(model="base", messages=turns, sampling=chat_pb2.Sampling(max_tokens=tokens))
    return request.SerializeToString()


class GrpcCaller:
    """Streams over one channel, read to their ends."""

    def __init__(self, channel: grpc.aio.Channel, key: str, request: bytes) -> None:
        self._call: Any = channel.unary_stream("/trivium.gateway.v1.GatewayService/Chat")
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._request = request

    async def load(self, count: int) -> int:
        """``count`` calls, CONCURRENCY at a time."""

        async def worker(share: int) -> int:
            for _ in range(share):
                async for _ in self._call(self._request, metadata=self._metadata, timeout=60):
                    pass
            return share

        return sum(await asyncio.gather(*map(worker, shares(count))))
