"""From what a response is asked, and what it goes on from, to what the core is asked."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.answering import Wish
from gateway.asking.question import Question, Release, Unsupported
from gateway.asking.retrieval import Scope
from gateway.chat import Conversation
from gateway.generation import Message, Speaker, ToolCall
from gateway.responses.grounds import Manner
from gateway.responses.nouns import Asked, Item, Returned, Search, Settings, ToolChoice, Turn
from gateway.routing import NO_FALLBACK
from services.chassis.errors import Failure, Reason

# As many turns as Ask takes.
_MOST_TURNS = 256
_PREFIXES: dict[type, str] = {Search: "fs", Turn: "msg", ToolCall: "fc", Returned: "fco"}


def with_functions(asked: Asked, earlier: Sequence[Item]) -> bool:
    """Whether functions have a part in it: then it is a conversation of the caller's own.

    Raises FIELD_INVALID for functions beside a search, for a search that is required and has nowhere to look, and for what
    is said of an answer that this one is not.
    """
    _require_stores(asked.settings)
    if asked.settings.searched is None:
        called = asked.settings.functions is not None or any(
            isinstance(item.content, ToolCall | Returned) for item in [*earlier, *asked.input]
        )
        _require_sense(asked.settings.manner, called=called)
        return called
    if asked.settings.functions is not None:
        problem = "stand beside a search; ask for passages in one response, and for calls in another"
        raise Failure(Reason.FIELD_INVALID, field="settings.tool_use.tools", problem=problem)
    return False


def conversation(asked: Asked, earlier: Sequence[Item]) -> Conversation:
    """The conversation, its instructions first.  Raises FIELD_INVALID as ``question``, and for an output of no call."""
    return Conversation(*turns_and_wish(asked, earlier))


def turns_and_wish(asked: Asked, earlier: Sequence[Item]) -> tuple[list[Message], Wish]:
    """The turns of the same, and what is asked for beside them."""
    settings = asked.settings
    said = _turns(asked, earlier, Speaker.USER, Speaker.TOOL)
    known = {call.id for turn in said for call in turn.calls}
    unknown = next((turn.call_id for turn in said if turn.call_id and turn.call_id not in known), None)
    if unknown is not None:
        problem = (
            f"has the output of a call {unknown} that nobody made; send the call too, or name the response that made it"
        )
        raise Failure(Reason.FIELD_INVALID, field="input", problem=problem)
    wish = _wish(asked)
    # As Asker does: without replacements the owner's is none either.
    fallback = wish.fallback or ("" if settings.manner.fallbacks else NO_FALLBACK)
    wish = replace(wish, tools=settings.functions, fallback=fallback)
    return _instructed(settings.instructions, said), wish


def question(asked: Asked, earlier: Sequence[Item]) -> Question:
    """The question: the input's last turn, after all that was said before.

    Raises FIELD_INVALID for an input that does not end with the user's turn and a conversation that is too long.
    """
    settings = asked.settings
    *before, last = _turns(asked, earlier, Speaker.USER)
    search, manner = settings.searched, settings.manner
    return Question(
        text=last.content,
        wish=_wish(asked),
        scope=Scope(search.stores, search.narrowed, manner.as_readers, search.ranking) if search else Scope(),
        history=tuple(before),
        top_k=search.most if search else 0,
        instructions=settings.instructions,
        abstention=manner.abstention,
        path=manner.path,
        rewrite=True if manner.rewrite is None else manner.rewrite,
        release=manner.release or Release.AT_ONCE,
        unsupported=manner.unsupported or Unsupported.MARK,
        check_support=manner.check_support,
        explain=manner.explain,
        fallbacks=manner.fallbacks,
    )


def _require_stores(settings: Settings) -> None:
    if settings.search is None and settings.tool_choice is ToolChoice.REQUIRED:
        problem = "needs vector stores to look in, or functions; name some, or leave it out"
        if settings.functions is not None:
            problem = "is of vector stores, and none is named; which function is called is told beside the functions"
        raise Failure(Reason.FIELD_INVALID, field="settings.tool_choice", problem=problem)


def _require_sense(manner: Manner, *, called: bool) -> None:
    """Raise FIELD_INVALID for what is said of sources where none are looked for, or of stages where functions have a part."""
    for name in manner.of_sources:
        problem = "says something of an answer from vector stores alone; name some in file_search, or leave it out"
        raise Failure(Reason.FIELD_INVALID, field=f"settings.{name}", problem=problem)
    if called and manner.explain:
        problem = "tells the stages of an answer without functions; leave it out: timings and fallbacks are told anyway"
        raise Failure(Reason.FIELD_INVALID, field="settings.explain", problem=problem)


def last_words(asked: Asked) -> str:
    """What the user said last."""
    return _messages(asked.input)[-1].content


def prefix(item: Item) -> str:
    """What the ids of such items begin with."""
    return _PREFIXES[type(item.content)]


def _wish(asked: Asked) -> Wish:
    settings = asked.settings
    return Wish(
        model=settings.model,
        sampling=settings.sampling,
        shape=settings.shape,
        request_id=asked.request_id,
        sticky_key=settings.sticky_key,
        fallback=settings.fallback,
    )


def _turns(asked: Asked, earlier: Sequence[Item], *last: Speaker) -> list[Message]:
    """The turns, of which one of the speakers in ``last`` has the last.  Raises FIELD_INVALID."""
    turns = _messages([*earlier, *asked.input])
    if not _messages(asked.input) or turns[-1].speaker not in last:
        problem = "the last turn must be the user's" + (", or what a function returned" if len(last) > 1 else "")
        raise Failure(Reason.FIELD_INVALID, field="input", problem=problem)
    if len(turns) > _MOST_TURNS:
        problem = f"the conversation has {len(turns)} turns, over the limit of {_MOST_TURNS}; begin another"
        raise Failure(Reason.FIELD_INVALID, field="settings.previous_response", problem=problem)
    return turns


def _instructed(instructions: str, turns: list[Message]) -> list[Message]:
    """The turns behind their instructions; chat templates know one word of the system's, at the beginning."""
    if not instructions:
        return turns
    if turns[0].speaker is Speaker.SYSTEM:
        return [replace(turns[0], content=f"{instructions}\n\n{turns[0].content}"), *turns[1:]]
    return [Message(Speaker.SYSTEM, instructions), *turns]


def _messages(items: Sequence[Item]) -> list[Message]:
    """The turns, each with the calls that it made; searches are in them by what they led to."""
    told: list[Message] = []
    for item in items:
        match item.content:
            case Turn():
                told.append(Message(item.content.speaker, item.content.text))
            case ToolCall():
                if not told or told[-1].speaker is not Speaker.ASSISTANT:
                    told.append(Message(Speaker.ASSISTANT, ""))
                told[-1] = replace(told[-1], calls=(*told[-1].calls, item.content))
            case Returned():
                told.append(Message(Speaker.TOOL, item.content.output, call_id=item.content.call_id))
            case Search():
                pass
    return told
