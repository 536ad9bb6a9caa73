"""An encoder is taken only when it is whole, of a layout that its readers know, and asks for nothing beside itself."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.chassis.models import DEFAULT_EMBEDDING, resolve
from services.registry.inspection import Unfit
from services.registry.inspection.child import judge
from services.registry.inspection.encoder import belongs
from services.registry.inspection.encoder_layout import ENCODERS, largest_exponent, pooler, tensors
from tests.adapters import safetensors
from tests.encoder_files import EncoderFiles
from tests.tiny_encoder import build_cross_encoder, build_encoder
from tests.tiny_model import TinyModel

RERANKER = "BertForSequenceClassification"


def judged(folder: Path, files: Mapping[str, bytes], kind: str = "ENCODER") -> dict[str, object]:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return judge({"kind": kind, "files": {name: str(folder / name) for name in files}})


def judged_folder(folder: Path) -> dict[str, object]:
    return judge(
        {"kind": "ENCODER", "files": {path.name: str(path) for path in folder.iterdir() if belongs(path.name)}}
    )


def configured(architecture: str = "BertModel", **changes: Any) -> dict[str, bytes]:
    config = {**EncoderFiles(architecture).config(), **changes}
    files = EncoderFiles(architecture).files()
    return {**files, "config.json": json.dumps({k: v for k, v in config.items() if v != ...}).encode()}


def with_json(name: str, content: object) -> dict[str, bytes]:
    return {**EncoderFiles().files(), name: json.dumps(content).encode()}


def with_weights(architecture: str = "BertModel", **changes: Any) -> dict[str, bytes]:
    """Weights in which a tensor is another, or (None) missing."""
    weights = {
        **EncoderFiles(architecture).weights(),
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    types = {"float32": "F32", "float64": "F64", "int64": "I64"}
    entries = {k: (types[str(v.dtype)], v.shape, v.tobytes()) for k, v in weights.items() if v is not None}
    return {**EncoderFiles(architecture).files(), "model.safetensors": safetensors(entries)}


def without(name: str) -> dict[str, bytes]:
    return {key: content for key, content in EncoderFiles().files().items() if key != name}


def tokens_up_to(number: int) -> bytes:
    tokenizer = json.loads(EncoderFiles().files()["tokenizer.json"])
    tokenizer["model"]["vocab"]["beyond"] = number
    return json.dumps(tokenizer).encode()


def processed(architecture: str = "BertModel", **post_processor: Any) -> dict[str, bytes]:
    files = EncoderFiles(architecture).files()
    tokenizer = {**json.loads(files["tokenizer.json"]), "post_processor": post_processor}
    return {**files, "tokenizer.json": json.dumps(tokenizer).encode()}


def template(token: int = 2, segment: int = 0) -> dict[str, Any]:
    """A post-processor that puts a token before a text and calls it of a segment."""
    one = [{"SpecialToken": {"id": "[CLS]", "type_id": segment}}, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {"[CLS]": {"id": "[CLS]", "ids": [token], "tokens": ["[CLS]"]}}
    return {"type": "TemplateProcessing", "single": one, "pair": one, "special_tokens": known}


ONES = np.ones((8,), np.float32)
HUGE = struct.pack("<Q", 1 << 31) + b"{}" + bytes(64)
HOSTILE: dict[str, tuple[dict[str, bytes], str]] = {
    "code in the configuration": (configured(auto_map={"AutoModel": "modeling.Model"}), r"\bconfig\.json.* auto_map"),
    "code in the length": (with_json("sentence_bert_config.json", {"model_args": {"trust_remote_code": True}}), "trust_remote_code"),
    "code in the tokenizer's": (with_json("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "x.Y"}}), r"tokenizer_config\.json.* auto_map"),
    "a kernel": (configured(attn_implementation="org/kernel"), "attn_implementation"),
    "quantised weights": (configured(quantization_config={"quant_method": "awq"}), "quantization_config"),
    "an unknown architecture": (configured(architectures=["EvilModel"]), "EvilModel.* BertModel"),
    "two architectures": (configured(architectures=["BertModel", "EvilModel"]), "architecture.*EvilModel"),
    "no architecture": (configured(architectures=...), "architecture"),
    "an architecture that is a list": (configured(architectures=[["BertModel"]]), "architecture"),
    "a model of text": (TinyModel().files() | {"x": b""}, r"generation_config\.json"),
    "a type that is another": (configured(model_type="roberta"), "model_type.* BertModel"),
    "a width of a billion": (configured(hidden_size=10**9), "hidden_size.* 16384"),
    "layers of a billion": (configured(num_hidden_layers=10**9), "num_hidden_layers.* 256"),
    "a vocabulary of a billion": (configured(vocab_size=10**9), "vocab_size.* 2097152"),
    "positions of a billion": (configured(max_position_embeddings=10**9), "max_position_embeddings.* 131072"),
    "segments of a billion": (configured(type_vocab_size=10**9), "type_vocab_size.* 1024"),
    "a size that is true": (configured(hidden_size=True), "hidden_size.* 16384"),
    "a size that is missing": (configured(intermediate_size=...), "intermediate_size.* 65536"),
    "heads that do not divide": (configured(num_attention_heads=3), "num_attention_heads.* hidden_size"),
    "positions that are relative": (configured(position_embedding_type="relative_key"), "position_embedding_type.* absolute"),
    "a decoder": (configured(is_decoder=True), "is_decoder"),
    "attention to another model": (configured(add_cross_attention=True), "add_cross_attention"),
    "heads cut off": (configured(pruned_heads={"0": [1]}), "pruned_heads"),
    "a function nobody knows": (configured(hidden_act="evil"), "hidden_act.* gelu_new"),
    "a norm over nothing": (configured(layer_norm_eps="tiny"), "layer_norm_eps"),
    "everything dropped": (configured(hidden_dropout_prob=1), "hidden_dropout_prob"),
    "padding beyond the tokens": (configured(pad_token_id=16), "pad_token_id.* tokens"),
    "padding before the tokens": (configured(pad_token_id=-1), "pad_token_id.* tokens"),
    "a RoBERTa without padding": (configured("RobertaModel", pad_token_id=None), "pad_token_id.* tokens"),
    "no position behind the padding": (configured("RobertaModel", pad_token_id=15, max_position_embeddings=16), "pad_token_id.* position"),
    "two labels": (configured(RERANKER, id2label={"0": "no", "1": "yes"}), "num_labels=1"),
    "labels that disagree": (configured(RERANKER, num_labels=2), "num_labels=1"),
    "labels not said": (configured(RERANKER, id2label=...), "num_labels=1"),
    "a head of two labels": (
        with_weights(RERANKER, classifier__weight=np.ones((2, 8), np.float32)), r"classifier\.weight.* \[2, 8\].* \[1, 8\]",
    ),
    "a layer more than the weights": (configured(num_hidden_layers=3), r"lack.* encoder\.layer\.2\."),
    "a layer fewer": (configured(num_hidden_layers=1), r"encoder\.layer\.1\."),
    "another width": (configured(intermediate_size=24), r"intermediate\.dense\.weight.* \[16, 8\].* \[24, 8\]"),
    "another number of positions": (configured(max_position_embeddings=64), r"position_embeddings\.weight.* \[32, 8\].* \[64, 8\]"),
    "a missing tensor": (with_weights(embeddings__LayerNorm__bias=None), r"lack.* embeddings\.LayerNorm\.bias"),
    "half a pooler": (with_weights(pooler__dense__bias=None), r"lack.* pooler\.dense\.bias"),
    "a tensor too many": (with_weights(evil=ONES), "evil"),
    "a reranker without its pooler": (with_weights(RERANKER, bert__pooler__dense__weight=None), r"lack.* bert\.pooler\."),
    "a body under another's name": (
        {**EncoderFiles().files(), "config.json": EncoderFiles(RERANKER).files()["config.json"]}, r"lack.* bert\.embeddings\.",
    ),
    "numbers in double": (with_weights(embeddings__LayerNorm__bias=ONES.astype(np.float64)), "F64"),
    "whole numbers as weights": (with_weights(embeddings__LayerNorm__bias=ONES.astype(np.int64)), "dtype I64"),
    "positions that are floats": (
        with_weights(embeddings__position_ids=np.zeros((1, 32), np.float32)), r"position_ids.*I64",
    ),
    "positions of another number": (
        with_weights(embeddings__position_ids=np.arange(64).reshape(1, 64)), r"position_ids.* \[1, 32\]",
    ),
    "NaN": (with_weights(embeddings__LayerNorm__bias=ONES * np.nan), "LayerNorm.bias.* NaN"),
    "infinity": (with_weights(embeddings__LayerNorm__bias=ONES * np.inf), "LayerNorm.bias.* NaN"),
    "numbers out of all proportion": (with_weights(embeddings__LayerNorm__bias=ONES * 1e30), r"LayerNorm\.bias.* 2\^101, over 2\^17"),
    "a pickle": ({**EncoderFiles().files(), "model.safetensors": b"\x80\x04" + bytes(64)}, r"model\.safetensors.* pickle"),
    "a header of 2 GiB": ({**EncoderFiles().files(), "model.safetensors": HUGE}, f"header.* {1 << 31}"),
    "an index that leads elsewhere": (
        with_json("model.safetensors.index.json", {"weight_map": {"pooler.dense.bias": "../../etc/passwd"}}), r"^model\.safetensors\.index\.json",
    ),
    "no tokenizer": (without("tokenizer.json"), r"needs tokenizer\.json"),
    "a tokenizer of another kind": (with_json("tokenizer.json", {"model": {"type": "Code"}}), r"tokenizer\.json.* BPE"),
    "a token beyond the model": ({**EncoderFiles().files(), "tokenizer.json": tokens_up_to(16)}, "token 16.* 16"),
    "a token put before texts beyond the model": (processed(**template(token=16)), "ids 16"),
    "an end beyond the model": (processed(type="BertProcessing", sep=["[SEP]", 99], cls=["[CLS]", 2]), "sep 99"),
    "a token deep in a sequence": (processed(type="Sequence", processors=[template(token=-1)]), "ids -1"),
    "a segment beyond the model": (processed(RERANKER, **template(segment=2)), "type_id 2"),
    "a vocabulary that is no text": ({**EncoderFiles().files(), "vocab.txt": b"\xff\xfe"}, r"vocab\.txt.* UTF-8"),
    "a length beyond the positions": (with_json("sentence_bert_config.json", {"max_seq_length": 33}), "max_seq_length.* 32"),
    "a length of none": (with_json("sentence_bert_config.json", {"max_seq_length": 0}), "max_seq_length.* 32"),
    "a length that is a list": (with_json("sentence_bert_config.json", [24]), r"sentence_bert_config\.json.* object"),
    "letters made small outside": (with_json("sentence_bert_config.json", {"do_lower_case": True}), "do_lower_case"),
    "modules of its own": ({**EncoderFiles().files(), "modules.json": b"[]"}, r"\bmodules\.json"),
    "a chat template": ({**EncoderFiles().files(), "chat_template.jinja": b"{{ 1 }}"}, r"chat_template\.jinja"),
    "no configuration": (without("config.json"), r"needs config\.json"),
    "no weights": (without("model.safetensors"), "needs weights"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_encoder_is_refused_with_its_reason(tmp_path: Path, kind: str) -> None:
    files, named = HOSTILE[kind]
    with pytest.raises(Unfit, match=named):
        judged(tmp_path / "m", files)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_a_whole_encoder_is_taken_counted_and_told_what_it_makes(tmp_path: Path, architecture: str) -> None:
    made = EncoderFiles(architecture)
    counted = sum(value.size for value in made.weights().values())
    role = "RERANKER" if architecture.endswith("Classification") else "EMBEDDER"
    assert judged(tmp_path / "m", made.files()) == {"fit": True, "parameters": counted, "role": role}


def test_segments_matter_only_to_who_tells_them_apart(tmp_path: Path) -> None:
    assert judged(tmp_path / "embedder", processed(**template(segment=2)))["fit"]
    assert judged(tmp_path / "reranker", processed(RERANKER, **template(segment=1)))["fit"]


def test_an_embedder_may_come_without_the_layer_that_is_not_used(tmp_path: Path) -> None:
    made = EncoderFiles(pooled=False)
    assert judged(tmp_path / "m", made.files())["parameters"] == sum(value.size for value in made.weights().values())


def test_a_table_of_positions_that_old_checkpoints_carry_is_passed_over(tmp_path: Path) -> None:
    old = with_weights(embeddings__position_ids=np.arange(32).reshape(1, 32))
    plain = judged(tmp_path / "plain", EncoderFiles().files())
    assert judged(tmp_path / "old", old) == plain


def test_the_deployments_own_embedder_and_what_transformers_saves_pass(tmp_path: Path) -> None:
    default = judged_folder(resolve(DEFAULT_EMBEDDING).path)
    assert default == {"fit": True, "parameters": 22_713_216, "role": "EMBEDDER"}
    assert judged_folder(build_encoder(tmp_path / "own"))["role"] == "EMBEDDER"
    assert judged_folder(build_cross_encoder(tmp_path / "pairs"))["role"] == "RERANKER"
    with pytest.raises(Unfit, match="num_labels=1"):
        judged_folder(build_cross_encoder(tmp_path / "sorts", labels=3))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_that_is_named_is_laid_out_as_its_reader_builds_it(name: str) -> None:
    import torch
    import transformers

    kind = ENCODERS[name]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model(
        kind.model_type, **sizes, vocab_size=64, max_position_embeddings=64, num_labels=1, architectures=[name]
    )
    with torch.device("meta"):
        built = getattr(transformers, name)(config)
    told = json.loads(config.to_json_string(use_diff=False))
    assert tensors(told) | pooler(told) == {key: tuple(value.shape) for key, value in built.state_dict().items()}


def test_numbers_at_their_bound_still_give_finite_results() -> None:
    import torch
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, vocab_size=16, max_position_embeddings=32)
    built = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(
                torch.sign(parameter + 1e-9)
                * 2.0 ** largest_exponent(config.to_dict() | {"architectures": ["BertModel"]})
            )
        assert torch.isfinite(built(torch.arange(16).reshape(1, 16)).last_hidden_state).all()


def test_a_model_of_one_kind_is_told_from_one_of_the_other(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=r"BertModel.* encoder"):
        judged(tmp_path / "m", {k: v for k, v in EncoderFiles().files().items() if "sentence" not in k}, kind="FULL")
