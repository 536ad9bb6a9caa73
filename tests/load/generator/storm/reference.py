"""What each version would have said: log probabilities by transformers and PEFT, in fp32, one version at a time.

Nothing of the engine is in it: another implementation of the model, another of LoRA, no batch that mixes versions, no
slots, no cached prompts of others.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.load.generator.storm.traffic import Response

_ROWS = 16


class Reference:
    """The base and every version over it; versions by digest, the base is the empty one."""

    def __init__(self, base: Path, versions: Mapping[str, Path]) -> None:
        # More threads wait for one another where others compute as well, ten times as long as they save.
        torch.set_num_threads(1)
        model: Any = None
        for digest, folder in versions.items():
            name = _name(digest)
            if model is None:
                plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
                model = PeftModel.from_pretrained(plain, folder, adapter_name=name)
            else:
                model.load_adapter(folder, adapter_name=name)
        self._model = model.eval().float()

    def logprobs(self, version: str, responses: Sequence[Response]) -> list[torch.Tensor]:
        """Natural log probabilities of each answer's tokens under a version, [tokens] each, in the same order."""
        found: dict[int, torch.Tensor] = {}
        numbered = sorted(enumerate(responses), key=lambda each: (each[1].ask.prompt, len(each[1].tokens)))
        with torch.inference_mode(), self._wearing(version):
            for prompt, members in itertools.groupby(numbered, key=lambda each: each[1].ask.prompt):
                # All of it but the last token, which is read with the answers.
                cache = self._model(input_ids=torch.tensor([prompt[:-1]]), logits_to_keep=1).past_key_values
                for chunk in _chunks(list(members), _ROWS):
                    answers = self._scored(cache, prompt, [response.tokens for _, response in chunk])
                    found |= dict(zip((number for number, _ in chunk), answers, strict=True))
        return [found[number] for number in range(len(responses))]

    def _wearing(self, version: str) -> AbstractContextManager[Any]:
        if not version:
            return self._model.disable_adapter()  # type: ignore[no-any-return]  # PEFT has no types
        self._model.set_adapter(_name(version))
        return nullcontext()

    def _scored(self, cache: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        cached = len(prompt) - 1
        longest = max(map(len, answers))
        ids = torch.tensor([[prompt[-1], *tokens[:-1], *[0] * (longest - len(tokens))] for tokens in answers])
        mask = torch.tensor([[1] * (cached + len(tokens)) + [0] * (longest - len(tokens)) for tokens in answers])
        shared = copy.deepcopy(cache)
        shared.batch_repeat_interleave(len(answers))
        logits = self._model(input_ids=ids, attention_mask=mask, past_key_values=shared).logits
        scored = []
        for row, tokens in enumerate(answers):
            told = logits[row, : len(tokens)].log_softmax(dim=-1)
            scored.append(told.gather(1, torch.tensor(tokens)[:, None])[:, 0])
        return scored


def _name(digest: str) -> str:
    return digest.replace(":", "_")


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
