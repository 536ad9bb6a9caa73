"""One answer's text while it waits for a verdict.

Invariant: a token's probabilities tell its text, so they leave with it or with what comes after it, never before it.
"""

from collections import deque
from dataclasses import replace

from gateway.asking.sentences import complete
from gateway.generation import TextDelta, TokenLogprob, ToolCall, ToolCallDelta

# What a judge sees of what has left.
_BEFORE_CHARACTERS = 4096
# A text without ends of sentences (a table, a program) waits no longer than this.
_LONGEST_PIECE_CHARACTERS = 2000


class Held:
    """Text of answer number ``choice`` that has not left, the parts that it came in, and the end of what has."""

    __slots__ = ("_calls", "_choice", "_parts", "before", "text")

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._parts: deque[TextDelta] = deque()
        self._calls: list[ToolCallDelta] = []
        self.before = ""
        self.text = ""

    def add(self, delta: TextDelta) -> None:
        """Hold more."""
        self.text += delta.text
        self._parts.append(delta)
        self._calls += delta.calls

    @property
    def ready(self) -> int:
        """How many characters make a piece that can be judged: whole sentences, or too much to wait for their end."""
        cut = complete(self.text)
        if cut or len(self.text) < _LONGEST_PIECE_CHARACTERS:
            return cut
        return self.text.rfind(" ") + 1 or len(self.text)

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return not self._parts

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls as far as they have come."""
        whole: dict[int, ToolCall] = {}
        for more in self._calls:
            known = whole.get(more.index, ToolCall("", "", ""))
            whole[more.index] = ToolCall(known.id or more.id, known.name or more.name, known.arguments + more.arguments)
        return tuple(whole[index] for index in sorted(whole))

    def take(self, cut: int) -> TextDelta:
        """Take the first ``cut`` characters, with what came with them."""
        text, self.text = self.text[:cut], self.text[cut:]
        taken = TextDelta(text, choice=self._choice)
        while cut and self._parts and len(self._parts[0].text) <= cut:
            part = self._parts.popleft()
            cut -= len(part.text)
            taken = _joined(taken, part)
        if cut:
            self._parts[0] = replace(self._parts[0], text=self._parts[0].text[cut:])
        return taken

    def take_all(self) -> TextDelta:
        """Take everything, calls too."""
        taken = TextDelta(self.text, choice=self._choice)
        for part in self._parts:
            taken = _joined(taken, part)
        taken = replace(taken, calls=tuple(self._calls))
        self.text, self._calls = "", []
        self._parts.clear()
        return taken

    def left(self, text: str) -> None:
        """Remember what has left."""
        self.before = (self.before + text)[-_BEFORE_CHARACTERS:]


def _joined(taken: TextDelta, part: TextDelta) -> TextDelta:
    logprobs: tuple[TokenLogprob, ...] = (*taken.logprobs, *part.logprobs)
    return replace(taken, logprobs=logprobs, tokens=taken.tokens + part.tokens)
