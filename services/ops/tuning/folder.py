"""A trained model as the registry and the embedder take one: a flat folder of safetensors, JSON and a word list."""

import json
from pathlib import Path
from typing import Any

from services.ops.tuning.bases import Base, write_tokenizer
from services.ops.tuning.role import Role

# Never more files than one.
_SHARD = "1TB"


def write(transformer: Any, base: Base, role: Role, folder: Path) -> Path:
    """Write the weights with the base's tokenizer and length into a new folder."""
    folder.mkdir(parents=True)
    transformer.save_pretrained(folder, safe_serialization=True, max_shard_size=_SHARD)
    write_tokenizer(base, role, folder)
    if role is Role.EMBEDDER:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": base.max_tokens}))
    return folder
