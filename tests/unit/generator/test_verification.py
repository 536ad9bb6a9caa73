"""Hostile and broken adapters against the limited child: refused with a sentence, never loaded."""

import hashlib
import json
import struct

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import VersionFacts, read_manifest
from services.generator.verification import BaseRules, base_rules, verify
from tests.adapters import Adapter, floats, safetensors

MODULE = "model.layers.0.self_attn.q_proj"
RULES = BaseRules({MODULE: (4, 6), "model.layers.0.mlp.up_proj": (8, 6)}, max_rank=4)
PATH = f"base_model.model.{MODULE}"


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def weights(tensors, **header):
    return safetensors(tensors, **header)


def changed(**config):
    return Adapter(config=config).files()


def with_weights(content):
    return {**Adapter().files(), "adapter_model.safetensors": content}


def tensors(dtype="F32", down=(2, 6), up=(4, 2), name=PATH, size=4):
    return {
        f"{name}.lora_A.weight": (dtype, down, bytes(size * down[0] * down[1])),
        f"{name}.lora_B.weight": (dtype, up, bytes(size * up[0] * up[1])),
    }


NAN = {**tensors(), f"{PATH}.lora_B.weight": ("F32", (4, 2), floats([0, 1, 2, float("nan"), 4, 5, 6, 7]))}
BF16_INF = {
    f"{PATH}.lora_A.weight": ("BF16", (2, 6), bytes(22) + struct.pack("<H", 0x7F80)),
    f"{PATH}.lora_B.weight": ("BF16", (4, 2), bytes(16)),
}
WHOLE = Adapter().files()["adapter_model.safetensors"]
ENTRY = {"dtype": "F32", "shape": [2, 6], "data_offsets": [0, 48]}

BASE = {
    "model.embed_tokens.weight": ("F32", (10, 6), bytes(240)),
    "model.layers.0.mlp.down_proj.weight": ("F32", (6, 8), bytes(192)),
    "model.layers.1.self_attn.k_proj.weight": ("F32", (4, 6), bytes(96)),
    "model.norm.weight": ("F32", (6,), bytes(24)),
}

HOSTILE = {
    "a pickle": with_weights(b"\x80\x04\x95" + bytes(200)),
    "a zip archive": with_weights(b"PK\x03\x04" + bytes(200)),
    "an empty file": with_weights(b""),
    "a header longer than the file": with_weights(struct.pack("<Q", 1 << 40) + b"{}"),
    "a header that is no JSON": with_weights(struct.pack("<Q", 4) + b"{{{{" + bytes(8)),
    "a header nested beyond reason": with_weights(struct.pack("<Q", 200_000) + b'{"a":' * 40_000),
    "a file cut short": with_weights(WHOLE[:-4]),
    "bytes behind the tensors": with_weights(WHOLE + b"code"),
    "overlapping tensors": with_weights(
        weights(tensors(), header={f"{PATH}.lora_A.weight": ENTRY | {"data_offsets": [8, 56]}})
    ),
    "a negative shape": with_weights(weights(tensors(), header={f"{PATH}.lora_A.weight": ENTRY | {"shape": [-2, -6]}})),
    "a shape that lies about its length": with_weights(
        weights(tensors(), header={f"{PATH}.lora_A.weight": ENTRY | {"shape": [2, 600]}})
    ),
    "a number that is not finite": with_weights(weights(NAN)),
    "an infinite bf16": with_weights(weights(BF16_INF)),
    "integers for weights": with_weights(weights(tensors(dtype="I32"))),
    "another base's width": with_weights(weights(tensors(down=(2, 8)))),
    "a rank that the configuration does not say": with_weights(weights(tensors(down=(3, 6), up=(4, 3)))),
    "an output head": with_weights(weights(tensors(name="base_model.model.lm_head"))),
    "an embedding": with_weights(weights(tensors(name="base_model.model.model.embed_tokens"))),
    "a layer that the base has not": with_weights(
        weights(tensors(name="base_model.model.model.layers.9.self_attn.q_proj"))
    ),
    "a matrix without its partner": with_weights(weights(dict(list(tensors().items())[:1]))),
    "a rank over the limit": Adapter(rank=8).files(),
    "DoRA": changed(use_dora=True),
    "trained biases": changed(bias="all"),
    "trained embeddings": changed(modules_to_save=["embed_tokens"]),
    "PiSSA": changed(init_lora_weights="pissa"),
    "layer replication": changed(layer_replication=[[0, 1]]),
    "remote code": changed(auto_mapping={"parent_library": "evil"}),
    "a key that nobody knows": changed(hook="import os"),
    "a type that is a list": with_weights(
        weights(tensors(), header={f"{PATH}.lora_A.weight": ENTRY | {"dtype": ["F32"]}})
    ),
    "metadata that is no text": with_weights(weights(tensors(), header={"__metadata__": {"a": 1}})),
    "a number that bfloat16 has not": with_weights(
        weights({**tensors(), f"{PATH}.lora_B.weight": ("F32", (4, 2), floats([0.0] * 7 + [-3.4e38]))})
    ),
    "a rank that a dot stands for": changed(rank_pattern={"q.proj": 4}),
    "a scale that is neither": changed(use_rslora="yes"),
    "a pattern that is a regular expression": changed(rank_pattern={"(a+)+$": 2}),
    "an alpha that is no number": changed(lora_alpha="1e9"),
    "a configuration that is no JSON": {**Adapter().files(), "adapter_config.json": b"cos\nsystem"},
    "a key that stands twice": {**Adapter().files(), "adapter_config.json": b'{"r": 2, "r": 4}'},
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_it_is_refused_with_a_sentence(case, tmp_path):
    with pytest.raises(Failure) as caught:
        await verify(write(tmp_path, HOSTILE[case]), RULES)
    assert caught.value.reason is Reason.WEIGHTS_REFUSED
    assert len(caught.value.variables["problem"]) > 10
    # Of its own: not what is said of a child that died.
    assert "within the limits" not in caught.value.variables["problem"]


async def test_a_whole_adapter_is_accepted_and_its_configuration_written_anew(tmp_path):
    files = Adapter(config={"base_model_name_or_path": "/etc/passwd", "lora_dropout": 0.1}).files()
    verdict = await verify(write(tmp_path, files), RULES)
    assert (verdict.rank, verdict.parameters) == (2, 20)
    assert "base_model_name_or_path" not in verdict.config
    assert verdict.config["target_modules"] == ["q_proj"]


async def test_a_rank_that_no_module_has_does_not_reach_the_engine(tmp_path):
    files = changed(r=10**9, rank_pattern={MODULE: 2})
    assert (await verify(write(tmp_path, files), RULES)).config["r"] == 2


async def test_a_check_that_takes_too_long_is_a_refusal(tmp_path):
    with pytest.raises(Failure) as caught:
        await verify(write(tmp_path, Adapter().files()), RULES, seconds=0.001)
    assert caught.value.reason is Reason.WEIGHTS_REFUSED


async def test_missing_files_are_a_refusal(tmp_path):
    with pytest.raises(Failure) as caught:
        await verify(tmp_path, RULES)
    assert caught.value.reason is Reason.WEIGHTS_REFUSED


def test_the_base_says_how_wide_its_modules_are(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors(BASE))
    widths = base_rules(tmp_path, 8).widths
    assert widths == {"model.layers.1.self_attn.k_proj": (4, 6), "model.layers.0.mlp.down_proj": (6, 8)}


def test_embedding_and_head_are_adapted_only_where_the_deployment_says_so(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors(BASE))
    widths = base_rules(tmp_path, 8, ["embed_tokens", "lm_head", "k_proj"]).widths
    assert widths == {
        "model.layers.1.self_attn.k_proj": (4, 6), "model.embed_tokens": (6, 10), "lm_head": (10, 6),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"out_proj\b.* down_proj, embed_tokens"):
        base_rules(tmp_path, 8, ["out_proj"])


def test_modules_have_the_names_that_their_architecture_gives_them(tmp_path):
    layer = "model.decoder.layers.3"
    opt = {
        f"{layer}.self_attn.out_proj.weight": ("F32", (4, 4), bytes(64)),
        f"{layer}.fc1.weight": ("F32", (8, 4), bytes(128)),
        "model.decoder.embed_tokens.weight": ("F32", (10, 4), bytes(160)),
        "model.decoder.embed_positions.weight": ("F32", (12, 4), bytes(192)),
        f"{layer}.fc1.bias": ("F32", (8,), bytes(32)),
    }
    (tmp_path / "model.safetensors").write_bytes(safetensors(opt))
    assert base_rules(tmp_path, 8).widths == {f"{layer}.self_attn.out_proj": (4, 4), f"{layer}.fc1": (8, 4)}
    assert base_rules(tmp_path, 8, ["lm_head"]).widths == {"lm_head": (10, 4)}


async def test_an_adapter_of_embedding_and_head_passes_under_their_own_names(tmp_path):
    rules = BaseRules({"model.embed_tokens": (6, 10), "lm_head": (10, 6)}, max_rank=4)
    parts = {
        "base_model.model.model.embed_tokens.lora_embedding_A": ("F32", (2, 10), bytes(80)),
        "base_model.model.model.embed_tokens.lora_embedding_B": ("F32", (6, 2), bytes(48)),
        **tensors(down=(2, 6), up=(10, 2), name="base_model.model.lm_head"),
    }
    verdict = await verify(write(tmp_path, with_weights(weights(parts))), rules)
    assert verdict.config["target_modules"] == ["embed_tokens", "lm_head"]
    misnamed = tensors(down=(2, 10), up=(6, 2), name="base_model.model.model.embed_tokens")
    with pytest.raises(Failure) as caught:
        await verify(write(tmp_path, with_weights(weights(misnamed))), rules)
    assert "lora_embedding_A" in caught.value.variables["problem"]


@pytest.mark.parametrize(
    ("case", "merged"),
    [
        (changed(use_dora=True), True),
        (changed(bias="all"), True),
        (changed(lora_bias=True), True),
        (changed(modules_to_save=["lm_head"]), True),
        (changed(trainable_token_indices=[1]), True),
        (with_weights(weights({**tensors(), "base_model.model.lm_head.weight": ("F32", (10, 6), bytes(240))})), True),
        (changed(init_lora_weights="pissa"), False),
        (changed(layer_replication=[[0, 1]]), False),
    ],
)
async def test_what_a_merge_would_make_servable_says_so(case, merged, tmp_path):
    with pytest.raises(Failure) as caught:
        await verify(write(tmp_path, case), RULES)
    assert ("trivium models merge" in caught.value.sentence) is merged


def test_a_manifest_that_does_not_hash_to_the_version_is_refused():
    fields = {"tenant": "t", "model": "m", "kind": "LORA", "base_digest": "b", "template_digest": "", "files": []}
    text = json.dumps(fields)
    version = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert read_manifest(VersionFacts(version, text)).model == "m"
    with pytest.raises(Failure) as caught:
        read_manifest(VersionFacts(version, text.replace('"m"', '"n"')))
    assert caught.value.reason is Reason.WEIGHTS_REFUSED
