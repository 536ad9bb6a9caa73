"""From a question to an FTS5 query that means its words and nothing else.

Invariant: whatever a user types, the query holds quoted words joined by OR; no operator,
column or prefix of theirs is ever seen by the engine.
"""

import re

# unicode61 takes letters and digits of every script as tokens; so do we, and leave the rest out.
_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 64


def words(question: str) -> tuple[str, ...]:
    """The distinct words of a question in order, the first 64."""
    found = dict.fromkeys(match.group().lower() for match in _WORD.finditer(question))
    return tuple(found)[:_MOST_WORDS]


def fts_query(wanted: tuple[str, ...]) -> str:
    """The FTS5 expression for any of the words."""
    return " OR ".join(f'"{word}"' for word in wanted)
