"""Greedy answers to prompts of one job, as its adapter would be served.

Invariant: which prompts share a batch is the job's own affair, so an answer never depends on another job.
"""

from collections.abc import Sequence
from typing import Any

import torch


def generate(
    model: Any, prompts: Sequence[Sequence[int]], answer_tokens: int, turn_ends: Sequence[int]
) -> list[list[int]]:
    """Return the tokens that follow each prompt, without the one that ends an answer; at most `answer_tokens`.

    `model` is a transformers causal LM in evaluation mode.  An answer ends with what the model itself ends with, or with
    one of `turn_ends`: many a base names the end of a text alone, and its template ends turns with another token.
    """
    width = max(map(len, prompts))
    ends = _ends(model, turn_ends)
    padding = ends[0] if ends else 0
    tokens = torch.full((len(prompts), width), padding)
    attention = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        # Padded on the left: answers begin behind the last column.
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        attention[row, width - len(prompt) :] = 1
    with torch.no_grad():
        found = model.generate(
            input_ids=tokens,
            attention_mask=attention,
            max_new_tokens=answer_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=padding,
            eos_token_id=ends or None,
        )
    return [_until(row, ends) for row in found[:, width:].tolist()]


def _ends(model: Any, turn_ends: Sequence[int]) -> list[int]:
    """Tokens that end an answer, each once, the model's own first."""
    found = model.generation_config.eos_token_id
    own = found if isinstance(found, list) else [] if found is None else [found]
    return list(dict.fromkeys([*own, *turn_ends]))


def _until(tokens: list[int], ends: list[int]) -> list[int]:
    end = next((index for index, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:end]
