"""The leaf that computes: a sentence encoder of the BERT family in torch.

Invariant: the same token ids give the same bits, whatever the other sequences of the batch
are: linear layers multiply in blocks in which a row's bits are its own, and a sequence is
attended in a shape of its own (:mod:`services.embedder.ragged`) or, where a model pads, at
the one padded length that callers keep to.  Only safetensors and JSON are read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from services.chassis.errors import Failure, Reason
from services.chassis.models import ResolvedModel
from services.chassis.processor import processor
from services.embedder.batching import LENGTH_STEP, Batch, Product, TokenIds, Vector


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What callers must know of a model: its name, its digest, its shapes.

    ``build`` says what the bits of its vectors follow from, beside the text: weights, library, element type, processor.
    """

    name: str
    digest: str
    dimensions: int
    max_tokens: int
    # Token ids are below this.
    vocabulary: int
    # Both empty until the model is loaded.
    compute_dtype: str = ""
    build: str = ""
    normalised: bool = True


# A part of the build: raised when the bits of vectors change by how they are computed.
_ATTENTION = "ragged 1"
# Kinds of encoders whose first position is the one behind the padding's id.
COUNTED_FROM_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


class Tokenizer(Protocol):
    """Texts to token ids."""

    def ids(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text, special tokens included, never cut.  Blocks."""


class Encoder(Protocol):
    """Token ids to vectors.  ``pads``: as :class:`services.embedder.batching.Batcher` says."""

    facts: EncoderFacts
    pads: bool

    def compute(self, batch: Batch) -> list[Vector]:
        """One array a sequence: [dimensions] of length 1, or [tokens, dimensions] with rows of length 1.  Blocks."""


class FastTokenizer:
    """The tokenizer of a model folder (``tokenizer.json``), without padding and truncation."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Fast

        self._fast = Fast.from_file(str(folder / "tokenizer.json"))
        self._fast.no_padding()
        self._fast.no_truncation()

    @property
    def vocabulary(self) -> int:
        """Every token's id is below this."""
        return max(self._fast.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def ids(self, texts: Sequence[str]) -> list[TokenIds]:
        """As the Protocol says."""
        return [tuple(encoding.ids) for encoding in self._fast.encode_batch_fast(list(texts))]


class TorchEncoder:
    """An encoder in memory.  Made and used in one thread, whose torch threads it sets.

    It takes `module` over: how its linear layers multiply is replaced, and how it attends.  On another
    ``device`` than "cpu" it pads: there a call costs more than the padding.
    """

    def __init__(self, facts: EncoderFacts, module: Any, pad_id: int, device: str = "cpu") -> None:
        from torch import nn

        from services.embedder import ragged

        self.facts = facts
        self.pads = device != "cpu" or not ragged.takes(module.config)
        self._module = module.to(device)
        self._pad_id = pad_id
        self._device = device
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                layer.forward = partial(linear, layer)
        if not self.pads:
            ragged.register()
            module.config._attn_implementation = ragged.NAME  # transformers has no other way

    def compute(self, batch: Batch) -> list[Vector]:
        """As the Protocol says."""
        import torch

        with torch.inference_mode():
            return self._padded(batch) if self.pads else self._ragged(batch)

    def _ragged(self, batch: Batch) -> list[Vector]:
        import torch

        from services.embedder import ragged

        row = ragged.row_of(batch.sequences, ragged.first_position(self._module.config))
        # [tokens, d_model]; pooling in float32, whatever the model computes in.
        output = self._module(input_ids=row.ids, position_ids=row.positions, spans=row.spans)
        hidden = output.last_hidden_state[0].float()
        found: list[Vector] = []
        for span in row.spans:
            states = hidden[span.first : span.last].view(span.count, span.length, -1)
            wanted = states if batch.product is Product.TOKENS else states.mean(1)
            found += list(torch.nn.functional.normalize(wanted, dim=-1).numpy())
        return [vector for _, vector in sorted(zip(row.order, found, strict=True), key=lambda it: it[0])]

    def _padded(self, batch: Batch) -> list[Vector]:
        import torch

        # Both have one row a sequence and one column a position.
        ids = torch.full((len(batch.sequences), batch.length), self._pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(batch.sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
            mask[row, : len(sequence)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        # One vector a token, padding too: [rows, length, d_model].
        hidden = self._module(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if batch.product is Product.TOKENS:
            rows = torch.nn.functional.normalize(hidden, dim=-1).cpu().numpy()
            return [rows[row, : len(sequence)] for row, sequence in enumerate(batch.sequences)]
        weight = mask.unsqueeze(-1).float()
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        return list(torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy())


def linear(layer: Any, x: Any) -> Any:
    """What `layer` makes of `x` [..., inputs]: [..., outputs]."""
    from services.chassis import products

    return products.linear(x.reshape(-1, x.shape[-1]), layer.weight, layer.bias).view(*x.shape[:-1], -1)


def described(model: ResolvedModel, *, name: str = "", max_tokens: int = 0) -> EncoderFacts:
    """What the folder of ``model`` tells without loading it.  ``max_tokens`` cuts earlier than it was trained at.

    Reads files.  Raises MODEL_SOURCE_INVALID for a folder that is not a mean-pooled sentence encoder.
    """
    _require_mean_pooling(model)
    config = folder_json(model.path / "config.json")
    trained = _max_tokens(model.path, positions_of(model, config))
    return EncoderFacts(
        name=name or model.name,
        digest=model.digest,
        dimensions=int(config["hidden_size"]),
        max_tokens=min(max_tokens or trained, trained),
        vocabulary=int(config["vocab_size"]),
    )


def positions_of(model: ResolvedModel, config: Mapping[str, Any]) -> int:
    """The most tokens that have positions.  Raises MODEL_SOURCE_INVALID unless the configuration is that of an encoder.

    RoBERTa counts them from behind the padding's id, so its first ones are no token's, and padding needs none; of others
    as many as a padded sequence has, too.
    """
    numbers = [config.get(name) for name in ("max_position_embeddings", "hidden_size", "vocab_size")]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        problem = "its config.json does not describe an encoder"
        raise Failure(Reason.MODEL_SOURCE_INVALID, uri=model.uri, name=model.uri, problem=problem)
    positions = int(config["max_position_embeddings"])
    if config.get("model_type") not in COUNTED_FROM_PADDING:
        return positions - positions % LENGTH_STEP or positions
    return positions - int(config.get("pad_token_id", 1) or 0) - 1


def load(
    model: ResolvedModel, *, dtype: str, threads: int, facts: EncoderFacts | None = None, device: str = "cpu"
) -> TorchEncoder:
    """The encoder in ``model``'s folder, computing in ``dtype`` ("float32", "bfloat16" or "float16") on ``device``.

    ``facts`` are those of :func:`described`.  Blocks for a second or two.  Raises MODEL_SOURCE_INVALID.
    """
    import torch

    torch.set_num_threads(threads)
    facts = facts or described(model)
    module, pad_id = torch_module(model, dtype)
    built = replace(
        facts,
        compute_dtype=dtype,
        build=f"{build_of(model, dtype, threads, device)} {_ATTENTION}",
    )
    return TorchEncoder(built, module, pad_id, device)


def build_of(model: ResolvedModel, dtype: str, threads: int, device: str) -> str:
    """What the bits follow from that torch computes of ``model``."""
    import torch

    here = processor()
    instructions = " ".join(sorted(here.instructions))
    return f"{model.digest} torch {torch.__version__} {device} {dtype} {threads} {here.vendor} {instructions}"


def torch_module(model: ResolvedModel, dtype: str) -> tuple[Any, int]:
    """The transformer of ``model``'s folder, without a pooler, and its padding's token id.  Blocks."""
    import torch
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    config = AutoConfig.from_pretrained(model.path)
    # The folder's pooler is not loaded: the library reports that at length, to nobody's use.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        module = AutoModel.from_pretrained(
            model.path,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            add_pooling_layer=False,
            use_safetensors=True,
            trust_remote_code=False,
        ).eval()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        problem = f"it cannot be loaded as an encoder ({type(error).__name__})"
        raise Failure(Reason.MODEL_SOURCE_INVALID, uri=model.uri, name=model.uri, problem=problem) from error
    return module, int(config.pad_token_id or 0)


def _max_tokens(folder: Path, positions: int) -> int:
    """The length that the model was trained at, which may be less than what it has positions for.

    Sentence-transformers kept it in a file of its own, and keeps it with the tokenizer since its version 6.
    """
    trained = folder_json(folder / "sentence_bert_config.json").get("max_seq_length")
    if trained is None:
        trained = folder_json(folder / "tokenizer_config.json").get("model_max_length") or positions
    return min(int(trained), positions)


def _require_mean_pooling(model: ResolvedModel) -> None:
    pooling = folder_json(model.path / "1_Pooling" / "config.json")
    if pooling and not pooling.get("pooling_mode_mean_tokens", False):
        problem = "it does not pool by the mean of its tokens"
        raise Failure(Reason.MODEL_SOURCE_INVALID, uri=model.uri, name=model.uri, problem=problem)


def folder_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder; empty where there is none that can be read."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def packed(vectors: Sequence[Vector], dimensions: int) -> Vector:
    """The vectors as one matrix [texts, dimensions], cut to ``dimensions`` and brought back to length 1."""
    matrix = np.stack(vectors).astype(np.float32, copy=False)
    if dimensions >= matrix.shape[1]:
        return matrix
    short = matrix[:, :dimensions]
    norms = np.linalg.norm(short, axis=1, keepdims=True)
    return np.asarray(short / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def ordinary_ids(vocabulary: int, rows: int, length: int) -> tuple[TokenIds, ...]:
    """Sequences to try a model out with: ids spread over its vocabulary, of no meaning, for tests of arithmetic."""
    return tuple(tuple((1 + 7919 * row + 613 * at) % vocabulary for at in range(length)) for row in range(rows))
