"""From text to the words that keywords are: the same for a chunk and for a question, in any language.

Every index stores :func:`keyword_text` of a chunk and looks for :func:`words` of a question, so that one rule decides
what matches: full-width and accented forms are one, scripts without spaces are cut into overlapping pieces, compounds
are found by their parts and as a whole.  Invariants: what is stored follows from the chunk's text alone, so an index
equals its fresh build; whatever a user types, the query holds quoted words joined by OR, and no operator, column or
prefix of theirs is ever seen by the engine.
"""

import re
import unicodedata
from collections.abc import Iterator

from services.retriever.text.function_words import is_function_word

# Marks that belong to the letter before them; Python's \w leaves them out, and words of India would fall to pieces.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963"
    "\u0981-\u0983\u09bc-\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57"
    "\u0b82\u0bbe-\u0bcd\u0c00-\u0c04\u0c3e-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d"
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f71-\u0f84\u102b-\u103e\u17b4-\u17d3"
    "\u3099\u309a"
)
# Vowels that Arabic and Hebrew may leave out, and Arabic's stretch of a letter: written or not, it is one word.
_OPTIONAL = dict.fromkeys([*range(0x0591, 0x05C8), *range(0x064B, 0x0660), 0x0640, 0x0670])
_LETTER = rf"(?:[^\W_]|[{_MARKS}])"
# A word, or words that a hyphen or an underscore makes one of.
_COMPOUND = re.compile(rf"{_LETTER}+(?:[-_\u2010\u2011]{_LETTER}+)*")
_JOINT = re.compile(r"[-_\u2010\u2011]")
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Chinese, Japanese and Korean are cut into pairs, the scripts of South-East Asia, which spell syllables, into threes.
_PAIRED = rf"[{_IDEOGRAPHS}\u3040-\u30ff\u3005\u1100-\u11ff\uac00-\ud7af]"
_TRIPLED = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
_RUN = re.compile(rf"(?P<paired>{_PAIRED}+)|(?P<tripled>{_TRIPLED}+)|(?P<spaced>(?:(?!{_PAIRED}|{_TRIPLED}).)+)")
_IDEOGRAPH = re.compile(rf"[{_IDEOGRAPHS}]")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Shorter ones are symbols (mRNA, pH, TNFa), not words run together.
_SHORTEST_HUMP = 3
_MOST_WORDS = 64
# Longer joined forms are prose that hyphens hold together, not names.
_LONGEST_JOINED = 40
# Words of languages that write compounds as one, and are rare in others.
_COMPOUNDING = frozenset(
    {
        "der", "die", "das", "den", "dem", "und", "ist", "nicht", "mit", "für", "auf", "eine", "einer", "eines",
        "werden", "wird", "bei", "nach", "oder", "zur", "zum", "von", "im", "het", "een", "van", "en", "voor",
        "niet", "met", "zijn", "wordt", "deze", "dat", "och", "att", "som", "för", "inte", "är", "av", "til",
        "ikke", "med", "og", "det", "jeg", "ei", "ja", "ole", "että",
    }
)  # fmt: skip
_COMPOUND_LETTERS = re.compile("[äöüßåøæ]")
_SHORTEST_COMPOUND = 10
_LONGEST_COMPOUND = 40
_SHORTEST_PART = 4


def keyword_text(text: str) -> str:
    """What an index stores of a chunk: words with spaces between, for a tokenizer that lowers, strips accents, stems."""
    return " ".join(_words(_compounds(text), stored=True))


# From here on, words that most chunks hold are left out of a search.
_MANY_CHUNKS = 1000


def words(question: str) -> tuple[str, ...]:
    """The distinct words of a question in order, the first 64; those that hold it together only if there are no others.

    Passages hardly ever say "how" or "does": BM25 takes them for rare, and those that do say them come first.
    """
    written = _compounds(question)
    telling = [word for at, word in enumerate(written) if not is_function_word(word, first=at == 0)]
    found = dict.fromkeys(_words(telling or written, stored=False))
    return tuple(found)[:_MOST_WORDS]


def written_words(text: str) -> Iterator[tuple[int, int]]:
    """Where words stand in a text as it is written, [start, end) each."""
    return (match.span() for match in _COMPOUND.finditer(text))


def fts_query(wanted: tuple[str, ...]) -> str:
    """The FTS5 expression for any of the words."""
    return " OR ".join(f'"{word}"' for word in wanted)


def _compounds(text: str) -> list[str]:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_OPTIONAL)
    return [match.group() for match in _COMPOUND.finditer(plain)]


def _words(compounds: list[str], *, stored: bool) -> Iterator[str]:
    german = stored and _compounding(compounds)
    for compound in compounds:
        if compound.isascii() and compound.isalnum() and not german:
            # What nearly all words of most texts are: nothing to cut but humps.
            yield from _humped(compound)
            continue
        parts = _JOINT.split(compound)
        for part in parts:
            for word in _forms(part, stored=stored):
                yield word
                if stored and (german or _COMPOUND_LETTERS.search(word)):
                    yield from _ends(word)
        if len(parts) > 1 and stored and len(compound) <= _LONGEST_JOINED:
            yield "".join(parts).lower()


def _forms(part: str, *, stored: bool) -> Iterator[str]:
    """A word between joints: as it is, by its humps, and in pieces where its script has no spaces."""
    for run in _RUN.finditer(part):
        piece = run.group().lower()
        if run.lastgroup == "paired":
            yield from _pieces(piece, 2)
            if stored and len(piece) > 1:
                yield from (character for character in piece if _IDEOGRAPH.match(character))
        elif run.lastgroup == "tripled":
            yield from _pieces(piece, 3)
        else:
            yield from _humped(run.group())


def _humped(word: str) -> Iterator[str]:
    """The word, and what its capitals make parts of it."""
    lower = word.lower()
    yield lower
    if word not in (lower, word.upper(), word.capitalize()):
        humps = _HUMP.split(word)
        if len(humps) > 1:
            yield from (hump.lower() for hump in humps if len(hump) >= _SHORTEST_HUMP)


def _pieces(run: str, length: int) -> Iterator[str]:
    """The overlapping pieces of a run, or the run itself if it is shorter."""
    if len(run) <= length:
        yield run
    else:
        yield from (run[at : at + length] for at in range(len(run) - length + 1))


def _compounding(found: list[str]) -> bool:
    """Whether the text seems to be of a language that writes compounds as one word."""
    telling = sum(1 for word in found if word.lower() in _COMPOUNDING)
    return telling >= 2 and telling * 12 >= len(found)


def _ends(word: str) -> Iterator[str]:
    """What a long word may begin and end with: no dictionary says where its parts meet, so any place may be it."""
    if _SHORTEST_COMPOUND <= len(word) <= _LONGEST_COMPOUND and word.isalpha():
        for at in range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1):
            yield word[:at]
            yield word[at:]


def most_holders(chunks: int) -> int | None:
    """In how many of a collection's chunks a word may be and still tell them apart; None in a small collection.

    The others add nothing to BM25 (FTS5 cuts their weight to a millionth) and take most of its time.
    """
    return chunks // 2 if chunks >= _MANY_CHUNKS else None
