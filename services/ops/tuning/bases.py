"""What training begins as: a model that this machine can resolve, as the embedder reads it.

Invariant: the tokenizer that is trained with is the `tokenizer.json` that is served with, to the token.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis import models
from services.chassis.errors import Failure
from services.embedder import cross_encoder, model
from services.ops.tuning.refusal import Untrainable
from services.ops.tuning.role import Role

_TOKENIZER = "tokenizer.json"
_TOKENIZER_SETTINGS = "tokenizer_config.json"
# What else a folder says of its tokenizer, for those who read it by other libraries.
_TOKENIZER_FILES = (_TOKENIZER, _TOKENIZER_SETTINGS, "special_tokens_map.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class Base:
    """A resolved model: where it comes from, its digest, its folder, what it is, and the tokens that it reads at most.

    ``pair_tokens`` are those of a question and a passage together, for a reranker that begins as it.
    """

    uri: str
    name: str
    digest: str
    folder: Path
    role: Role
    max_tokens: int
    pair_tokens: int

    def tokens(self, role: Role) -> int:
        """What it reads at most as a model of a role."""
        return self.max_tokens if role is Role.EMBEDDER else self.pair_tokens


def opened(uri: str) -> Base:
    """The model behind an address.  Blocks.  Raises Untrainable for what the embedder would not serve."""
    try:
        resolved = models.resolve(uri)
        kinds = model.folder_json(resolved.path / "config.json").get("architectures") or [""]
        if str(kinds[0]).endswith("ForSequenceClassification"):
            role, facts = Role.RERANKER, cross_encoder.described(resolved)
        else:
            role, facts = Role.EMBEDDER, model.described(resolved)
    except Failure as failure:
        raise Untrainable(failure.sentence) from None
    if not (resolved.path / _TOKENIZER).is_file():
        raise Untrainable(f"{uri} has no {_TOKENIZER}; save it with a fast tokenizer, or name another --base")
    told = model.folder_json(resolved.path / _TOKENIZER_SETTINGS).get("model_max_length", facts.max_tokens)
    positions = model.positions_of(resolved, model.folder_json(resolved.path / "config.json"))
    pair = facts.max_tokens if role is Role.RERANKER else min(int(told), positions)
    return Base(uri, resolved.name, resolved.digest, resolved.path, role, facts.max_tokens, pair)


def workspace(base: Base, role: Role, folder: Path) -> Path:
    """A folder of its own with the base's weights and configuration, and the tokenizer as the embedder reads it."""
    folder.mkdir(parents=True)
    for path in sorted(base.folder.iterdir()):
        if path.name in ("config.json", _TOKENIZER) or ".safetensors" in path.suffixes:
            (folder / path.name).symlink_to(path.resolve())
    (folder / _TOKENIZER_SETTINGS).write_text(json.dumps(_settings(base, role)))
    return folder


def write_tokenizer(base: Base, role: Role, folder: Path) -> None:
    """Put the base's tokenizer into a model's folder, with its settings where it brings none."""
    for name in _TOKENIZER_FILES:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)
    if not (folder / _TOKENIZER_SETTINGS).exists():
        (folder / _TOKENIZER_SETTINGS).write_text(json.dumps(_settings(base, role)))


def _settings(base: Base, role: Role) -> dict[str, Any]:
    """Settings under which the library reads ``tokenizer.json`` and adds nothing of its own."""
    from tokenizers import Tokenizer

    pad = model.folder_json(base.folder / "config.json").get("pad_token_id") or 0
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": Tokenizer.from_file(str(base.folder / _TOKENIZER)).id_to_token(pad),
        "model_max_length": base.tokens(role),
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
