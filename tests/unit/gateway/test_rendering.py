"""What HTTP says of an answer is what its receipt holds."""

import json
import math

import pytest
from trivium.common.v1 import chat_pb2, receipt_pb2

from gateway.http import rendering


def test_a_receipt_tells_the_sampling_that_was_set_zeros_included_and_no_other():
    sampling = chat_pb2.Sampling(max_tokens=5, temperature=0.0, seed=0, stop=["END"])
    told = json.loads(json.dumps(rendering.receipt(receipt_pb2.Receipt(sampling=sampling))))
    assert told["sampling"] == {"max_tokens": 5, "temperature": 0.0, "seed": 0, "stop": ["END"]}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_log_probability_that_is_no_number_stays_json(number):
    item = chat_pb2.TokenLogprob(token="a", logprob=number, top=[chat_pb2.TokenLogprob(token="b", logprob=number)])
    (told,) = json.loads(json.dumps(rendering.logprobs([item]), allow_nan=False))
    assert told["logprob"] == told["top_logprobs"][0]["logprob"] == -9999
