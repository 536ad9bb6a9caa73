"""POST /v1/chat/completions: a turn, or with ``trivium.collection`` a question with sources."""

import json
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from trivium.gateway.v1 import gateway_pb2

from gateway.http import asking, rendering, tools
from gateway.http.answers import NoQuery
from gateway.http.chat_answers import ChatAnswer, ChatChunk
from gateway.http.generating import DONE, LAST, GeneratingExchange, encoded, event
from gateway.http.parsing import parse
from gateway.http.requests import of_chat
from gateway.http.routes import Route
from gateway.http.schemas import ChatCompletion
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

Event = gateway_pb2.AskResponse | gateway_pb2.ChatResponse


_NO_TEXT = b'"content": ""'


class ChatExchange(GeneratingExchange):
    """A turn, or a question with sources, as one answer or as chunks."""

    # Whether a stream had text.
    _said = False

    def __init__(self, servicers: Servicers, request_id: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(servicers, request_id, clock)
        # By answer, what stands before and behind the text of an event.
        self._around: dict[int, tuple[bytes, bytes]] = {}

    def parse(self, asked: Asked) -> gateway_pb2.ChatRequest | gateway_pb2.AskRequest:
        """As Exchange."""
        body = parse(ChatCompletion, asked.body)
        request = of_chat(body, self.request_id)
        self._begin(body, request.request_id, logprobs=body.logprobs)
        return request

    async def answer(
        self, message: gateway_pb2.ChatRequest | gateway_pb2.AskRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        events: AsyncGenerator[Event] = (
            self._servicer.Ask(message, context)
            if isinstance(message, gateway_pb2.AskRequest)
            else self._servicer.Chat(message, context)
        )
        encode = self._events if self.stream else self._whole
        async with aclosing(events), aclosing(encode(events)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _events(self, events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
        opened = False
        async for item in events:
            if not opened:
                opened = True
                for chunk in self._openings(item):
                    yield event(chunk)
            if item.WhichOneof("part") == "delta" and not (self._logprobs_wanted or item.delta.tool_calls):
                yield self._text(item.delta)
                continue
            for chunk in self._chunks(item):
                yield event(chunk)
        yield DONE

    def _text(self, delta: gateway_pb2.TextDelta) -> bytes:
        """The commonest event: all of it but the text is the same for every token of an answer, and made once."""
        self._said = self._said or bool(delta.text)
        around = self._around.get(delta.choice)
        if around is None:
            whole = event(self._chunk(delta.choice, {"content": ""}))
            # No other string can spell this: its quotation marks would have a backslash before them.
            before, _, after = whole.partition(_NO_TEXT)
            around = self._around[delta.choice] = before + _NO_TEXT[:-2], after
        return b"".join((around[0], encoded(delta.text).encode(), around[1]))

    def _openings(self, first: Event) -> Iterator[dict[str, Any]]:
        """The role of each answer, and the sources where there are some: they come before any text."""
        extra: dict[str, Any] = {}
        if isinstance(first, gateway_pb2.AskResponse):
            extra["trivium"] = rendering.found(first.sources)
        for index in range(self._answers):
            yield self._chunk(index, {"role": "assistant", "content": ""}, **extra)

    def _chunks(self, item: Event) -> Iterator[dict[str, Any]]:
        kind = item.WhichOneof("part")
        if kind == "delta":
            delta = item.delta
            self._said = self._said or bool(delta.text)
            said: dict[str, Any] = {"content": delta.text} if delta.text or not delta.tool_calls else {}
            if delta.tool_calls:
                said["tool_calls"] = tools.parts(delta.tool_calls)
            yield self._chunk(delta.choice, said, logprobs=self._logprobs(delta))
        if kind == "final":
            final = item.final
            build = final.receipt.engine_build
            reasons = rendering.finishes(final)
            for index, reason in enumerate(reasons):
                about = {"trivium": rendering.made_of(final)} if index == len(reasons) - 1 else {}
                refused = asking.refused("said" if self._said else "", final)
                yield self._chunk(index, refused, reason=reason, fingerprint=build, **about)
            if self._usage_wanted:
                whole = self._head("chat.completion.chunk", build)
                yield {**whole, "choices": [], "usage": rendering.usage(final.usage)}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
        fingerprint: str | None = None,
        **extra: Any,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._head("chat.completion.chunk", fingerprint), "choices": [choice], **extra}
        if self._usage_wanted:
            chunk["usage"] = None
        return chunk

    async def _whole(self, events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
        text: defaultdict[int, str] = defaultdict(str)
        calls: defaultdict[int, tools.Calls] = defaultdict(tools.Calls)
        tokens: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        found: dict[str, Any] = {}
        async for item in events:
            kind = item.WhichOneof("part")
            if kind == "delta":
                text[item.delta.choice] += item.delta.text
                calls[item.delta.choice].add(item.delta.tool_calls)
                tokens[item.delta.choice] += rendering.logprobs(item.delta.logprobs)
            elif kind == "final":
                about = found | rendering.made_of(item.final)
                messages = [
                    calls[index].message(text[index]) | asking.refused(text[index], item.final)
                    for index in range(len(rendering.finishes(item.final)))
                ]
                whole = self._completion(messages, tokens, item.final, about)
                yield json.dumps(whole, ensure_ascii=False).encode()
            elif isinstance(item, gateway_pb2.AskResponse):
                found = rendering.found(item.sources)

    def _completion(
        self,
        messages: Sequence[dict[str, Any]],
        tokens: Mapping[int, list[dict[str, Any]]],
        final: rendering.Final,
        about: dict[str, Any],
    ) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "message": messages[index],
                "logprobs": {"content": tokens[index], "refusal": None} if self._logprobs_wanted else None,
                "finish_reason": reason,
            }
            for index, reason in enumerate(rendering.finishes(final))
        ]
        return {
            **self._head("chat.completion", final.receipt.engine_build),
            "choices": choices,
            "usage": rendering.usage(final.usage),
            "trivium": about,
        }

    def _logprobs(self, delta: gateway_pb2.TextDelta) -> dict[str, Any] | None:
        if not self._logprobs_wanted:
            return None
        return {"content": rendering.logprobs(delta.logprobs), "refusal": None}

    def _head(self, kind: str, fingerprint: str | None) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.request_id}",
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": fingerprint,
        }


_RPCS = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        "/v1/chat/completions",
        ChatExchange,
        limited=True,
        rpc=_RPCS["Chat"],
        other_rpcs=(_RPCS["Ask"],),
        summary="A turn of a conversation; with a collection in trivium, an answer from its sources.",
        body=ChatCompletion,
        query=NoQuery,
        answer=ChatAnswer,
        events=ChatChunk,
        last_data=LAST,
    ),
)
