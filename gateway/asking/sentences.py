"""Where the sentences of an answer begin and end, and which words of them say something.

Invariants: sentences follow one another in the text and hold all of it but white space; a marker behind the full stop
belongs to the sentence before it.
"""

import re
from collections.abc import Iterator

# A full stop with what closes behind it, before the next word; that of scripts without spaces; the end of a line.
_END = re.compile(
    r"(?:[.!?…]+[\"”’»)\]]*(?:\s*\[[0-9,; ]{1,48}\])*(?=\s+\S)"
    r"|[。！？]+[\"”’»」』)]*(?:\s*\[[0-9,; ]{1,48}\])*"
    r"|(?=\n))\s*"
)
# What ends with a full stop and no sentence.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|e\.g|i\.e|cf|vs|etc|approx|no|nos|fig|sec|ch|vol|pp?|art|mr|mrs|ms|dr|prof|st|inc|ltd|co|z\.b|bzw|ca)\.$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:[.,:'’][^\W_]+)*")
_DIGIT = re.compile(r"\d")
_MARKERS = re.compile(r"\[[0-9,; ]{1,48}\]")
# Words that hold a sentence together and say nothing of the matter.
_HOLDING = frozenset(
    [
        "a",
        "about",
        "after",
        "all",
        "also",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "between",
        "both",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "each",
        "for",
        "from",
        "further",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "may",
        "me",
        "might",
        "more",
        "most",
        "must",
        "my",
        "no",
        "nor",
        "not",
        "now",
        "of",
        "off",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "own",
        "s",
        "same",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "such",
        "t",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "according",
        "source",
        "sources",
        "based",
        "provided",
        "mentioned",
        "states",
        "stated",
        "says",
        "said",
        "der",
        "die",
        "das",
        "ein",
        "eine",
        "und",
        "oder",
        "ist",
        "sind",
        "war",
        "in",
        "im",
        "an",
        "am",
        "auf",
        "mit",
        "von",
        "zu",
        "zum",
        "zur",
        "den",
        "dem",
        "des",
        "es",
        "sie",
        "er",
        "nicht",
        "als",
        "auch",
    ]
)
# Those among them that no English text has.
_GERMAN = frozenset(["auf", "das", "dem", "der", "ein", "eine", "ist", "nicht", "oder", "und", "zum", "zur"])
_ENDINGS = (
    "ations",
    "ation",
    "ingly",
    "ments",
    "ment",
    "ings",
    "ing",
    "edly",
    "ies",
    "ied",
    "ers",
    "er",
    "ed",
    "es",
    "ly",
    "s",
)
_SHORTEST_STEM = 3


def bounds(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence, in code points, without the white space around it."""
    found: list[tuple[int, int]] = []
    begin = 0
    for cut in _cuts(text):
        found += _trimmed(text, begin, cut)
        begin = cut
    return found + _trimmed(text, begin, len(text))


def complete(text: str) -> int:
    """How many characters of a text that goes on are sentences which nothing that comes can change."""
    return max(_cuts(text), default=0)


def _cuts(text: str) -> Iterator[int]:
    for end in _END.finditer(text):
        cut = end.end()
        # Behind the last word there may be more of it, and a small letter or a marker goes on with the sentence.
        if cut >= len(text) or (text[cut].islower() and "\n" not in end.group()) or text[cut] == "[":
            continue
        if not _ABBREVIATION.search(text[: end.start() + 1]) or "\n" in end.group():
            yield cut


def _trimmed(text: str, start: int, end: int) -> list[tuple[int, int]]:
    piece = text[start:end]
    begin = start + len(piece) - len(piece.lstrip())
    stop = begin + len(piece.strip())
    return [(begin, stop)] if stop > begin else []


def telling(text: str) -> list[str]:
    """The words of a text that say something, by their stems and in their order; markers are no words."""
    plain = _MARKERS.sub(" ", text).casefold()
    return [stem(word) for word in _WORD.findall(plain) if word not in _HOLDING]


def literal(text: str) -> frozenset[str]:
    """Of the telling words those that nothing else can stand for, by their stems: what has a digit, and names.

    A name is a word with a capital that does not begin the text; where the text has German in it none is, since there
    every noun has one.
    """
    plain = _MARKERS.sub(" ", text)
    found = list(_WORD.finditer(plain))
    names = not any(word.group().casefold() in _GERMAN for word in found)
    return frozenset(
        stem(word.group().casefold())
        for place, word in enumerate(found)
        if word.group().casefold() not in _HOLDING
        and (_DIGIT.search(word.group()) or (names and place and word.group()[0].isupper()))
    )


def stem(word: str) -> str:
    """A word without its commonest English ending; what has a digit stays as it is."""
    word = word.removesuffix("'s").removesuffix("’s")
    if any(letter.isdigit() for letter in word):
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)
    return word
