"""What HTTP says of an answer is what its receipt holds."""

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import gateway_pb2

from gateway.http import rendering
from gateway.http.chat import ChatExchange
from gateway.http.transport import Asked
from gateway.servicers import Servicers


def test_a_receipt_tells_the_sampling_that_was_set_zeros_included_and_no_other():
    sampling = chat_pb2.Sampling(max_tokens=5, temperature=0.0, seed=0, stop=["END"])
    told = json.loads(json.dumps(rendering.receipt(receipt_pb2.Receipt(sampling=sampling))))
    assert told["sampling"] == {"max_tokens": 5, "temperature": 0.0, "seed": 0, "stop": ["END"]}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_log_probability_that_is_no_number_stays_json(number):
    item = chat_pb2.TokenLogprob(token="a", logprob=number, top=[chat_pb2.TokenLogprob(token="b", logprob=number)])
    (told,) = json.loads(json.dumps(rendering.logprobs([item]), allow_nan=False))
    assert told["logprob"] == told["top_logprobs"][0]["logprob"] == -9999


async def test_every_event_of_text_is_json_whatever_the_text_and_the_model_are_called():
    texts = ['"content": ""', "line\nbreak \\ and \u2028", "", "😀"]
    odd = 'm", "content": "", "x": "'
    nobody: Any = [None] * len(fields(Servicers))
    exchange = ChatExchange(Servicers(*nobody), "id", lambda: 1.0)
    body = {"model": odd, "messages": [{"role": "user", "content": "?"}], "stream": True}
    exchange.parse(Asked(json.dumps(body).encode()))

    async def said():
        for text in texts:
            yield gateway_pb2.ChatResponse(delta=gateway_pb2.TextDelta(text=text))

    told = [chunk.decode() async for chunk in exchange._events(said())]
    opening, *chunks = [json.loads(line.removeprefix("data: ")) for line in told[:-1]]
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [{"content": text} for text in texts]
    for chunk in chunks:
        assert {**chunk, "choices": opening["choices"]} == opening
        assert chunk["model"] == odd
