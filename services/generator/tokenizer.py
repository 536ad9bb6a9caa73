"""The base's tokenizer and chat template, apart from any engine.

Invariant: the prompt that is counted is the prompt that is run.  The template that is
rendered here, by transformers in a sandbox, is that of one of the deployment's bases; one
that a tenant brings along is a stranger's program: ``templates`` renders it in a limited
child.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from services.generator.conversation import Turn, Unrenderable


class BaseTokenizer:
    """A tokenizer as transformers saved it.  All methods block."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._template = self._tokenizer.chat_template or ""
        self._digest = f"sha256:{hashlib.sha256(self._template.encode()).hexdigest()}"

    @property
    def template(self) -> str:
        """The chat template; empty when there is none."""
        return str(self._template)

    @property
    def template_digest(self) -> str:
        """Digest (sha256:…) of the chat template's text."""
        return self._digest

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return len(self._tokenizer)

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The special tokens' texts by the names that templates call them."""
        return {
            name: str(token) for name, token in self._tokenizer.special_tokens_map.items() if isinstance(token, str)
        }

    def written(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """A conversation through the chat template, up to where the assistant speaks next.  Raises Unrenderable."""
        if not self._template:
            raise Unrenderable("the model has none")
        messages = [turn.message for turn in turns]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=True
                )
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            # A template that takes a turn for something else than it is fails in Python's own ways.
            raise Unrenderable(str(error)) from error

    def chat(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Token ids of what ``written`` writes.  Raises Unrenderable."""
        return self.rendered(self.written(turns, tools))

    def rendered(self, text: str) -> list[int]:
        """Token ids of what a chat template wrote: every special token of the prompt stands in it."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, text: str) -> list[int]:
        """Token ids of a text as it is."""
        return list(self._tokenizer(text)["input_ids"])
