"""Promise 4: no other weights touch an answer, whoever it shares the batch with."""

import pytest
from trivium.generator.v1 import generator_pb2

from tests.generating import QUESTIONS, Answer

TOKENS = 10
# Where the two likeliest tokens are nearer than this (in nats), another batch may honestly round otherwise.
DOUBT = 0.5


@pytest.fixture(scope="module")
def alone(marks):
    """The base's answers, one request at a time."""
    ask = marks.tenant.generator.answer
    return {question: ask(question, max_tokens=TOKENS, sampling={"logprobs": 2}) for question in QUESTIONS}


def certain(answer: Answer) -> list[int]:
    """The answer's tokens up to the first that was a close decision."""
    for position, told in enumerate(answer.logprobs):
        if told.top[0].logprob - told.top[1].logprob < DOUBT:
            return answer.token_ids[:position]
    return answer.token_ids


def fill(marks, count):
    """Make exactly the first ``count`` marked adapters resident."""
    api = marks.tenant.generator.api
    listed = api.ListAdapters(generator_pb2.ListAdaptersRequest()).adapters
    resident = {adapter.version for adapter in listed if adapter.tier != generator_pb2.TIER_FILE}
    for version in resident - set(marks.versions[:count]):
        api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    for version in marks.versions[:count]:
        api.LoadAdapter(generator_pb2.LoadAdapterRequest(version=version))
    return marks.versions[:count]


def hold_to_its_weights(marks, version, answer):
    assert answer.receipt.version_digest == version
    if version:
        assert set(answer.token_ids) == {marks.mark_of(version)}
        assert answer.receipt.engine_slot >= 0
    else:
        assert not set(answer.token_ids) & marks.tokens
        assert answer.receipt.engine_slot == -1


def test_the_questions_are_answered_with_enough_certainty_to_compare(alone):
    assert sum(len(certain(answer)) for answer in alone.values()) >= 3 * len(QUESTIONS)


# Over a full table more requests than run at once, over a half-full one as many as a batch holds.
@pytest.mark.parametrize(
    ("resident", "questions"), [(4, QUESTIONS), (2, QUESTIONS[::2])], ids=["full table", "half-full table"]
)
def test_a_base_answer_in_mixed_company_is_the_answer_alone(marks, alone, resident, questions):
    versions = fill(marks, resident)
    asks = [(question, version) for question in questions for version in ("", *versions)]
    answers = marks.tenant.generator.together(asks, max_tokens=TOKENS)
    for (question, version), answer in zip(asks, answers, strict=True):
        hold_to_its_weights(marks, version, answer)
        if not version:
            expected = certain(alone[question])
            assert answer.token_ids[: len(expected)] == expected


def test_a_freed_slot_leaves_nothing_behind(marks, alone):
    fill(marks, 4)
    fill(marks, 0)
    for question in QUESTIONS[:3]:
        answer = marks.tenant.generator.answer(question, max_tokens=TOKENS)
        expected = certain(alone[question])
        assert answer.token_ids[: len(expected)] == expected


def test_each_resident_version_is_attested_in_a_slot_of_its_own(marks):
    versions = fill(marks, 4)
    answers = marks.tenant.generator.together([("Hello", version) for version in versions])
    assert sorted(answer.receipt.engine_slot for answer in answers) == [0, 1, 2, 3]


def test_more_versions_than_slots_take_turns_and_stay_themselves(marks, served):
    extra = marks.tenant.publish("mark-again", marks.adapters[0], served.base)
    asks = [("Hello", version) for version in (*marks.versions, extra, "", *marks.versions, extra)]
    answers = marks.tenant.generator.together(asks, max_tokens=4)
    for (_, version), answer in zip(asks, answers, strict=True):
        assert answer.receipt.version_digest == version
        expected = marks.adapters[0].token_id if version == extra else version and marks.mark_of(version)
        if version:
            assert set(answer.token_ids) == {expected}
