"""The base's tokenizer and chat template, apart from any engine.

Invariant: the prompt that is counted is the prompt that is run; the template is the
base's own (rendered by transformers in a sandbox), so no version brings a program along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.generator.engine import Turn


class BaseTokenizer:
    """A tokenizer as transformers saved it.  All methods block."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        template = self._tokenizer.chat_template or ""
        self._digest = f"sha256:{hashlib.sha256(template.encode()).hexdigest()}"

    @property
    def template_digest(self) -> str:
        """Digest (sha256:…) of the chat template's text."""
        return self._digest

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return len(self._tokenizer)

    def chat(self, turns: Sequence[Turn]) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks next."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        # The template writes every special token that the prompt has.
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, text: str) -> list[int]:
        """Token ids of a text as it is."""
        return list(self._tokenizer(text)["input_ids"])
