"""Several answers to one prompt on the real engine: each attested, each repeatable by its own seed, all ended together."""

from collections import defaultdict
from typing import Any

from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2

from tests.generating import SuiteGenerator, tenant_of
from tests.integration.generator.conftest import Marks
from tests.stack import eventually

CHANCE = {"temperature": 1.0, "seed": 40}


def tokens(call: Any) -> tuple[list[list[int]], generator_pb2.Final]:
    told: defaultdict[int, list[int]] = defaultdict(list)
    final = None
    for response in call:
        if response.WhichOneof("part") == "delta":
            told[response.delta.choice] += response.delta.token_ids
        elif response.WhichOneof("part") == "final":
            final = response.final
    assert final is not None
    return [told[end.choice] for end in final.choices], final


def test_each_of_several_answers_is_the_one_that_its_own_seed_gives(served: SuiteGenerator) -> None:
    caller = tenant_of(served).generator
    # Rounding differs between batches: of one draw among ten tokens each, nearly all must agree.
    dice = {"temperature": 2.0, "seed": 40, "allowed_token_ids": list(range(300, 310))}
    many, final = tokens(caller.start("Choose.", max_tokens=1, sampling={**dice, "n": 16}))
    alone = [caller.answer("Choose.", max_tokens=1, sampling={**dice, "seed": 40 + n}).token_ids for n in range(16)]
    assert sum(one == other for one, other in zip(many, alone, strict=True)) >= 13
    assert len({token for [token] in many}) > 4
    assert (final.receipt.sampling.n, final.receipt.sampling.seed) == (16, 40)


def test_several_answers_cost_one_prompt_and_all_of_their_tokens(served: SuiteGenerator) -> None:
    caller = tenant_of(served).generator
    many, final = tokens(caller.start("Name a fruit.", max_tokens=7, sampling={**CHANCE, "n": 3}))
    usage = final.usage
    assert [end.completion_tokens for end in final.choices] == [len(answer) for answer in many]
    assert usage.completion_tokens == sum(map(len, many))
    assert usage.prompt_tokens == caller.answer("Name a fruit.").final.usage.prompt_tokens
    assert usage.cached_prompt_tokens == 0


def test_every_answer_of_every_version_in_mixed_company_is_of_its_own_weights(
    served: SuiteGenerator, marks: Marks
) -> None:
    caller = marks.tenant.generator
    sampling = {**CHANCE, "n": 3}
    calls = [(version, caller.start("Say your mark.", version, sampling=sampling)) for version in [*marks.versions, ""]]
    for version, call in calls:
        spoken: defaultdict[int, set[int]] = defaultdict(set)
        for response in call:
            spoken[response.delta.choice] |= set(response.delta.token_ids)
            if response.WhichOneof("part") == "final":
                assert response.final.receipt.version_digest == version
                assert {end.finish_reason for end in response.final.choices} <= {
                    chat_pb2.FINISH_REASON_STOP,
                    chat_pb2.FINISH_REASON_LENGTH,
                }
        if version:
            assert [spoken[n] for n in range(3)] == [{marks.mark_of(version)}] * 3
        else:
            assert not set.union(*spoken.values()) & marks.tokens


def test_a_caller_that_leaves_ends_all_of_its_answers(served: SuiteGenerator) -> None:
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
