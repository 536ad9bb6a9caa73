"""Whether a base can take a job's rows, asked before its first step, whichever way it trains.

Invariant: no row goes past a base's positions, which some bases take in silence and answer worse for, and none has a
token that the base lacks, which fails inside a pass.
"""

from typing import Any

from services.trainer.conduct import Refused
from services.trainer.joint.dataset import Splits


def require_within(splits: Splits, config: Any) -> None:
    """Raise Refused for rows that are longer, or have higher tokens, than a base of this transformers `config` takes."""
    sizes = config.get_text_config()
    positions = getattr(sizes, "max_position_embeddings", None)
    for rows in splits.by_name().values():
        if rows.highest_token >= sizes.vocab_size:
            raise Refused(
                "SETTINGS_UNFIT",
                f"the tokenizer has a token {rows.highest_token}, the base knows {sizes.vocab_size}. Import the base with "
                "the tokenizer that it was trained with.",
            )
        if positions is not None and rows.longest_tokens > positions:
            raise Refused(
                "SETTINGS_UNFIT",
                f"rows have up to {rows.longest_tokens} tokens, the base takes {positions}. Lower max_row_tokens.",
            )
