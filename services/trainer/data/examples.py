"""Turn conversations into token sequences that say which tokens are learned.

Invariant: only what the assistant says is supervised, its end-of-turn token included,
so that a model learns to answer and to stop, and never to ask.  A template may look at the
whole conversation, so each span is found by rendering what comes before it: the cost is
turns times text, which `rows.MAX_TURNS` bounds; all else is linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError

from services.trainer.data.rows import Turn

# Characters of what a template says of a conversation.
_MAX_QUOTED = 300


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: token ids and, for each, whether the loss is taken on it."""

    tokens: tuple[int, ...]
    supervised: tuple[bool, ...]

    @property
    def supervised_tokens(self) -> int:
        """How many tokens the loss is taken on; the first token of a sequence never counts."""
        return sum(self.supervised[1:])


class Unrenderable(ValueError):
    """The base's chat template refuses a conversation; the text says why and what to do."""


class Encoder(Protocol):
    """Renders a conversation as the model will see it."""

    def encode(self, turns: Sequence[Turn]) -> Example:
        """Return the whole conversation, uncut.  Raises Unrenderable."""
        ...


class ChatEncoder:
    """Encodes with the chat template that the base model is served with."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> "ChatEncoder":
        """Read the tokenizer in `folder`; no code that the folder may hold is run."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True))

    def encode(self, turns: Sequence[Turn]) -> Example:
        """As Encoder.encode.  The template must render a longer conversation as a continuation of a shorter one."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text = self._render(messages).rstrip()
        spans = [
            self._span(messages, index, text)
            for index, message in enumerate(messages)
            if message["role"] == "assistant"
        ]
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        said = marked(spans, len(text))
        supervised = tuple(bool(said[start]) for start, _ in encoded["offset_mapping"])
        return Example(tuple(encoded["input_ids"]), supervised)

    def _span(self, messages: list[dict[str, str]], index: int, text: str) -> tuple[int, int]:
        """Return the characters that the assistant says in message `index`, with the mark that ends them."""
        asked = self._render(messages[:index], generation=True)
        answered = self._render(messages[: index + 1]).rstrip()
        return min(len(asked), len(text)), min(len(answered), len(text))

    def _render(self, messages: list[dict[str, str]], *, generation: bool = False) -> str:
        if not self.tokenizer.chat_template:
            raise Unrenderable("the base has no chat template; import it with a chat_template.jinja")
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation
            )
        except TemplateError as error:
            why = str(error)[:_MAX_QUOTED]
            raise Unrenderable(f"the base's chat template refuses it: {why}; write the conversation so") from error
        return rendered


def marked(spans: Sequence[tuple[int, int]], length: int) -> bytearray:
    """Say for each of `length` characters, and for the end, whether a span [begin, end) holds it: 1 or 0."""
    mask = bytearray(length + 1)
    for begin, end in spans:
        mask[begin:end] = b"\1" * max(0, end - begin)
    return mask


def cut(example: Example, max_tokens: int) -> Example:
    """Return the first `max_tokens` tokens: the end is lost, never the question."""
    return Example(example.tokens[:max_tokens], example.supervised[:max_tokens])
