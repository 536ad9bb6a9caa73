"""Turn conversations into token sequences that say which tokens are learned.

Invariant: only what the assistant says is supervised, its end-of-turn token included,
so that a model learns to answer and to stop, and never to ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.trainer.rows import Turn


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: token ids and, for each, whether the loss is taken on it."""

    tokens: tuple[int, ...]
    supervised: tuple[bool, ...]

    @property
    def supervised_tokens(self) -> int:
        """How many tokens the loss is taken on; the first token of a sequence never counts."""
        return sum(self.supervised[1:])


class Encoder(Protocol):
    """Renders a conversation as the model will see it."""

    def encode(self, turns: Sequence[Turn]) -> Example:
        """Return the whole conversation, uncut."""
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
        supervised = tuple(any(begin <= start < end for begin, end in spans) for start, _ in encoded["offset_mapping"])
        return Example(tuple(encoded["input_ids"]), supervised)

    def _span(self, messages: list[dict[str, str]], index: int, text: str) -> tuple[int, int]:
        """Return the characters that the assistant says in message `index`, with the mark that ends them."""
        asked = self._render(messages[:index], generation=True)
        answered = self._render(messages[: index + 1]).rstrip()
        return min(len(asked), len(text)), min(len(answered), len(text))

    def _render(self, messages: list[dict[str, str]], *, generation: bool = False) -> str:
        rendered: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
        return rendered


def cut(example: Example, max_tokens: int) -> Example:
    """Return the first `max_tokens` tokens: the end is lost, never the question."""
    return Example(example.tokens[:max_tokens], example.supervised[:max_tokens])
