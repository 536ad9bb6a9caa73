"""Which statements stand for many, and what of a generator's words is taken."""

import numpy as np
import pytest

from services.retriever.generation import Written
from services.retriever.summaries.extracting import Focus, chosen, quotations
from services.retriever.summaries.grounding import Grounding
from services.retriever.summaries.question import Cited, Told
from services.retriever.summaries.statements import Quote, Statement, decoded, encoded
from services.retriever.summaries.wording import Wording
from services.retriever.text.tokens import Tokens
from tests.unit.retriever.writing import DIGEST, Scribe

# Two subjects: three passages of one, one of the other.
TEXTS = (
    "The gate of the harbour is closed at night. Bread is sold.",
    "At night the keeper closes the harbour gate. A dog barked.",
    "Nobody passes the harbour gate at night. It rained.",
    "Herring is smoked over beech. It rained.",
)
VECTORS = {
    at: np.array(values, dtype=np.float32)
    for at, values in enumerate([(1.0, 0.0), (0.9, 0.43589), (0.9, -0.43589), (0.0, 1.0)])
}


def all_of(texts=TEXTS):
    return [statement for at, text in enumerate(texts) for statement in quotations(at, text)]


def test_what_most_passages_say_is_said_first_and_then_something_else():
    first, *rest = chosen(all_of(), VECTORS, 4)
    assert "gate" in first.text
    assert any("gate" not in it.text for it in rest)
    assert len({it.text for it in (first, *rest)}) == 4


def test_a_sentence_of_several_passages_is_one_statement_that_cites_them():
    texts = ("It rained all day long.", "It rained all day long!", "The sun shone on the quay.")
    rained = next(it for it in chosen(all_of(texts), VECTORS, 3) if "rained" in it.text)
    assert rained.quotes == (Quote(0, 0, 23), Quote(1, 0, 23))


def test_a_focus_says_what_is_chosen():
    focus = Focus(VECTORS[3], frozenset({"herring", "smoked"}))
    assert chosen(all_of(), VECTORS, 1, focus)[0].text == "Herring is smoked over beech."
    # Without vectors its words alone say it.
    assert chosen(all_of(), {}, 1, focus)[0].text == "Herring is smoked over beech."


def test_no_candidates_say_nothing_and_labels_stand_in_where_there_is_no_sentence():
    assert chosen([], {}, 3) == ()
    assert [it.text for it in quotations(1, "Short.")] == ["Short."]
    assert quotations(1, "| a | b |") == []


def test_statements_are_kept_as_they_are():
    given = (*tuple(all_of()), Statement("Ünïcode\n", (Quote(2**62, 1, 2), Quote(3, 4, 5)), generated=True))
    assert decoded(encoded(given)) == given


SOURCES = ("The gate closes at 22:30 on Fridays.", "Ada keeps the gate of Hoorn since 1984.")


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("Ada keeps the gate of Hoorn since 1984 and it closes at 22:30 on Fridays.", True),
        ("The gate of Hoorn, kept by Ada, closes on Fridays.", True),
        ("The gate closes at 23:30 on Fridays.", False),
        ("The gate of Hoorn is kept by Grace.", False),
        ("Dragons sleep below distant mountains made of glass.", False),
        ("", False),
    ],
)
async def test_what_is_worded_is_taken_where_numbers_names_and_words_are_those_of_its_sources(text, taken):
    sources = tuple(Statement(it, (Quote(at, 0, len(it)),)) for at, it in enumerate(SOURCES))
    (worded,) = await Wording(Scribe(lambda _: text), Grounding(Tokens())).worded(sources, 1)
    assert worded == (
        Statement(text, (*sources[0].quotes, *sources[1].quotes), generated=True) if taken else sources[0]
    )


def test_a_text_is_of_the_sources_that_its_words_are_from_and_of_no_other():
    grounding = Grounding(Tokens())
    given = ["The lamp burns all night.", *SOURCES, "The gate of Hoorn is old."]
    assert grounding.supporting("The gate closes at 22:30 on Fridays.", given) == (1,)
    assert grounding.supporting("Ada keeps the gate, which closes on Fridays at 22:30.", given) == (1, 2)
    assert grounding.supporting("Ada keeps the gate of Hoorn.", given) == (2,)
    assert grounding.supporting("门 在 十点 关", ["灯 整夜 亮", "门 在 十点 关 了"]) == (1,)


def test_a_statement_cites_what_supports_it_and_one_that_went_too_far_is_what_it_cites_first():
    grounding = Grounding(Tokens())
    cited = tuple(Cited("d", "v", at, 0, len(it), it) for at, it in enumerate(("The lamp burns all night.", *SOURCES)))
    worded = Told("The gate of Hoorn, kept by Ada since 1984, closes at 22:30.", cited, generated=True)
    gone_far = Told("The gate of Hoorn is a lamp of 1999.", cited, generated=True)
    assert grounding.told([worded, gone_far]) == [
        Told(worded.text, cited[1:], generated=True),
        Told(cited[0].text, cited[:1], generated=False),
    ]
    written = Told("As it is written.", cited, generated=False)
    assert grounding.told([written, written]) == [written]


async def test_a_text_that_was_cut_off_is_not_taken():
    class Cut(Scribe):
        async def complete(self, turns, max_tokens, seed=0):
            return Written(SOURCES[0], DIGEST, False)

    sources = tuple(Statement(it, (Quote(at, 0, len(it)),)) for at, it in enumerate(SOURCES))
    assert await Wording(Cut(), Grounding(Tokens())).worded(sources, 1) == sources[:1]


async def test_the_focus_and_both_sources_are_told_to_the_generator():
    scribe = Scribe()
    sources = tuple(Statement(it, (Quote(at, 0, len(it)),)) for at, it in enumerate(SOURCES))
    await Wording(scribe, Grounding(Tokens())).worded(sources, 1, "When does it close?")
    assert all(it in scribe.asked[0] for it in (*SOURCES, "When does it close?"))
