"""A full model is taken only when it is whole, served, and asks for nothing beside itself."""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.registry.inspection import Unfit
from services.registry.inspection.child import judge
from services.registry.inspection.layout import ARCHITECTURES, tensors
from services.registry.inspection.tensors import read_header, require_finite
from tests.adapters import safetensors
from tests.tiny_model import TinyModel, tokenizer_files


def judged(folder: Path, files: Mapping[str, bytes], **task: object) -> dict[str, object]:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return judge({"kind": "FULL", "files": {name: str(folder / name) for name in files}, **task})


def configured(**changes: Any) -> dict[str, bytes]:
    config = {**TinyModel().config(), **changes}
    return {**TinyModel().files(), "config.json": json.dumps({k: v for k, v in config.items() if v != ...}).encode()}


def with_json(name: str, content: object) -> dict[str, bytes]:
    return {**TinyModel().files(), name: json.dumps(content).encode()}


def with_weights(**changes: Any) -> dict[str, bytes]:
    """Weights in which a tensor is another, or (None) missing."""
    weights = {**TinyModel().weights(), **{name.replace("__", "."): value for name, value in changes.items()}}
    entries = {k: ("F32", v.shape, v.astype("<f4").tobytes()) for k, v in weights.items() if v is not None}
    return {**TinyModel().files(), "model.safetensors": safetensors(entries)}


def with_index(where: object) -> dict[str, bytes]:
    return {**TinyModel(shards=2).files(), "model.safetensors.index.json": json.dumps(where).encode()}


def without(name: str) -> dict[str, bytes]:
    return {key: content for key, content in TinyModel().files().items() if key != name}


def tokens_over(limit: int) -> bytes:
    tokenizer = json.loads(TinyModel().files()["tokenizer.json"])
    tokenizer["model"]["vocab"]["beyond"] = limit
    return json.dumps(tokenizer).encode()


NAN = np.full((64,), np.nan, np.float32)
HUGE = struct.pack("<Q", 1 << 31) + b"{}" + bytes(64)
HOSTILE: dict[str, tuple[dict[str, bytes], str]] = {
    "code in the configuration": (configured(auto_map={"AutoModel": "modeling.Model"}), r"\bconfig\.json.* auto_map"),
    "code in the tokenizer's": (with_json("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "x.Y"}}), r"tokenizer_config\.json.* auto_map"),
    "a kernel": (configured(attn_implementation="org/kernel"), "attn_implementation"),
    "an unknown architecture": (configured(architectures=["EvilForCausalLM"]), "EvilForCausalLM.* LlamaForCausalLM"),
    "two architectures": (configured(architectures=["LlamaForCausalLM", "EvilForCausalLM"]), "architecture.*EvilForCausalLM"),
    "no architecture": (configured(architectures=...), "architecture"),
    "a type that is another": (configured(model_type="evil"), "model_type.* LlamaForCausalLM"),
    "quantised weights": (configured(quantization_config={"quant_method": "awq"}), "quantization_config"),
    "a vocabulary of a billion": (configured(vocab_size=10**9), "vocab_size.* 2097152"),
    "layers of a billion": (configured(num_hidden_layers=10**9), "num_hidden_layers.* 512"),
    "positions of a billion": (configured(max_position_embeddings=10**9), "max_position_embeddings.* 4194304"),
    "positions that are stretched": (configured(rope_scaling={"factor": 1e6}), "rope_scaling.* 4194304"),
    "a size that is true": (configured(hidden_size=True), "hidden_size.* 65536"),
    "heads that do not divide": (configured(num_key_value_heads=3), "num_key_value_heads"),
    "a layer more than the weights": (configured(num_hidden_layers=3), r"lack.* model\.layers\.2\."),
    "another width": (configured(intermediate_size=96), r"gate_proj\.weight.* \[128, 64\].* \[96, 64\]"),
    "a missing tensor": (with_weights(model__norm__weight=None), r"lack.* model\.norm\.weight"),
    "a tensor too many": (with_weights(model__evil=NAN * 0 + 1), r"model\.evil"),
    "NaN": (with_weights(model__norm__weight=NAN), r"model\.norm\.weight.* NaN"),
    "a header of 2 GiB": ({**TinyModel().files(), "model.safetensors": HUGE}, f"header.* {1 << 31}"),
    "an index that leads elsewhere": (with_index({"weight_map": {"model.norm.weight": "../../etc/passwd"}}), r"^model\.safetensors\.index\.json (?!.*weight_map)"),
    "an index without a map": (with_index([]), "weight_map"),
    "shards without an index": (
        {k: v for k, v in TinyModel(shards=2).files().items() if "index" not in k}, r"need model\.safetensors\.index\.json",
    ),
    "no tokenizer": (without("tokenizer.json"), r"needs tokenizer\.json"),
    "a tokenizer of another kind": (with_json("tokenizer.json", {"model": {"type": "Code"}}), r"tokenizer\.json.* BPE"),
    "a token beyond the model": ({**TinyModel().files(), "tokenizer.json": tokens_over(320)}, "token 320.* 320"),
    "a template that is none": ({**TinyModel().files(), "chat_template.jinja": b"{% for %}"}, "chat template.* statement block"),
    "a template that is no text": ({**TinyModel().files(), "chat_template.jinja": b"\xff\xfe"}, r"chat_template\.jinja.* UTF-8"),
    "a file that nobody reads": ({**TinyModel().files(), "modeling.json": b"{}"}, r"modeling\.json"),
    "a name that climbs": ({**TinyModel().files(), "..safetensors": b"{}"}, r"\.\.safetensors"),
    "no configuration": (without("config.json"), r"needs config\.json"),
    "no weights": (without("model.safetensors"), "needs weights"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_model_is_refused_with_its_reason(tmp_path: Path, kind: str) -> None:
    files, named = HOSTILE[kind]
    with pytest.raises(Unfit, match=named):
        judged(tmp_path / "m", files)


@pytest.mark.parametrize(
    "model",
    [
        TinyModel(),
        TinyModel(tied=False, shards=3, dtype="BF16"),
        TinyModel(template=""),
        TinyModel(changes={"attention_bias": True, "mlp_bias": True, "head_dim": 32}),
        TinyModel(changes={"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
    ],
)
def test_a_whole_model_is_taken_and_counted(tmp_path: Path, model: TinyModel) -> None:
    counted = sum(value.size for value in model.weights().values())
    assert judged(tmp_path / "m", model.files()) == {"fit": True, "parameters": counted}


def test_a_token_may_be_called_like_a_key_that_asks_for_code(tmp_path: Path) -> None:
    files = TinyModel().files()
    tokenizer = json.loads(files["tokenizer.json"])
    tokenizer["model"]["vocab"]["auto_map"] = 300
    assert judged(tmp_path / "m", {**files, "tokenizer.json": json.dumps(tokenizer).encode()})["fit"]


def test_of_a_model_beyond_the_bound_a_sample_of_its_numbers_is_read(tmp_path: Path) -> None:
    values = np.zeros((1 << 20,), np.float32)
    values[(1 << 20) - 3] = np.nan  # behind the last piece of the sample
    path = tmp_path / "w.safetensors"

    def refused(share: float) -> bool:
        path.write_bytes(safetensors({"w": ("F32", values.shape, values.tobytes())}))
        try:
            require_finite("w", path, read_header("w", path), share)
        except Unfit:
            return True
        return False

    assert refused(1.0)
    assert not refused(0.25)
    values[:] = np.nan
    assert refused(0.25)
    assert refused(0.0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_that_is_named_is_laid_out_as_its_reader_builds_it(name: str) -> None:
    import torch
    import transformers

    kind = ARCHITECTURES[name]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model(
        kind.model_type, **sizes, num_key_value_heads=2, head_dim=16, vocab_size=64, max_position_embeddings=64,
        architectures=[name], pad_token_id=0,
    )  # fmt: skip
    with torch.device("meta"):
        built = getattr(transformers, name)(config)
    told = json.loads(config.to_json_string(use_diff=False))
    named = {key: tuple(value.shape) for key, value in built.state_dict().items()}
    if config.tie_word_embeddings:
        named.pop("lm_head.weight")
    assert tensors(told) == named


def test_every_architecture_that_is_named_is_one_that_the_engine_knows() -> None:
    import importlib.util

    package = importlib.util.find_spec("vllm")
    assert package is not None, "vLLM is not installed; make setup installs it"
    assert package.origin is not None
    registry = (Path(package.origin).parent / "model_executor/models/registry.py").read_text()
    known = set(re.findall(r'"(\w+ForCausalLM)":', registry))
    assert set(ARCHITECTURES) <= known


def test_the_tokenizer_of_the_tests_speaks_its_marks() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_files(added=("<|tool|>",))["tokenizer.json"].decode())
    assert tokenizer.encode("<|im_start|>a<|tool|>").tokens == ["<|im_start|>", "a", "<|tool|>"]
