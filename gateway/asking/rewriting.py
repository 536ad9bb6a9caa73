"""A question that earlier turns complete, made one that stands alone.

Invariants: a question that is whole is never touched; a rewriting is kept only if it holds every word of the question that
says something and adds none that the conversation did not have, so that a small model cannot ask another question.
"""

import re
from collections.abc import Sequence

from gateway.asking.question import Rewrite
from gateway.asking.sentences import telling
from gateway.generation import Message, Speaker

MAX_TOKENS = 64
SYSTEM = (
    "Rewrite the last question so that it is understood without the conversation: put names in place of words like it, "
    "they or that. Do not answer it. Say the question only."
)
_TURNS = 4
_TURN_CHARACTERS = 500
_MOST_CHARACTERS = 400
_REFERRING = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|that|those|these|this|there|then|one|ones|former|latter"
    r"|same|another|others?|such|above|previous|er|ihn|ihm|sie|ihr|ihre|deren|dessen|dort|davon|damit|dazu|diese[rnms]?)\b",
    re.IGNORECASE,
)
_GOING_ON = re.compile(
    r"^(?:and|but|or|so|also|then|what about|how about|what if|why not|why|how so|how come|really|und|aber|oder|was ist mit"
    r"|wie ist es mit|warum|wieso)\b",
    re.IGNORECASE,
)
# A pronoun whose noun the question itself has before it refers to nothing outside; these words seldom name one.
_FEWEST_TELLING = 2


def reason_to(question: str, history: Sequence[Message]) -> str:
    """Why earlier turns are needed to understand a question; empty where they are not."""
    if not any(turn.speaker in (Speaker.USER, Speaker.ASSISTANT) for turn in history):
        return ""
    plain = question.strip()
    if going_on := _GOING_ON.match(plain):
        return f"it goes on from earlier turns ({going_on.group().lower()})"
    words = telling(_REFERRING.sub(" ", plain))
    if len(words) < _FEWEST_TELLING:
        return "it has too few words of its own"
    if referring := _REFERRING.search(plain):
        before = telling(plain[: referring.start()])
        # "Does the ferry carry dogs, and do they pay?" has its noun.
        if len(before) < _FEWEST_TELLING:
            return f"it refers to earlier turns ({referring.group().lower()})"
    return ""


def asked(question: str, history: Sequence[Message]) -> str:
    """What the base is told: the last turns, and the question."""
    turns = [turn for turn in history if turn.speaker in (Speaker.USER, Speaker.ASSISTANT)][-_TURNS:]
    lines = [f"{turn.speaker.value}: {' '.join(turn.content.split())[:_TURN_CHARACTERS]}" for turn in turns]
    return "\n".join([*lines, f"Last question: {question}", "Rewritten question:"])


def checked(said: str, question: str, history: Sequence[Message], why: str) -> Rewrite:
    """The rewriting if it can be believed, else the question as it was, with what is wrong."""
    text = said.strip().strip("\"'“”").strip()
    problem = _problem(text, question, history)
    if problem:
        return Rewrite(question, rewritten=False, reason=f"{why}; the rewriting was not kept: {problem}")
    return Rewrite(text, rewritten=True, reason=why)


def _problem(text: str, question: str, history: Sequence[Message]) -> str:
    if not text or "\n" in text or len(text) > _MOST_CHARACTERS:
        return "it is not one question"
    if " ".join(text.casefold().split()) == " ".join(question.casefold().split()):
        return "it changes nothing"
    own = telling(_REFERRING.sub(" ", question))
    said = telling(text)
    if lost := [word for word in own if word not in said]:
        return f"it loses {len(lost)} of the question's words"
    known = {*telling(question), *(word for turn in history for word in telling(turn.content))}
    if new := [word for word in said if word not in known]:
        return f"it adds {len(new)} words that nobody said"
    return ""
