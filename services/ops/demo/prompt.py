"""The gateway's prompts as a training file holds them.

An adapter trained on bare questions gets worse, not better, when sources appear in front
of them: so the demo trains on exactly what the gateway serves, from the same code.
"""

from collections.abc import Iterable, Sequence

from gateway.asking.prompt import Quotation, grounded, plain
from gateway.generation import Message


def grounded_messages(question: str, quotations: Sequence[Quotation]) -> list[dict[str, str]]:
    """Return the system and user messages that ask `question` over `quotations`, best first."""
    return _rows(grounded(question, quotations))


def bare_messages(question: str) -> list[dict[str, str]]:
    """Return the messages that ask `question` with nothing beside it."""
    return _rows(plain(question))


def _rows(turns: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": turn.speaker.value, "content": turn.content} for turn in turns]
