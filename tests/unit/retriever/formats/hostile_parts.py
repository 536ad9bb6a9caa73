"""What the builders of hostile files share: words, whole files to spoil, and the register of each format.

Each builder takes a source of randomness, so that a seed gives the same files for ever, and returns the name and the
bytes of a file that cannot be read, with a word that its reason must hold.
"""

import random
from collections.abc import Callable
from functools import cache

from tests.unit.retriever.formats import building

Builder = Callable[[random.Random], tuple[str, bytes, str]]
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class Register:
    """The builders of a format by name, in the order in which they are written: ``@register.builder`` adds one."""

    def __init__(self) -> None:
        self.builders: dict[str, Builder] = {}

    def builder(self, function: Builder) -> Builder:
        """One more."""
        self.builders[function.__name__] = function
        return function


def words(rng: random.Random, count: int = 40) -> str:
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(count))


@cache
def good_word() -> bytes:
    return building.plain_word("The harbour opens at six.", "A mooring costs fourteen crowns.")


@cache
def good_slides() -> bytes:
    return building.slides(("Harbour", "It opens at six", "A mooring costs fourteen crowns"))


def body(inside: str) -> bytes:
    return f'<?xml version="1.0"?><w:document {W}><w:body>{inside}</w:body></w:document>'.encode()


def laughs(rng: random.Random) -> str:
    """An entity that stands for ten of another one, nine times over."""
    depth, letter = rng.randint(6, 9), rng.choice("abcdef")
    lines = [f'<!ENTITY {letter}0 "{words(rng, 3)}">']
    lines += [f'<!ENTITY {letter}{n} "{f"&{letter}{n - 1};" * 10}">' for n in range(1, depth)]
    return f"<!DOCTYPE x [{''.join(lines)}]>"


@cache
def zeros(megabytes: int) -> bytes:
    return bytes(megabytes * 1024 * 1024)
