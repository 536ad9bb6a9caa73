"""What is found for a question counts when the fact stands in it, at its own characters, on a page that has it."""

from fpdf import FPDF

from tests.load.retriever.manual_judging import Seen, found_figures, judged, pages_with
from tests.load.retriever.manual_questions import QUESTIONS, Posed, Where

FARE = Posed("What is the fare?", "fares.pdf", r"\b9 crowns\b", Where.PROSE)


def paper(*pages: str) -> bytes:
    document = FPDF()
    document.set_font("helvetica", size=12)
    for text in pages:
        document.add_page()
        document.multi_cell(0, text=text)
    return bytes(document.output())


CONTENT = paper("The ferry sails daily.", "A ticket is 9\ncrowns.")


def seen(document="fares.pdf", text="A ticket is 9 crowns.", stored=None, page=2):
    return Seen(document, text, text if stored is None else stored, (page, page))


def test_the_place_is_that_of_the_first_passage_of_the_right_document_with_the_fact() -> None:
    found = [seen("other.pdf"), seen(text="The ferry sails daily.", page=1), seen()]
    assert judged(FARE, CONTENT, found).place == 3
    assert judged(FARE, CONTENT, found[:2]).place == 0


def test_another_document_that_says_the_same_answers_as_well() -> None:
    also = Posed(FARE.question, FARE.document, FARE.fact, FARE.where, ("tickets.html",))
    assert judged(also, CONTENT, [seen("other.html", page=0), seen("tickets.html")]).place == 2
    assert judged(FARE, CONTENT, [seen("tickets.html")]).place == 0


def test_a_passage_that_is_not_the_stored_characters_is_counted_wherever_it_stands() -> None:
    verdict = judged(FARE, CONTENT, [seen(), seen("other.pdf", stored="A ticket is 8 crowns.")])
    assert (verdict.place, verdict.offsets_wrong) == (1, 1)


def test_a_page_without_the_fact_is_wrong_and_so_is_none() -> None:
    assert pages_with(FARE, CONTENT) == {2}
    found = [seen(), seen(page=1), seen(page=0)]
    assert judged(FARE, CONTENT, found).pages_wrong == 2


def test_figures_count_places_and_what_is_wrong() -> None:
    verdicts = [judged(FARE, CONTENT, found) for found in ([seen()], [seen(page=1)] * 2, [])]
    verdicts.append(judged(FARE, CONTENT, [seen("other.pdf", stored=""), seen()]))
    assert found_figures(verdicts, 5) == {
        "manual_questions": 4,
        "manual_cited_at_1": 2,
        "manual_cited_at_5": 3,
        "manual_offsets_wrong": 1,
        "manual_pages_wrong": 2,
    }


def test_thirty_questions_are_asked_each_once() -> None:
    assert len({it.question for it in QUESTIONS}) == 30
    assert sum(it.document.endswith(".pdf") for it in QUESTIONS) == 10
