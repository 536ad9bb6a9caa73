"""Which token an answer leaves a replay at, and how likely the answer's own was there.

Invariant: only texts are compared, never token ids that a text might have been made of: a text can be spelled in many
ways, and the way that is met here is the one that the weights were asked about.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.generation import TextDelta, TokenLogprob
from gateway.replaying.nouns import Difference

# The end of an answer is a special token, which no text shows.
_SPECIAL = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")


@dataclass(frozen=True, slots=True)
class Spelled:
    """A token and the characters [start, end) that it stands for; none for a token without text."""

    told: TokenLogprob
    start: int
    end: int


def spelled(deltas: Iterable[TextDelta], start: int = 0) -> list[Spelled]:
    """The tokens of one answer in their order, its text beginning at ``start``.

    Text may come later than its tokens do: what waits for it shares it.
    """
    placed: list[Spelled] = []
    waiting: list[TokenLogprob] = []
    for delta in deltas:
        waiting.extend(delta.logprobs)
        if delta.text:
            placed.extend(_shared(waiting, start, start + len(delta.text)))
            start += len(delta.text)
            waiting.clear()
    return [*placed, *(Spelled(token, start, start) for token in waiting)]


def _shared(tokens: Sequence[TokenLogprob], start: int, end: int) -> Iterable[Spelled]:
    for number, token in enumerate(tokens, start=1):
        stop = end if number == len(tokens) else min(end, start + len(token.token))
        yield Spelled(token, start, stop)
        start = stop


def difference(answer: str, text: str, tokens: Sequence[Spelled]) -> Difference | None:
    """The first token of ``text`` that ``answer`` does not have; None where the two are the same."""
    if answer == text:
        return None
    pairs = enumerate(zip(answer, text, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(answer), len(text)))
    leaves = [number for number, token in enumerate(tokens) if token.end > same]
    # The answer goes on where the replay ended: with a token that has no text, or because no more were allowed.
    ends = [number for number, token in enumerate(tokens) if token.start >= same]
    at = next(iter(leaves or ends), None)
    if at is None:
        return Difference(len(tokens), same, None)
    token = tokens[at]
    found = _rival(answer[token.start :], token.told)
    if found is None:
        return Difference(at, token.start, token.told)
    rank, rival = found
    return Difference(at, token.start, token.told, rival, rank)


def doubtful(tokens: Sequence[Spelled], margin_nats: float) -> list[Difference]:
    """Where another token was nearly as likely, the narrowest first."""
    found = [
        Difference(at, token.start, token.told, rival, rank)
        for at, token in enumerate(tokens)
        for rank, rival in enumerate(token.told.top, start=1)
        if rival.token_id != token.told.token_id and token.told.logprob - rival.logprob <= margin_nats
    ]
    return sorted(found, key=lambda item: item.margin or 0.0)


def _rival(rest: str, made: TokenLogprob) -> tuple[int, TokenLogprob] | None:
    for rank, other in enumerate(made.top, start=1):
        if other.token_id != made.token_id and _begins(rest, other.token):
            return rank, other
    return None


def _begins(rest: str, token: str) -> bool:
    """Whether a token is what stands next; at the answer's end that is a special one."""
    return bool(token) and rest.startswith(token) if rest else ends(token)


def ends(token: str) -> bool:
    """Whether a token is one that no text shows."""
    return _SPECIAL.fullmatch(token) is not None
