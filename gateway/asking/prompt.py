"""The conversation in which a question and its sources are put to a model.

The text itself, on which adapters are trained too, is the chassis's (`sources_prompt`).
Invariant: without sources asked for, nothing is added to what the caller wrote.
"""

from collections.abc import Sequence

from gateway.generation import Message, Speaker
from services.chassis.sources_prompt import FORMAT, FORMATS, SYSTEM_TEXT, Quotation, asked, defuse

__all__ = ["FORMAT", "SYSTEM_TEXT", "Quotation", "defuse", "grounded", "known", "plain"]


def known(prompt_format: str) -> bool:
    """Whether prompts of this shape are built here; empty is the default's."""
    return not prompt_format or prompt_format in FORMATS


def grounded(
    question: str,
    quotations: Sequence[Quotation],
    history: Sequence[Message] = (),
    instructions: str = "",
    prompt_format: str = FORMAT,
) -> list[Message]:
    """The conversation that asks ``question`` over ``quotations``, best first, in a shape that is ``known``.

    The caller's own system text (``instructions``, then system turns that open
    ``history``) comes before ours, each on its own line; other turns stay between.
    """
    system, turns = _own_system_text(history, instructions)
    return [
        Message(Speaker.SYSTEM, "\n".join([*system, SYSTEM_TEXT])),
        *turns,
        Message(Speaker.USER, asked(question, quotations, prompt_format or FORMAT)),
    ]


def plain(question: str, history: Sequence[Message] = (), instructions: str = "") -> list[Message]:
    """The conversation that asks ``question`` with nothing of ours added."""
    system, turns = _own_system_text(history, instructions)
    opening = [Message(Speaker.SYSTEM, "\n".join(system))] if system else []
    return [*opening, *turns, Message(Speaker.USER, question)]


def _own_system_text(history: Sequence[Message], instructions: str) -> tuple[list[str], list[Message]]:
    system = [instructions] if instructions else []
    turns = list(history)
    while turns and turns[0].speaker is Speaker.SYSTEM:
        system.append(turns.pop(0).content)
    return system, turns
