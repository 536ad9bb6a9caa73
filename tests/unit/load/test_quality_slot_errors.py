"""Facts of a restaurant that a description leaves out, tells wrongly or invents are counted, each as what it is."""

import pytest

from tests.load.finetune_quality.slot_errors import SlotErrors, facts_of, slot_error_rate, slot_errors

MEANING = (
    "name[The Mill], eatType[pub], food[Fast food], priceRange[less than £20], customer rating[high], area[riverside], "
    "familyFriendly[no], near[Café Rouge]"
)
WHOLE = (
    "The Mill is a highly rated pub by the river near Café Rouge. It serves fast food for less than £20 and is not "
    "family-friendly."
)


def errors(meaning: str, told: str) -> tuple[int, int, int]:
    found = slot_errors(meaning, told)
    return found.missing, found.wrong, found.hallucinated


def test_a_description_with_every_fact_has_no_errors():
    assert len(facts_of(MEANING)) == 8
    assert slot_errors(MEANING, WHOLE) == SlotErrors(8, 0, 0, 0)


@pytest.mark.parametrize(
    ("said", "instead", "expected"),
    [
        ("The Mill", "It", (1, 0, 0)),
        (" near Café Rouge", "", (1, 0, 0)),
        (" near Café Rouge", " near Café Sicilia", (1, 0, 0)),
        ("pub", "coffee shop", (0, 1, 0)),
        ("pub", "restaurant", (1, 0, 0)),
        ("fast food", "sushi", (0, 1, 0)),
        ("less than £20", "£20-25", (0, 1, 0)),
        ("for less than £20", "at low prices", (0, 0, 0)),
        ("highly rated", "poorly rated", (0, 1, 0)),
        ("highly rated", "5 star", (0, 0, 0)),
        ("by the river", "in the city centre", (0, 1, 0)),
        ("not family-friendly", "child friendly", (0, 1, 0)),
        ("not family-friendly", "nice", (1, 0, 0)),
        ("not family-friendly", "for adults only", (0, 0, 0)),
    ],
)
def test_one_changed_fact_is_one_error(said: str, instead: str, expected: tuple[int, int, int]):
    assert said in WHOLE
    assert errors(MEANING, WHOLE.replace(said, instead)) == expected


@pytest.mark.parametrize(
    ("invented", "count"),
    [
        ("It is cheap.", 1),
        ("It serves Italian food in the city centre.", 2),
        ("Customers rate it 3 out of 5.", 1),
        ("Kids are welcome.", 1),
        ("It is a restaurant.", 0),
    ],
)
def test_a_fact_that_nobody_asked_for_is_invented(invented: str, count: int):
    assert errors("name[The Mill], eatType[restaurant]", f"The Mill is nice. {invented}") == (0, 0, count)


def test_high_said_of_a_price_is_no_rating():
    meaning = "name[The Mill], priceRange[high], customer rating[low]"
    assert errors(meaning, "The Mill has high prices and a low rating.") == (0, 0, 0)
    assert errors("name[The Mill], customer rating[high]", "The Mill has high prices.") == (1, 0, 1)


def test_a_cafe_in_a_name_is_no_coffee_shop():
    assert errors("name[The Mill], near[Café Rouge]", "The Mill is near Café Rouge.") == (0, 0, 0)
    assert errors("name[The Mill], near[Café Rouge]", "The Mill is a coffee shop near Café Rouge.") == (0, 0, 1)


def test_the_rate_is_errors_over_facts():
    found = slot_error_rate(["name[The Mill], area[riverside]"] * 2, ["The Mill by the river", "cheap"])
    # The second leaves out both facts and invents a third.
    assert found.value == pytest.approx(3 / 4)
    assert found.figures["faultless_rate"] == 0.5
    assert found.figures["missing_rate"] == pytest.approx(0.5)
    assert found.figures["hallucinated_rate"] == pytest.approx(0.25)
