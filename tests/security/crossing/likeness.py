"""What stands for a value in the twin of a request: another of the same length and shape that nothing is called by."""

import random
import re
import string
from collections.abc import Sequence
from itertools import permutations

from services.chassis.nearest import nearest

# An id is a word that says what it is of, and a number; the word is kept.
_NUMBER = re.compile(r"[0-9a-f]{8,}")
_WHOLE = re.compile(r"[0-9a-f]{32,}")
_LETTER, _DIGIT = re.compile(r"[A-Za-z]"), re.compile(r"[0-9]")
_ALPHABETS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
_HEXADECIMAL = "0123456789abcdef"
# Whoever names nothing is told which of these the name is like, as chance has it.
_EVERYBODYS = ("auto", "base")
_MOST_DRAWN = 100


def alike(value: str, chance: random.Random) -> str:
    """Another value of the same shape: hexadecimal numbers for such, else letters for letters and digits for digits.

    It is as like the names that everybody has as ``value`` is, unless that itself is hardly to be drawn.
    """
    likeness = nearest(value, _EVERYBODYS)
    for _ in range(_MOST_DRAWN):
        drawn = _drawn(value, chance)
        if nearest(drawn, _EVERYBODYS) == likeness:
            break
    return drawn


def _drawn(value: str, chance: random.Random) -> str:
    if _NUMBER.search(value):
        return _NUMBER.sub(lambda found: "".join(chance.choice(_HEXADECIMAL) for _ in found.group()), value)
    return "".join(_other(letter, chance) for letter in value)


def shape(value: str) -> str:
    """The same for all values that ``alike`` may make of one another."""
    if _NUMBER.search(value):
        return _NUMBER.sub(lambda found: "#" * len(found.group()), value)
    return _DIGIT.sub("0", _LETTER.sub("A", value))


def says(said: str, value: str) -> bool:
    """Whether who said a text has said a value: all parts of its path that are nobody's words, with hyphens or without.

    A response's id has the number of the request that asked for it, and a thing's path the word for such things.
    """
    return all(_says_part(said, part) for part in value.split("/") if _DIGIT.search(part))


def any_says(said: Sequence[str], value: str) -> bool:
    """Whether who said these texts has said a value: by one of them, or by two that an answer shows as one path."""
    return any(says(one, value) for one in said) or any(value in "/".join(two) for two in permutations(said, 2))


def _says_part(said: str, part: str) -> bool:
    if part in said:
        return True
    whole = _WHOLE.search(part.replace("-", ""))
    return whole is not None and whole.group() in said.replace("-", "")


def _other(letter: str, chance: random.Random) -> str:
    for alphabet in _ALPHABETS:
        if letter in alphabet:
            return chance.choice(alphabet)
    return letter
