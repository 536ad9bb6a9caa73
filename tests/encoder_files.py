"""Encoders small enough for every test: random BERTs and RoBERTas of some ten kilobytes, made by code, without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.registry.inspection.encoder_layout import ENCODERS, pooler, tensors
from tests.adapters import safetensors

_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "ferry", "leaves", "at", "nine")


@dataclass(frozen=True)
class EncoderFiles:
    """An encoder of two layers; ``seed`` makes its weights its own, ``changes`` go over its ``config.json``."""

    architecture: str = "BertModel"
    seed: int = 0
    pooled: bool = True
    changes: Mapping[str, Any] | None = None

    def config(self) -> dict[str, Any]:
        """Its ``config.json``."""
        kind = ENCODERS[self.architecture]
        labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}} if kind.prefix else {}
        return {
            "architectures": [self.architecture],
            "model_type": kind.model_type,
            "vocab_size": 16,
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "type_vocab_size": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "pad_token_id": 1 if kind.padded else 0,
            **labels,
            **(self.changes or {}),
        }

    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Its tensors in float32, by name."""
        random = np.random.default_rng(self.seed)
        shapes = tensors(self.config()) | (pooler(self.config()) if self.pooled else {})
        return {name: random.standard_normal(shape, dtype=np.float32) * 0.1 for name, shape in shapes.items()}

    def files(self) -> dict[str, bytes]:
        """Its files by name, as sentence-transformers saves them, in a flat folder."""
        entries = {name: ("F32", value.shape, value.tobytes()) for name, value in self.weights().items()}
        return {
            "config.json": json.dumps(self.config()).encode(),
            "model.safetensors": safetensors(entries),
            "sentence_bert_config.json": json.dumps({"max_seq_length": 24, "do_lower_case": False}).encode(),
            "special_tokens_map.json": json.dumps({"pad_token": "[PAD]"}).encode(),
            "tokenizer.json": json.dumps(_tokenizer()).encode(),
            "tokenizer_config.json": json.dumps({"tokenizer_class": "BertTokenizer"}).encode(),
            "vocab.txt": "\n".join(_TOKENS).encode(),
        }


def _tokenizer() -> dict[str, Any]:
    vocabulary = {token: number for number, token in enumerate(_TOKENS)}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocabulary}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": None,
        "model": {**model, "max_input_chars_per_word": 100},
    }  # fmt: skip
