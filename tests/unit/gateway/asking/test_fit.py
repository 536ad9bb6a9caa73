import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asking.prompt import grounded
from gateway.asking.retrieval import Source, fit
from gateway.generation import SourceSpan
from gateway.generator import PromptSize
from services.chassis.errors import Failure, Reason


def sources(*lengths):
    return [
        Source(SourceSpan("c", "d", "v", 0, length, "k", n), "T", (), "x" * length, 1.0)
        for n, length in enumerate(lengths, start=1)
    ]


def build(chosen):
    return grounded("q", [item.quotation for item in chosen])


def counting(window):
    """One token a character: the arithmetic is the same for any tokenizer."""

    async def measure(messages):
        return PromptSize(sum(len(turn.content) for turn in messages), window)

    return measure


async def test_all_sources_stand_in_a_prompt_that_has_room():
    fitted = await fit(sources(10, 10, 10), build, counting(10_000), None)
    assert len(fitted.sources) == 3
    assert fitted.tokens == sum(len(turn.content) for turn in fitted.messages)


async def test_a_prompt_without_room_for_its_best_source_is_refused_with_the_numbers():
    with pytest.raises(Failure) as refused:
        await fit(sources(900), build, counting(1000), 100)
    assert refused.value.reason is Reason.PROMPT_TOO_LONG
    assert refused.value.variables["limit"] == "900"


@pytest.mark.parametrize(
    ("characters", "advice"), [(700, "Shorten it, or ask for fewer max_tokens"), (900, "Shorten it")]
)
async def test_fewer_tokens_are_advised_only_where_they_would_help(characters, advice):
    with pytest.raises(Failure) as refused:
        await fit(sources(characters), build, counting(1000), 100)
    assert refused.value.sentence.endswith(f"over 900. {advice}.")


async def test_a_long_answer_asked_for_still_leaves_half_the_window_to_the_prompt():
    fitted = await fit(sources(100), build, counting(1000), 5000)
    assert len(fitted.sources) == 1


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=9),
    window=st.integers(600, 2500),
    room=st.integers(1, 300),
)
async def test_it_keeps_exactly_as_many_best_sources_as_fit(lengths, window, room):
    found = sources(*lengths)
    measure = counting(window)
    fits = [
        take
        for take in range(1, len(found) + 1)
        if (await measure(build(found[:take]))).tokens + min(room, window // 2) <= window
    ]
    if not fits:
        with pytest.raises(Failure):
            await fit(found, build, measure, room)
        return
    fitted = await fit(found, build, measure, room)
    assert fitted.sources == tuple(found[: max(fits)])
