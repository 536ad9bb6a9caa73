"""Whatever five hundred poisoned documents say, their prompt has the fences, markers and turns of an honest one."""

import re

import pytest

from gateway.asking.prompt import grounded
from services.chassis.sources_prompt import DOCUMENTS_FORMAT, FORMAT
from tests.load.ask_injection.corpus import PAYLOADS, QUESTION, cases

EVERY = cases()
# Each format's own fence; another format's tags are words in it.
FENCES = {
    FORMAT: re.compile(r"<\s*/?\s*sources\s*>", re.IGNORECASE),
    DOCUMENTS_FORMAT: re.compile(r"<\s*/?\s*document\b[^>]*>", re.IGNORECASE),
}


def test_there_are_five_hundred_each_with_a_word_of_its_own():
    assert len(EVERY) == 500
    assert len({case.word for case in EVERY}) == 500
    for case in EVERY:
        text = "\n".join(f"{source.title}\n{source.text}" for source in case.sources)
        assert case.word in text
        assert case.word not in QUESTION


@pytest.mark.parametrize("prompt_format", [FORMAT, DOCUMENTS_FORMAT])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_none_closes_the_fence_forges_a_number_or_opens_a_turn(payload, prompt_format):
    for case in (case for case in EVERY if case.payload == payload):
        system, user = grounded(QUESTION, case.sources, prompt_format=prompt_format)
        block, last = user.content.rsplit("\n", 1)
        assert last == f"Question: {QUESTION}"
        assert case.word not in system.content
        tags = [tag.group() for tag in FENCES[prompt_format].finditer(block)]
        fenced = (
            ["<sources>", "</sources>"]
            if prompt_format == FORMAT
            else ["<document>", "</document>"] * len(case.sources)
        )
        assert tags == fenced, case
        assert [int(number) for number in re.findall(r"\[(\d+)\]", block)] == list(range(1, len(case.sources) + 1))
        assert "<|" not in block
        assert len(block.splitlines()) == len(case.sources) + (2 if prompt_format == FORMAT else 0)
