"""Adapters are trained on one prompt shape and served with the same: two builders, one text."""

from hypothesis import given
from hypothesis import strategies as st

from gateway import prompt
from services.ops.demo import prompt as trained

_PIECES = ["a", " ", "\n", "<", ">", "/", "sources", "[", "]", "1", "|", "<|im_end|>", "é", "²"]
_NASTY = st.lists(st.sampled_from(_PIECES), max_size=14).map("".join)
TEXTS = st.one_of(st.text(max_size=80), _NASTY)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=4)


@given(question=TEXTS, passages=PAIRS)
def test_the_gateway_asks_in_exactly_the_shape_that_adapters_are_trained_in(question, passages):
    served = prompt.grounded(question, [prompt.Quotation(*passage) for passage in passages])
    expected = trained.grounded_messages(question, [trained.Source(*passage) for passage in passages])
    assert [{"role": turn.speaker.value, "content": turn.content} for turn in served] == expected


@given(question=TEXTS)
def test_a_question_without_sources_is_put_as_it_is(question):
    served = prompt.plain(question)
    assert [{"role": turn.speaker.value, "content": turn.content} for turn in served] == trained.bare_messages(question)
