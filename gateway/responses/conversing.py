"""From what a response is asked, and what it goes on from, to a question of the core's."""

from collections.abc import Sequence

from gateway.answering import Wish
from gateway.asking.question import Question
from gateway.asking.retrieval import Scope
from gateway.generation import Message, Speaker
from gateway.responses.nouns import Asked, Item, Search, Turn
from services.chassis.errors import Failure, Reason

# As many turns as Ask takes.
_MOST_TURNS = 256


def question(asked: Asked, earlier: Sequence[Item]) -> Question:
    """The question: the input's last turn, after all that was said before.

    Raises FIELD_INVALID for an input that does not end with the user's turn, a search that is required and has nowhere
    to look, and a conversation that is too long.
    """
    settings = asked.settings
    if settings.searched is None and settings.tool_choice.value == "required":
        problem = "needs vector stores to look in; name some, or leave it out"
        raise Failure(Reason.FIELD_INVALID, field="settings.tool_choice", problem=problem)
    turns = _turns([*earlier, *asked.input])
    if not _turns(asked.input) or turns[-1].speaker is not Speaker.USER:
        raise Failure(Reason.FIELD_INVALID, field="input", problem="the last turn must be the user's")
    *before, last = turns
    if len(before) >= _MOST_TURNS:
        problem = f"the conversation has {len(before) + 1} turns, over the limit of {_MOST_TURNS}; begin another"
        raise Failure(Reason.FIELD_INVALID, field="settings.previous_response", problem=problem)
    search = settings.searched
    wish = Wish(
        model=settings.model,
        sampling=settings.sampling,
        shape=settings.shape,
        request_id=asked.request_id,
        sticky_key=settings.sticky_key,
    )
    return Question(
        text=last.text,
        wish=wish,
        scope=Scope(search.stores, search.narrowed) if search else Scope(),
        history=tuple(Message(turn.speaker, turn.text) for turn in before),
        top_k=search.most if search else 0,
        instructions=settings.instructions,
    )


def last_words(asked: Asked) -> str:
    """What the user said last."""
    return _turns(asked.input)[-1].text


def prefix(item: Item) -> str:
    """What the ids of such items begin with."""
    return "fs" if isinstance(item.content, Search) else "msg"


def _turns(items: Sequence[Item]) -> list[Turn]:
    """The turns; searches are in them by what they led to."""
    return [item.content for item in items if isinstance(item.content, Turn)]
