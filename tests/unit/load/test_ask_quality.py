"""What the benchmark of answers counts as right."""

import pytest

from tests.load.ask_quality.figures import figures
from tests.load.ask_quality.judging import Outcome, judged, token_f1
from tests.load.ask_quality.locating import Gold, locate
from tests.load.ask_quality.subjects import Fact

TEXT = "# Fares\n\n- **Yearly pass:** 286 crowns\n- Day ticket: 9 crowns\n\nThe pass is sold at the pier. It is sold twice.\n"
GOLD = Gold("fares.md", 12, 38)


def outcome(text, *cited):
    return Outcome(text, tuple(cited), (("fares.md", 0, 60),), "not in the sources" in text.lower(), 1.0)


def test_words_that_stand_there_are_found_at_the_occurrence_nearest_to_where_the_set_says():
    first, second = TEXT.index("sold"), TEXT.rindex("sold")
    assert locate(Fact("fares.md", "sold", 70), TEXT) == Gold("fares.md", first, first + 4)
    assert locate(Fact("fares.md", "sold", len(TEXT)), TEXT) == Gold("fares.md", second, second + 4)


def test_shortened_words_are_found_as_the_sentences_that_share_most_with_them():
    found = locate(Fact("fares.md", "The yearly pass costs 286 crowns."), TEXT)
    assert found is not None
    assert TEXT[found.start : found.end] == "Yearly pass:** 286 crowns"


def test_words_that_are_not_there_are_found_nowhere():
    assert locate(Fact("fares.md", "Bicycles travel free of charge on Sundays."), TEXT) is None


def test_a_citation_is_right_that_holds_half_of_the_answering_passage_in_its_own_document():
    seen = judged(
        outcome("286 crowns [1] [2] [3]", ("fares.md", 0, 30), ("fares.md", 0, 20), ("other.md", 0, 60)),
        ["286 crowns"],
        [GOLD],
        answerable=True,
    )
    assert (seen.citations, seen.right_citations, seen.golds_cited, seen.golds_offered) == (3, 1, 1, 1)
    assert (seen.exact, seen.f1) == (1.0, 1.0)


def test_one_passage_that_is_cited_twice_is_one_citation():
    seen = judged(outcome("286 [1], crowns [1]", *[("fares.md", 0, 60)] * 2), ["286 crowns"], [GOLD], answerable=True)
    assert (seen.citations, seen.right_citations) == (1, 1)


def test_who_abstains_has_answered_nothing():
    seen = judged(outcome("Not in the sources."), ["sources"], [GOLD], answerable=True)
    assert (seen.abstained, seen.f1) == (True, 0.0)


def test_words_are_compared_without_case_punctuation_and_articles():
    assert token_f1("The Pier.", "a pier") == 1.0
    assert token_f1("at the old pier", "the pier") == pytest.approx(2 / 4)


def test_abstentions_are_right_where_nothing_answers_and_wrong_where_something_does():
    rows = [judged(outcome("not in the sources"), ["x"], [], answerable=answerable) for answerable in (False, True)]
    rows.append(judged(outcome("286"), ["x"], [], answerable=False))
    found = figures(rows)
    assert found["abstention_precision"] is not None
    assert found["abstention_recall"] is not None
    assert found["abstention_precision"][0] == pytest.approx(1 / 2)
    assert found["abstention_recall"][0] == pytest.approx(1 / 2)
    assert found["citation_precision"] is None
