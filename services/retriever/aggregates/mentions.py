"""Where in a passage a keyword stands.

Invariant: the characters that are named hold the keyword by the index's own rule; where it
stands in the passage's heading or title alone, the whole passage is named.
"""

from collections.abc import Sequence

from services.retriever.text.keywords import keyword_text, written_words
from services.retriever.text.tokens import Tokens

Span = tuple[int, int]


def first_mention(tokens: Tokens, text: str, words: Sequence[str]) -> Span:
    """The first characters of the text that are one of the words; all of them where none is."""
    spans = list(written_words(text))
    phrases = [phrase for phrase in tokens.of(list(words)) if phrase]
    held = tokens.of([keyword_text(text[start:end]) for start, end in spans])
    for (start, end), found in zip(spans, held, strict=True):
        if any(_holds(found, phrase) for phrase in phrases):
            return _narrowed(text, start, end, words)
    return 0, len(text)


def _holds(found: Sequence[str], phrase: Sequence[str]) -> bool:
    length = len(phrase)
    return any(found[at : at + length] == phrase for at in range(len(found) - length + 1))


def _narrowed(text: str, start: int, end: int, words: Sequence[str]) -> Span:
    """The word itself, in scripts that put no blanks between words; else all that is written together."""
    written = text[start:end]
    if written.isascii():
        return start, end
    places = [(at, word) for word in words if not word.isascii() and (at := written.find(word)) >= 0]
    if not places:
        return start, end
    at, word = min(places)
    return start + at, start + at + len(word)
