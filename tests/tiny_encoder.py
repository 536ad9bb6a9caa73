"""Encoders of a few thousand weights, built by code: for tests of what a model's size is nothing to."""

from pathlib import Path

WORDS = "boat ferry fog horn crown crowns ticket fare price crossing single costs six nine the a at of is what how much"
WORDS += " leaves sounds twice paint ordered march april long winter stone river lamp paper 1 2 3 4 5 6 7 8 9"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
DIMENSIONS = 32
MAX_TOKENS = 48


def build_encoder(folder: Path, *, seed: int = 1, mean: bool = True, kind: str = "Bert") -> Path:
    """A sentence encoder of two layers and 32 dimensions, of a ``kind`` as transformers spells it, with random weights.

    Trained at 48 tokens, it says.  ``seed`` gives other weights.
    """
    _build(folder, f"{kind}Model", seed)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(f'{{"pooling_mode_mean_tokens": {str(mean).lower()}}}')
    (folder / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {MAX_TOKENS}}}')
    return folder


def build_cross_encoder(folder: Path, *, seed: int = 2, labels: int = 1) -> Path:
    """A sequence classifier over pairs, of the same size."""
    _build(folder, "BertForSequenceClassification", seed, num_labels=labels)
    return folder


def _build(folder: Path, name: str, seed: int, **more: int) -> None:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    kind = getattr(transformers, name)
    config = kind.config_class(
        vocab_size=len(vocabulary),
        hidden_size=DIMENSIONS,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
        # Wide, so that words, segments and order show in what comes out.
        initializer_range=0.4,
        **more,
    )
    torch.manual_seed(seed)
    kind(config).eval().save_pretrained(folder, safe_serialization=True)
