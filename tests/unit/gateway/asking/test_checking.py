"""What the gateway asks about an answer by itself counts once, also where the answer is given again."""

from dataclasses import replace

import pytest

from gateway.asking.question import Release
from gateway.generation import Message, Speaker
from tests.unit.gateway.asking.stock import asking, heard, world


@pytest.mark.parametrize("release", Release)
async def test_what_is_asked_aside_of_an_answer_that_is_given_again_has_the_ids_that_it_had(tmp_path, release):
    # A sentence that comes twice is asked about twice, and counts twice.
    said = "The harbour has a lighthouse. The mayor keeps bees. The harbour has a lighthouse."
    history = (Message(Speaker.USER, "How much is a day ticket?"), Message(Speaker.ASSISTANT, "Nine crowns."))
    asked = asking("And for a child?", history=history, check_support=True, release=release)
    other = replace(asked, wish=replace(asked.wish, request_id="00000000-0000-4000-8000-000000000001"))
    ids = []
    for question in (asked, asked, other):
        place = world(tmp_path, said)
        place.generator.aside = "no"
        await heard(place, question)
        ids.append([it.request_id.partition("~")[2] for it in place.generator.requests])
    first, again, others = map(set, ids)
    assert ids[0] == ids[1]
    assert len(first) == len(ids[0]) == 5
    assert again == first
    assert {mark.partition("-")[0] for mark in first} == {"rewrite", "", "check"}
    # They tell nobody that two answers say the same.
    assert first & others == {"rewrite", ""}
