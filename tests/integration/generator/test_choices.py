"""Several answers to one prompt on the real engine: each attested, each repeatable by its own seed, all ended together."""

from collections import defaultdict
from typing import Any

from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2

from tests.generating import Served, tenant_of
from tests.integration.generator.conftest import Marks
from tests.stack import eventually

CHANCE = {"temperature": 1.0, "seed": 40}


def texts(call: Any) -> tuple[list[str], generator_pb2.Final]:
    told: defaultdict[int, str] = defaultdict(str)
    final = None
    for response in call:
        if response.WhichOneof("part") == "delta":
            told[response.delta.choice] += response.delta.text
        elif response.WhichOneof("part") == "final":
            final = response.final
    assert final is not None
    return [told[end.choice] for end in final.choices], final


def test_each_of_several_answers_is_the_one_that_its_own_seed_gives(served: Served) -> None:
    caller = tenant_of(served).generator
    question = "Tell me something about lighthouses."
    many, final = texts(caller.start(question, max_tokens=16, sampling={**CHANCE, "n": 4}))
    alone = [caller.answer(question, max_tokens=16, sampling={**CHANCE, "seed": 40 + n}) for n in range(4)]
    assert many == [answer.text for answer in alone]
    assert len(set(many)) == 4
    assert final.usage.completion_tokens == sum(end.completion_tokens for end in final.choices)
    assert [end.completion_tokens for end in final.choices] == [len(answer.token_ids) for answer in alone]
    assert final.usage.prompt_tokens == alone[0].final.usage.prompt_tokens
    assert (final.receipt.sampling.n, final.receipt.sampling.seed) == (4, 40)


def test_every_answer_of_every_version_in_mixed_company_is_of_its_own_weights(served: Served, marks: Marks) -> None:
    caller = marks.tenant.generator
    sampling = {**CHANCE, "n": 3}
    calls = [(version, caller.start("Say your mark.", version, sampling=sampling)) for version in [*marks.versions, ""]]
    for version, call in calls:
        tokens: defaultdict[int, set[int]] = defaultdict(set)
        for response in call:
            tokens[response.delta.choice] |= set(response.delta.token_ids)
            if response.WhichOneof("part") == "final":
                assert response.final.receipt.version_digest == version
                assert {end.finish_reason for end in response.final.choices} <= {
                    chat_pb2.FINISH_REASON_STOP,
                    chat_pb2.FINISH_REASON_LENGTH,
                }
        if version:
            assert [tokens[n] for n in range(3)] == [{marks.mark_of(version)}] * 3
        else:
            assert not set.union(*tokens.values()) & marks.tokens


def test_a_caller_that_leaves_ends_all_of_its_answers(served: Served) -> None:
    caller = tenant_of(served).generator
    sampling = {**CHANCE, "n": 8, "ignore_eos": True}
    call = caller.start("Count to a million.", max_tokens=1500, sampling=sampling)
    assert next(call).WhichOneof("part") == "opening"
    [engine] = caller.api.ListEngines(generator_pb2.ListEnginesRequest()).engines
    assert engine.running == 8
    call.cancel()

    def free() -> bool:
        [engine] = caller.api.ListEngines(generator_pb2.ListEnginesRequest()).engines
        return not engine.running

    eventually(free, "the places are free", 30)
