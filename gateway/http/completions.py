"""POST /v1/completions: a text continued, without a chat template."""

import json
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2

from gateway.http import rendering
from gateway.http.answers import NoQuery
from gateway.http.chat_answers import TextAnswer
from gateway.http.generating import DONE, LAST, GeneratingExchange, event
from gateway.http.parsing import parse
from gateway.http.requests import of_completion
from gateway.http.routes import Route
from gateway.http.schemas import TextCompletion
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext


class CompletionExchange(GeneratingExchange):
    """A continued text, as one answer or as chunks; counts the characters told so far of each choice."""

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        super().__init__(servicers, request_id)
        self._characters: Counter[int] = Counter()

    def parse(self, asked: Asked) -> gateway_pb2.CompleteRequest:
        """As Exchange."""
        body = parse(TextCompletion, asked.body)
        request = of_completion(body, self.request_id)
        self._begin(body, request.request_id, logprobs=body.logprobs is not None)
        return request

    async def answer(self, message: gateway_pb2.CompleteRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        text: defaultdict[int, str] = defaultdict(str)
        tokens: defaultdict[int, list[chat_pb2.TokenLogprob]] = defaultdict(list)
        async with aclosing(self._servicer.Complete(message, context)) as events:
            async for item in events:
                if item.WhichOneof("part") == "final":
                    yield self._events_end(item.final) if self.stream else self._whole(text, tokens, item.final)
                elif self.stream:
                    delta = item.delta
                    yield event(self._body([self._choice(delta.choice, delta.text, delta.logprobs, None)]))
                else:
                    text[item.delta.choice] += item.delta.text
                    tokens[item.delta.choice] += item.delta.logprobs

    def _whole(
        self,
        text: Mapping[int, str],
        tokens: Mapping[int, list[chat_pb2.TokenLogprob]],
        final: gateway_pb2.GenerationFinal,
    ) -> bytes:
        choices = [
            self._choice(index, text[index], tokens[index], reason)
            for index, reason in enumerate(rendering.finishes(final))
        ]
        body = self._about(choices, final) | {"usage": rendering.usage(final.usage)}
        return json.dumps(body, ensure_ascii=False).encode()

    def _events_end(self, final: gateway_pb2.GenerationFinal) -> bytes:
        """Each choice's end, the last one with what all were made of, and the usage where it is wanted."""
        *others, last = [self._choice(index, "", [], reason) for index, reason in enumerate(rendering.finishes(final))]
        told = b"".join(event(self._body([choice])) for choice in others) + event(self._about([last], final))
        if self._usage_wanted:
            told += event({**self._body([]), "usage": rendering.usage(final.usage)})
        return told + DONE

    def _about(self, choices: list[dict[str, Any]], final: gateway_pb2.GenerationFinal) -> dict[str, Any]:
        return {
            **self._body(choices),
            "system_fingerprint": final.receipt.engine_build,
            "trivium": rendering.made_of(final),
        }

    def _choice(
        self, index: int, text: str, tokens: Iterable[chat_pb2.TokenLogprob], reason: str | None
    ) -> dict[str, Any]:
        logprobs = self._logprobs(index, list(tokens)) if self._logprobs_wanted else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _body(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self.request_id}",
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": None,
            "choices": choices,
        }

    def _logprobs(self, index: int, tokens: list[chat_pb2.TokenLogprob]) -> dict[str, Any]:
        """Four lists side by side, as completions have them; offsets count characters of the answer."""
        offsets = []
        for item in tokens:
            offsets.append(self._characters[index])
            self._characters[index] += len(item.token)
        return {
            "tokens": [item.token for item in tokens],
            "token_logprobs": [rendering.logprob(item) for item in tokens],
            "top_logprobs": [{rival.token: rendering.logprob(rival) for rival in item.top} for item in tokens],
            "text_offset": offsets,
        }


_RPCS = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        "/v1/completions",
        CompletionExchange,
        limited=True,
        rpc=_RPCS["Complete"],
        summary="A text continued, without a chat template.",
        body=TextCompletion,
        query=NoQuery,
        answer=TextAnswer,
        events=TextAnswer,
        last_data=LAST,
    ),
)
