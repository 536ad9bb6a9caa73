"""Classes of configurations: what they are, what they ask for, what they say of the weights."""

from __future__ import annotations

import json
from typing import Any

from tests.load.generator.corpus.files import Maker
from tests.load.generator.corpus.make import Files, Good


def _text(*texts: bytes) -> Maker:
    return lambda good: good.files(config=good.draw.choice(texts))


def _key(name: str, *values: Any) -> Maker:
    return lambda good: good.files(config=good.config(**{name: good.draw.choice(values)}))


def _pattern(name: str, *values: Any) -> Maker:
    def make(good: Good) -> Files:
        chosen = good.draw.choice(values)
        return good.files(config=good.config(**{name: chosen(good) if callable(chosen) else chosen}))

    return make


def _twice(good: Good) -> Files:
    return good.files(config=b'{"r": 1, ' + good.config()[1:])


def _in_another_encoding(good: Good) -> Files:
    encoding = good.draw.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))
    return good.files(config=good.config().decode().encode(encoding))


def _hidden_rank(good: Good) -> Files:
    """The rank that counts is fine for each module; the one that no module has is not."""
    patterns = {module: good.rank for module, _ in good.modules}
    return good.files(config=good.config(r=good.draw.choice((17, 1000, 10**9)), rank_pattern=patterns))


_BOMB = "(a+)+$"
CONFIGS: dict[str, Maker] = {
    "a configuration that is no JSON": _text(b"", b"{r: 2}", b"{", b"PEFT", b"\x00" * 100, b"\x80\x81"),
    "a configuration that is no object": _text(b"[]", b"null", b'"LORA"', b"7", b"true"),
    "a configuration nested deep": _text(b"[" * 100_000, b'{"a":' * 100_000),
    "a configuration beyond measure": lambda good: good.files(config=good.config(revision="x" * (2 << 20))),
    "a configuration key twice": _twice,
    "another encoding": _in_another_encoding,
    "a rank that is none": _key("r", 0, -1, "2", None, 2.5, True, [], 10**30, 1 << 63),
    "a rank that no module has": _hidden_rank,
    "an alpha that is none": _key("lora_alpha", 0, -4, "8", None, [], {}, True, 1e308, float("nan"), float("inf")),
    "an alpha that drowns the base": _key("lora_alpha", 1e6, 999_999, 1e5),
    "an alpha of nothing": _key("lora_alpha", 1e-45, 1e-30, 5e-324),
    "another method": _key("peft_type", "IA3", "LOHA", "ADALORA", "PREFIX_TUNING", "", None, ["LORA"], "lora"),
    "DoRA": _key("use_dora", True, 1, "yes"),
    "biases": _key("bias", "all", "lora_only", None, True, {}),
    "whole modules, by name": _key("modules_to_save", ["lm_head"], ["embed_tokens", "lm_head"], "all", {"a": 1}),
    "targets that the file has not": _key("target_modules", ["lm_head"], ["gate"], "all-linear", [], None, ["../x"]),
    "targets as a costly expression": _key("target_modules", _BOMB, ".*" * 200 + "x", "(((a{9}){9}){9}){9}"),
    "ranks by costly expressions": _key("rank_pattern", {_BOMB: 2}, {".*" * 200: 2}, {"": 2}, {"(?=": 2}),
    "ranks that are none": _key(
        "rank_pattern", {"q_proj": 0}, {"q_proj": "2"}, {"q_proj": -1}, [], "x", {"q_proj": 1e9}
    ),
    "alphas by costly expressions": _key("alpha_pattern", {_BOMB: 2}, {"[": 1}, {"q_proj" * 100: 1}),
    "alphas that are none": _key("alpha_pattern", {"q_proj": 0}, {"q_proj": None}, {"q_proj": float("nan")}, [], 7),
    "patterns with dots for letters": _pattern("alpha_pattern", {"q.proj": 8}, {"....": 8}, {"model.layers.0": 8}),
    "layers chosen or repeated": _key("layer_replication", [[0, 4], [2, 5]], [[0, 10**9]], "x"),
    "layers to transform": _key("layers_to_transform", [0], 10**9, "all", [-1]),
    "exclusions as a costly expression": _key("exclude_modules", _BOMB, ["q_proj"], ".*"),
    "code to load": _key("auto_mapping", {"base_model_class": "x", "parent_library": "os"}, {"a": "b.c"}),
    "code to trust": _key("trust_remote_code", True, "true", 1),
    "code of a model": _key("auto_map", {"AutoModel": "modeling.Model"}, {"AutoConfig": "x--y.z"}),
    "an initialisation that changes the base": _key(
        "init_lora_weights", "pissa", "pissa_niter_4", "olora", "loftq", "corda"
    ),
    "tokens of its own": _key("trainable_token_indices", [1, 2, 3], {"embed_tokens": [49152]}),
    "tokens that switch it on": _key("alora_invocation_tokens", [1, 2], [10**9], "x"),
    "weights stored the other way round": _key("fan_in_fan_out", True, 1),
    "a scale by rank that is no answer": _key("use_rslora", "yes", 1, [True], {"a": 1}),
    "an unknown option": _key("surprise", "x", 1, {"a": [1] * 1000}, True),
    "an option of another kind": _key("megatron_config", {"a": 1}, {"tensor_parallel": "x"}),
    "quantised parts": _key("loftq_config", {"loftq_bits": 4}, {"x": "y" * 1000}),
    "variants of the method": _key("use_qalora", True, "yes", 1),
    "a base of another name": _key("base_model_name_or_path", "../../etc", "http://127.0.0.1:1/x", "x" * 100_000, 7),
    "text that is markup": lambda good: good.files(
        config=json.dumps({"r": "<script>", "peft_type": "LORA\r\nX: y"}).encode()
    ),
}
