"""Texts that others wrote, made fit to be stored and sent on.

Invariant: what was cleaned is taken by every database and every message of ours, and says the same to a reader.
"""

# PostgreSQL stores no NUL; neither SQLite nor a message takes half a pair of UTF-16.
_UNFIT = {0: "\ufffd"} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def fit(text: str) -> str:
    """The text with U+FFFD for each character that no store takes."""
    return text.translate(_UNFIT)
