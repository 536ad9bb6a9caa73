"""Which facts of a restaurant a description tells, tells wrongly, leaves out or invents.

Invariant: a slot is looked for by its own patterns only, which name what the value is of (a price, a rating), so that
"high" said of the one is not counted for the other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from tests.load.finetune_quality.scores import SLOT_ERROR_RATE, Measured

_PAIR = re.compile(r"(\w[\w ]*)\[([^\]]*)\]")
_PRICE = r"(?:pric\w*|cost\w*)"
_RATING = r"(?:rat\w+|review\w*|score\w*)"


def _said_of(word: str, noun: str, *, apart: int = 4) -> str:
    """`word` and the noun with a few words of neither sentence's end between them, in either order."""
    gap = rf"(?:[\s,-]+[\w'£]+){{0,{apart}}}?[\s,-]+"
    return rf"\b{word}\b{gap}{noun}|\b{noun}{gap}{word}\b"


def _stars(count: int, word: str) -> str:
    number = rf"(?:{count}|{word})"
    return rf"\b{number} (?:out )?(?:of )?(?:5|five)\b|\b{number}[ -]stars?\b|\b{number}/5"


# What the data says of prices and ratings in two ways: people who describe a place take either for the other.
_LEVELS = {
    "less than £20": "low",
    "cheap": "low",
    "£20-25": "middle",
    "moderate": "middle",
    "more than £30": "high",
    "1 out of 5": "low",
    "3 out of 5": "middle",
    "average": "middle",
    "5 out of 5": "high",
}
# By slot and value; they are looked for in lower case, without the names of places.
_PATTERNS: dict[str, dict[str, str]] = {
    "eatType": {"pub": r"\bpubs?\b", "coffee shop": r"\bcoffee[ -]?(?:shop|house)s?\b|\bcaf[eé]\b"},
    "food": {
        "Chinese": r"\bchinese\b",
        "English": r"\b(?:english|british)\b",
        "Fast food": r"\bfast[ -]?foods?\b",
        "French": r"\bfrench\b",
        "Indian": r"\bindian\b",
        "Italian": r"\b(?:italian|pizza|pasta)\b",
        "Japanese": r"\b(?:japanese|sushi)\b",
    },
    "priceRange": {
        "low": r"(?:less than|under|below|cheaper than) ?£? ?20\b|\b(?:cheap\w*|inexpensive|affordable|low[ -]cost)\b|"
        + _said_of("(?:low|lower)", _PRICE),
        "middle": r"£? ?\b20(?: pounds)? ?(?:-|–|to|and) ?£?25\b|"
        + _said_of("(?:moderate|moderately|average|reasonable|reasonably|mid|medium)", _PRICE),
        "high": r"(?:more than|over|above|start(?:ing|s)? (?:at|from)|at least) ?£? ?30\b|(?<!in)expensive\b|\bpricey\b|"
        + _said_of("(?:high|higher|highly)", _PRICE),
    },
    "customer rating": {
        "low": _stars(1, "one") + "|" + _said_of("(?:low|lowly|poor|poorly|bad|badly)", _RATING),
        "middle": _stars(3, "three") + "|" + _said_of("(?:average|averagely|mediocre)", _RATING),
        "high": _stars(5, "five") + "|" + _said_of("(?:high|highly|well|excellent|great|good)", _RATING),
    },
    "area": {
        "city centre": r"\b(?:city|town)[ -]?(?:centre|center)\b|\bcentre of (?:the )?(?:city|town)\b",
        "riverside": r"\briver(?:side|bank|front)?\b",
    },
}
_FAMILY = r"(?:famil(?:y|ies)|child(?:ren)?|kids?)"
_NOT_FRIENDLY = re.compile(
    rf"\b(?:not|non|isn't|no|never|un|doesn't|adults?(?: only)?)\b[^.]{{0,40}}\b{_FAMILY}\b|\bno {_FAMILY}\b"
    rf"|\b{_FAMILY}\b[^.]{{0,15}}\bnot\b|\badults?\b|\b{_FAMILY}[ -]?(?:un|not |non[ -]?)friendly|\bunfriendly\b[^.]{{0,20}}{_FAMILY}"
)
_FRIENDLY = re.compile(rf"\b{_FAMILY}\b")
_COMPILED = {
    slot: {value: re.compile(pattern) for value, pattern in values.items()} for slot, values in _PATTERNS.items()
}


@dataclass(frozen=True, slots=True)
class SlotErrors:
    """Of one description: facts that were asked for, left out, told wrongly, and told without being asked for."""

    slots: int
    missing: int
    wrong: int
    hallucinated: int


def facts_of(meaning: str) -> dict[str, str]:
    """The facts of a restaurant, by slot: `name[The Mill], area[riverside]`."""
    return {name.strip(): value.strip() for name, value in _PAIR.findall(meaning)}


def slot_errors(meaning: str, description: str) -> SlotErrors:
    """Count one description's errors.

    That a place is called a restaurant is no fact of its own: people say so of every place.
    """
    facts = {slot: value for slot, value in facts_of(meaning).items() if (slot, value) != ("eatType", "restaurant")}
    told = description.lower()
    names = [facts[slot].lower() for slot in ("name", "near") if slot in facts]
    missing = sum(name not in told for name in names)
    for name in names:
        # A café or a centre in a name is no fact beside it.
        told = told.replace(name, " ")
    wrong = hallucinated = 0
    for slot in (*_COMPILED, "familyFriendly"):
        values = _told(slot, told)
        if slot not in facts:
            hallucinated += bool(values)
        elif _LEVELS.get(facts[slot], facts[slot]) not in values:
            wrong += bool(values)
            missing += not values
    return SlotErrors(len(facts), missing, wrong, hallucinated)


def _told(slot: str, told: str) -> set[str]:
    if slot == "familyFriendly":
        if _NOT_FRIENDLY.search(told):
            return {"no"}
        return {"yes"} if _FRIENDLY.search(told) else set()
    return {value for value, pattern in _COMPILED[slot].items() if pattern.search(told)}


def slot_error_rate(meanings: Sequence[str], given: Sequence[str]) -> Measured:
    """Errors over facts that were asked for; beside it each kind of error by itself, and descriptions without any."""
    found = [slot_errors(meaning, text) for meaning, text in zip(meanings, given, strict=True)]
    errors = [(each.missing + each.wrong + each.hallucinated, each.slots) for each in found]
    slots = sum(each.slots for each in found)
    kinds = {
        f"{kind}_rate": sum(getattr(each, kind) for each in found) / slots
        for kind in ("missing", "wrong", "hallucinated")
    }
    faultless = float(numpy.mean([not wrong for wrong, _ in errors]))
    return Measured(SLOT_ERROR_RATE, numpy.array(errors, dtype=float), {**kinds, "faultless_rate": faultless})
