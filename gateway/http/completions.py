"""POST /v1/completions: a text continued, without a chat template."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2

from gateway.http import rendering
from gateway.http.generating import DONE, GeneratingExchange, event
from gateway.http.requests import of_completion
from gateway.http.schemas import TextCompletion, parse
from gateway.servicer import GatewayServicer
from services.chassis.interceptors.call import ServicerContext


class CompletionExchange(GeneratingExchange):
    """A continued text, as one answer or as chunks; counts the characters told so far."""

    def __init__(self, servicer: GatewayServicer, request_id: str) -> None:
        super().__init__(servicer, request_id)
        self._characters = 0

    def parse(self, raw: bytes) -> gateway_pb2.CompleteRequest:
        """As Exchange."""
        body = parse(TextCompletion, raw)
        request = of_completion(body, self.request_id)
        self._begin(body, request.request_id, logprobs=body.logprobs is not None)
        return request

    async def answer(self, message: gateway_pb2.CompleteRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        text: list[str] = []
        tokens: list[chat_pb2.TokenLogprob] = []
        async with aclosing(self._servicer.Complete(message, context)) as events:
            async for item in events:
                if item.WhichOneof("part") == "final":
                    yield self._end("".join(text), tokens, item.final)
                elif self.stream:
                    yield event(self._body(item.delta.text, item.delta.logprobs))
                else:
                    text.append(item.delta.text)
                    tokens += item.delta.logprobs

    def _end(self, text: str, tokens: list[chat_pb2.TokenLogprob], final: rendering.Final) -> bytes:
        body = self._body(text, tokens)
        body["choices"][0]["finish_reason"] = rendering.finish(final)
        body["system_fingerprint"] = final.receipt.engine_build
        body["trivium"] = rendering.made_of(final)
        if not self.stream:
            body["usage"] = rendering.usage(final.usage)
            return json.dumps(body, ensure_ascii=False).encode()
        if not self._usage_wanted:
            return event(body) + DONE
        usage = {**self._body("", []), "choices": [], "usage": rendering.usage(final.usage)}
        return event(body) + event(usage) + DONE

    def _body(self, text: str, tokens: Any) -> dict[str, Any]:
        logprobs = self._logprobs(list(tokens)) if self._logprobs_wanted else None
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": None}
        return {
            "id": f"cmpl-{self.request_id}",
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": None,
            "choices": [choice],
        }

    def _logprobs(self, tokens: list[chat_pb2.TokenLogprob]) -> dict[str, Any]:
        """Four lists side by side, as completions have them; offsets count characters of the answer."""
        offsets = []
        for item in tokens:
            offsets.append(self._characters)
            self._characters += len(item.token)
        return {
            "tokens": [item.token for item in tokens],
            "token_logprobs": [item.logprob for item in tokens],
            "top_logprobs": [{rival.token: rival.logprob for rival in item.top} for item in tokens],
            "text_offset": offsets,
        }
