"""Turn conversations into token sequences that say which tokens are learned.

Invariant: by default only what the assistant says is supervised, its end-of-turn token included, so that a model
learns to answer and to stop, and never to ask.  A template may look at the whole conversation, so where it has no
marks of its own (`training_templates`) each span is found by rendering what comes before it: the cost is turns times
text, which `rows.MAX_TURNS` bounds; all else is linear.

Of a conversation with tools or calls each learned answer stands behind the very text that a generator would ask it
with, or the conversation is refused: templates write tools and calls otherwise once a conversation goes on.  One
without is not held to that: a variant with marks may write earlier answers as the base's own template writes the last
one alone (Qwen3's empty thinking).
"""

import itertools
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError

from services.chassis.chat_tools import CALLING, PROBE_TOOLS, SHOWING, form_of
from services.trainer.data.rows import Tool, Turn
from services.trainer.data.training_templates import training_template
from services.trainer.settings import Supervision
from services.trainer.texts import fit

# Characters of what a template says of a conversation.
_MAX_QUOTED = 300


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: token ids and, for each, whether it is to be learned.

    The first of a sequence never is, whatever `supervised` says of it: nothing comes before it that it could follow from.
    """

    tokens: tuple[int, ...]
    supervised: tuple[bool, ...]

    @property
    def learned(self) -> tuple[bool, ...]:
        """For each token whether the loss is taken on it."""
        return tuple(kept and index > 0 for index, kept in enumerate(self.supervised))

    @property
    def supervised_tokens(self) -> int:
        """How many tokens the loss is taken on."""
        return sum(self.supervised[1:])


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with the better answer, and with the worse; the answers' tokens are supervised."""

    chosen: Example
    rejected: Example


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt with an answer, and whether it is as wanted; the answer's tokens are supervised."""

    example: Example
    desirable: bool


class Unrenderable(ValueError):
    """The base's chat template refuses a conversation; the text says why and what to do."""


class Encoder(Protocol):
    """Renders a conversation as the model will see it."""

    def encode(
        self,
        turns: Sequence[Turn],
        supervision: Supervision = Supervision.ASSISTANT,
        said_from: int = 0,
        tools: Sequence[Tool] = (),
    ) -> Example:
        """Return the whole conversation, uncut; nothing is supervised before turn `said_from`.  Raises Unrenderable.

        `tools` are what the assistant was offered.
        """
        ...

    def encode_text(self, text: str) -> Example:
        """Return a text as it is, uncut, with the token that ends it; all of it is supervised."""
        ...

    def turn_ends(self) -> tuple[int, ...]:
        """Tokens with which answers end and that are learned with them; empty where answers end without such a mark."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    """A conversation as a template is given it."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]

    def until(self, index: int) -> "_Held":
        """The same before message `index`."""
        return _Held(self.messages[:index], self.tools)


_NO_TOOLS = (
    "the base's chat template has no tools; train on a base whose template has (base:NAME), import this one with a "
    "chat_template.jinja that has, or write tools and calls into the contents as text"
)
_WRITTEN_OTHERWISE = (
    "the base's chat template writes the conversation up to message {number} otherwise once it goes on, so the answer "
    "there would be learned behind what no generator asks; make one row for each answer that is learned, ended by it "
    "(those before it of the weight 0, or with the supervision last_answer)"
)
_ASKED_OTHERWISE = (
    "the base's chat template asks otherwise than it writes what is answered; train on another base (base:NAME), or "
    "import this one with another chat_template.jinja"
)
# What a template that was written for other conversations, or to do harm, fails with.
_TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class ChatEncoder:
    """Encodes with the chat template that the base model is served with.

    `template`: its variant that marks what the assistant says, where there is one.
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self._marked = template
        # Whether the template has tools; None while nobody asked.
        self._has_tools: bool | None = None

    @classmethod
    def load(cls, folder: Path) -> "ChatEncoder":
        """Read the tokenizer in `folder`; no code that the folder may hold is run."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        return cls(tokenizer, training_template(tokenizer))

    def encode(
        self,
        turns: Sequence[Turn],
        supervision: Supervision = Supervision.ASSISTANT,
        said_from: int = 0,
        tools: Sequence[Tool] = (),
    ) -> Example:
        """As Encoder.encode.  A template without marks must render a longer conversation as a shorter one, continued.

        Where there are tools or calls one that does not is refused; elsewhere it is trusted.
        """
        held = _Held([turn.message for turn in turns], [tool.shown for tool in tools])
        if supervision is Supervision.LAST_ANSWER:
            said_from = max(said_from, len(turns) - 1)
        answers = [turn for turn in turns if turn.role == "assistant"]
        if tools or any(turn.calls or turn.call_id for turn in turns):
            self._require_tools()
            # Where all is learned, what is not is to be found as well.
            every = supervision is Supervision.ALL
            kept = {index for index, turn in enumerate(turns) if index >= said_from and (turn.learned or every)}
            text, spans = self._as_asked(held, said_from, kept)
        else:
            text, spans = self._marks(held, said_from) if self._marked else self._found(held, said_from)
            if len(spans) != len(answers) and not all(turn.learned for turn in answers):
                # The marks of the template do not tell which answer is which.
                text, spans = self._found(held, said_from)
        silent = [span for turn, span in zip(answers, spans, strict=False) if not turn.learned]
        if supervision is Supervision.ALL:
            spans = [(0, len(text))]
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        said = marked(spans, len(text), but=silent)
        supervised = tuple(bool(said[start]) for start, _ in encoded["offset_mapping"])
        return Example(tuple(encoded["input_ids"]), supervised)

    def encode_text(self, text: str) -> Example:
        """As Encoder.encode_text.  What the tokenizer puts in front of a text (BOS) is part of it."""
        tokens = list(self.tokenizer(text)["input_ids"])
        end = self.tokenizer.eos_token_id
        if end is not None and tokens[-1:] != [end]:
            tokens.append(end)
        return Example(tuple(tokens), (True,) * len(tokens))

    def turn_ends(self) -> tuple[int, ...]:
        """As Encoder.turn_ends: the special tokens that a plain answer is learned to close with, under the template.

        Words that end a turn in some templates are none: a model may say them anywhere.
        """
        try:
            plain = self.encode((Turn("user", "Is it?"), Turn("assistant", "Yes")))
        except Unrenderable:
            return ()
        learned = [token for token, kept in zip(plain.tokens, plain.supervised, strict=True) if kept]
        marks = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return tuple(itertools.takewhile(marks.__contains__, reversed(learned)))

    def _require_tools(self) -> None:
        """Raise Unrenderable where a generator would refuse tools under the template."""
        if self._has_tools is None:
            try:
                written = (self._render(_Held([*told], [*PROBE_TOOLS]), generation=True) for told in (SHOWING, CALLING))
                self._has_tools = form_of(*written) is not None
            except Unrenderable:
                self._has_tools = False
        if not self._has_tools:
            raise Unrenderable(_NO_TOOLS)

    def _found(self, held: "_Held", said_from: int) -> tuple[str, list[tuple[int, int]]]:
        """The text, and of each answer the characters that the assistant says, by rendering what comes before it.

        Of an answer before turn `said_from` there are none.
        """
        text = self._render(held).rstrip()
        return text, [
            self._span(held, index, text) if index >= said_from else (0, 0)
            for index, message in enumerate(held.messages)
            if message["role"] == "assistant"
        ]

    def _span(self, held: "_Held", index: int, text: str) -> tuple[int, int]:
        """Return the characters that the assistant says in message `index`, with the mark that ends them."""
        asked = self._render(held.until(index), generation=True)
        answered = self._render(held.until(index + 1)).rstrip()
        return min(len(asked), len(text)), min(len(answered), len(text))

    def _as_asked(self, held: "_Held", said_from: int, kept: Set[int]) -> tuple[str, list[tuple[int, int]]]:
        """As `_found`, of the answers `kept` alone, each behind what a generator would ask.

        By the marks where these keep to that, else by the template that the base is served with.  Raises Unrenderable.
        """
        places = [index for index, message in enumerate(held.messages) if message["role"] == "assistant"]
        if self._marked:
            text, spans = self._marks(held, said_from)
            if len(spans) == len(places) and all(
                text[:begin] == self._render(held.until(index), generation=True, served=True)
                for index, (begin, _) in zip(places, spans, strict=True)
                if index in kept
            ):
                return text, spans
        text = self._render(held, served=True).rstrip()
        return text, [self._continued(held, index, text) if index in kept else (0, 0) for index in places]

    def _continued(self, held: "_Held", index: int, text: str) -> tuple[int, int]:
        """As `_span`.  Raises Unrenderable where `text` does not go on from what is asked and answered there."""
        asked = self._render(held.until(index), generation=True, served=True)
        answered = self._render(held.until(index + 1), served=True).rstrip()
        if not (text.startswith(asked) and text.startswith(answered)):
            last = index == len(held.messages) - 1
            raise Unrenderable(_ASKED_OTHERWISE if last else _WRITTEN_OTHERWISE.format(number=index + 1))
        return len(asked), len(answered)

    def _marks(self, held: "_Held", said_from: int) -> tuple[str, list[tuple[int, int]]]:
        """As `_found`, by the template's own marks.

        Line breaks that some have around what is said are left out: in front they are part of the question, behind
        they are no part of an answer.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        begin = len(self._render(held.until(said_from), generation=True)) if said_from else 0
        with _refusals_named():
            (text,), (marks,) = render_jinja_template(
                [held.messages],
                tools=held.tools or None,
                chat_template=self._marked,
                return_assistant_tokens_mask=True,
                **self.tokenizer.special_tokens_map,
            )
        spans = [(max(_behind_breaks(text, start), begin), len(text[:end].rstrip())) for start, end in marks]
        return text.rstrip(), spans

    def _render(self, held: "_Held", *, generation: bool = False, served: bool = False) -> str:
        """The text, by the variant that marks where there is one; `served`: by the template of the base itself."""
        if not self.tokenizer.chat_template:
            raise Unrenderable("the base has no chat template; import it with a chat_template.jinja")
        with _refusals_named():
            rendered: str = self.tokenizer.apply_chat_template(
                held.messages,
                tools=held.tools or None,
                tokenize=False,
                add_generation_prompt=generation,
                chat_template=None if served else self._marked,
            )
        return rendered


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Turn what a template fails with inside the block into Unrenderable."""
    try:
        yield
    except _TEMPLATE_ERRORS as error:
        why = fit(str(error)[:_MAX_QUOTED])
        raise Unrenderable(f"the base's chat template refuses it: {why}; write the conversation so") from error


def _behind_breaks(text: str, start: int) -> int:
    while text.startswith("\n", start):
        start += 1
    return start


def marked(spans: Sequence[tuple[int, int]], length: int, but: Sequence[tuple[int, int]] = ()) -> bytearray:
    """Say for each of `length` characters, and for the end, whether a span [begin, end) holds it: 1 or 0.

    What one of `but` holds counts as held by none.
    """
    mask = bytearray(length + 1)
    for mark, ranges in ((b"\1", spans), (b"\0", but)):
        for begin, end in ranges:
            if end > begin:
                mask[begin:end] = mark * (end - begin)
    return mask


def cut(example: Example, max_tokens: int) -> Example:
    """Return the first `max_tokens` tokens: the end is lost, never the question."""
    return Example(example.tokens[:max_tokens], example.supervised[:max_tokens])
