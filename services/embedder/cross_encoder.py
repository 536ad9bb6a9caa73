"""The leaf that reads a query and a passage together: one score a pair.

A cross-encoder sees both texts at once, so nothing of it can be kept: each pair costs a
pass.  Invariant: the segment of every token travels with its id, as the tokenizer said it,
whatever separators the texts themselves hold.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from services.chassis.errors import Failure, Reason
from services.chassis.models import ResolvedModel
from services.embedder.batching import Batch, TokenIds, Vector
from services.embedder.model import EncoderFacts, build_of, folder_json, linear, positions_of

# A token of the second text has this added to its id; no vocabulary is as large.
SECOND = 1 << 24


class PairTokenizer:
    """The tokenizer of a cross-encoder's folder, for pairs."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Fast

        self._fast = Fast.from_file(str(folder / "tokenizer.json"))
        self._fast.no_padding()
        self._fast.no_truncation()

    @property
    def vocabulary(self) -> int:
        """Every token's id is below this."""
        return max(self._fast.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def pairs(self, query: str, passages: Sequence[str], limit: int) -> list[TokenIds]:
        """Each passage with the query, as ids and segments, special tokens included, never cut behind.  Blocks.

        A query that would take more than half of ``limit`` is cut there, so that the passage is read at all.
        """
        alone = self._fast.encode(query, add_special_tokens=False)
        if len(alone.ids) > limit // 2:
            query = query[: alone.offsets[limit // 2 - 1][1]]
        encoded = self._fast.encode_batch([(query, passage) for passage in passages])
        return [
            tuple(token + SECOND * segment for token, segment in zip(each.ids, each.type_ids, strict=True))
            for each in encoded
        ]


class CrossEncoder:
    """A sequence classifier of one label in memory.  Made and used in one thread.  Takes `module` over."""

    def __init__(self, facts: EncoderFacts, module: Any, pad_id: int, device: str = "cpu") -> None:
        from torch import nn

        self.facts = facts
        self.pads = True
        self._module = module.to(device)
        self._pad_id = pad_id
        self._device = device
        self._segments = int(getattr(module.config, "type_vocab_size", 0) or 0) > 1
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                layer.forward = partial(linear, layer)

    def compute(self, batch: Batch) -> list[Vector]:
        """One array [1] a pair: the sigmoid of its logit.  Blocks."""
        import torch

        ids = torch.full((len(batch.sequences), batch.length), self._pad_id, dtype=torch.long)
        mask, segments = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, sequence in enumerate(batch.sequences):
            told = torch.tensor(sequence, dtype=torch.long)
            ids[row, : len(sequence)] = told % SECOND
            segments[row, : len(sequence)] = told // SECOND
            mask[row, : len(sequence)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": segments} if self._segments else {})
        with torch.inference_mode():
            logits = self._module(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).logits
            return list(torch.sigmoid(logits.float()).cpu().numpy())


def described(model: ResolvedModel, *, name: str = "", max_tokens: int = 0) -> EncoderFacts:
    """What the folder of a cross-encoder tells.  Reads files.  Raises MODEL_SOURCE_INVALID unless it has one label."""
    config = folder_json(model.path / "config.json")
    kinds = config.get("architectures") or [""]
    labels = config.get("num_labels") or len(config.get("id2label") or {"0": "", "1": ""})
    if not str(kinds[0]).endswith("ForSequenceClassification") or labels != 1:
        raise _invalid(model, "a reranker is a sequence classifier of one label, and this is none")
    positions = positions_of(model, config)
    told = folder_json(model.path / "tokenizer_config.json").get("model_max_length", positions)
    trained = min(int(told), positions)
    return EncoderFacts(
        name=name or model.name,
        digest=model.digest,
        dimensions=1,
        max_tokens=min(max_tokens or trained, trained),
        vocabulary=int(config["vocab_size"]),
        normalised=False,
    )


def load(model: ResolvedModel, facts: EncoderFacts, *, dtype: str, threads: int, device: str = "cpu") -> CrossEncoder:
    """The cross-encoder in ``model``'s folder.  Blocks.  Raises MODEL_SOURCE_INVALID."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        module = AutoModelForSequenceClassification.from_pretrained(
            model.path,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
        ).eval()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise _invalid(model, f"it cannot be loaded as a reranker ({type(error).__name__})") from error
    built = replace(facts, compute_dtype=dtype, build=build_of(model, dtype, threads, device))
    return CrossEncoder(built, module, int(module.config.pad_token_id or 0), device)


def _invalid(model: ResolvedModel, problem: str) -> Failure:
    return Failure(Reason.MODEL_SOURCE_INVALID, uri=model.uri, name=model.uri, problem=problem)
