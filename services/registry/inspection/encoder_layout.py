"""Which architectures an encoder may have, and which tensors, of which shapes, its configuration then demands.

BERT's, and RoBERTa's and XLM-RoBERTa's, whose layers are named alike: a body that makes vectors (an embedder), or the
body under a classifier of one label, which scores pairs (a reranker).  Invariant: as in :mod:`layout`, what is
returned follows from numbers within bounds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.registry.inspection import Unfit

Shapes = dict[str, tuple[int, ...]]

EMBEDDER, RERANKER = "EMBEDDER", "RERANKER"
_MOST = {
    "hidden_size": 1 << 14,
    "intermediate_size": 1 << 16,
    "num_hidden_layers": 256,
    "num_attention_heads": 1024,
    "vocab_size": 1 << 21,
    "max_position_embeddings": 1 << 17,
    "type_vocab_size": 1 << 10,
}
# Of the largest square that is added up; float32 and bfloat16 end at 2^128.
_MOST_EXPONENT = 122
# What transformers knows by these names of the functions that encoders are trained with.
_ACTIVATIONS = frozenset({"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "tanh"})
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


@dataclass(frozen=True, slots=True)
class Encoder:
    """One architecture: what it makes, and the prefix of its body's tensors where a head lies over it.

    ``padded`` ones count positions from behind their padding's token.
    """

    model_type: str
    role: str
    prefix: str = ""
    padded: bool = False


ENCODERS: Mapping[str, Encoder] = {
    "BertModel": Encoder("bert", EMBEDDER),
    "BertForSequenceClassification": Encoder("bert", RERANKER, "bert."),
    "RobertaModel": Encoder("roberta", EMBEDDER, padded=True),
    "RobertaForSequenceClassification": Encoder("roberta", RERANKER, "roberta.", padded=True),
    "XLMRobertaModel": Encoder("xlm-roberta", EMBEDDER, padded=True),
    "XLMRobertaForSequenceClassification": Encoder("xlm-roberta", RERANKER, "roberta.", padded=True),
}


def encoder(config: Mapping[str, object]) -> Encoder:
    """The architecture that ``config.json`` names.  Raises Unfit."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    found = ENCODERS.get(name) if isinstance(name, str) else None
    if found is None:
        raise Unfit(f"config.json: the architecture {str(names)[:80]} is no encoder; these are: {', '.join(ENCODERS)}")
    if config.get("model_type") != found.model_type:
        raise Unfit(f"config.json: model_type must be {found.model_type} for {name}")
    return found


def tensors(config: Mapping[str, object]) -> Shapes:
    """Name and shape of every tensor that an encoder of this configuration has, but its pooler.  Raises Unfit."""
    kind, hidden = encoder(config), _number(config, "hidden_size")
    inner, heads = _number(config, "intermediate_size"), _number(config, "num_attention_heads")
    if hidden % heads:
        raise Unfit("config.json: num_attention_heads must divide hidden_size")
    embeddings = {
        "word_embeddings": _number(config, "vocab_size"),
        "position_embeddings": positions(config),
        "token_type_embeddings": _number(config, "type_vocab_size", 2),
    }
    shapes: Shapes = {f"embeddings.{name}.weight": (rows, hidden) for name, rows in embeddings.items()}
    shapes.update(_norm("embeddings.LayerNorm", hidden))
    for layer in range(_number(config, "num_hidden_layers")):
        at = f"encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes.update(_linear(f"{at}.{name}", hidden, hidden))
        shapes.update(_linear(f"{at}.intermediate.dense", inner, hidden))
        shapes.update(_linear(f"{at}.output.dense", hidden, inner))
        shapes.update(_norm(f"{at}.attention.output.LayerNorm", hidden) | _norm(f"{at}.output.LayerNorm", hidden))
    shapes = {f"{kind.prefix}{name}": shape for name, shape in shapes.items()}
    return shapes | (_head(kind, hidden) if kind.role == RERANKER else {})


def pooler(config: Mapping[str, object]) -> Shapes:
    """The tensors of the layer over the first token, which an embedder may bring and which is not used.  Raises Unfit."""
    hidden = _number(config, "hidden_size")
    return _linear("pooler.dense", hidden, hidden) if encoder(config).role == EMBEDDER else {}


def positions(config: Mapping[str, object]) -> int:
    """The rows of the table of positions.  Raises Unfit."""
    return _number(config, "max_position_embeddings")


def largest_exponent(config: Mapping[str, object]) -> int:
    """The power of two that all numbers must stay under so that no sum in float32 and bfloat16 is infinite.

    With numbers under 2^b, a width of 2^h and an inner one of 2^i, a norm gives up to 2^(h/2+b+1); two linear layers on
    that (values and what follows, or the two of the inner width) 2^(3b+max(5h/2, 3h/2+i)+1), whose squares the next
    norm adds up.  Trained encoders have numbers of some dozens at most; of theirs the bound is some hundreds.
    Raises Unfit.
    """
    width = math.log2(_number(config, "hidden_size"))
    inner = math.log2(_number(config, "intermediate_size"))
    return int((_MOST_EXPONENT - max(5 * width, 3 * width + 2 * inner) - width) // 6)


def usable_positions(config: Mapping[str, object]) -> int:
    """How many tokens a text may have at most.  Raises Unfit."""
    before = 0
    if encoder(config).padded:
        pad = config.get("pad_token_id", 1)
        assert isinstance(pad, int)  # check_computing saw to it
        before = pad + 1
    return positions(config) - before


def check_computing(config: Mapping[str, object]) -> None:
    """Hold what else decides how an encoder computes to what is known.  Raises Unfit."""
    kind = encoder(config)
    if config.get("position_embedding_type", "absolute") not in (None, "absolute"):
        raise Unfit("config.json: position_embedding_type must be absolute")
    for key in ("is_decoder", "add_cross_attention", "is_encoder_decoder", "pruned_heads", "chunk_size_feed_forward"):
        if config.get(key):
            raise Unfit(f"config.json: {key} makes something else of it than an encoder as it was published")
    if config.get("hidden_act", "gelu") not in _ACTIVATIONS:
        raise Unfit(f"config.json: hidden_act must be one of {', '.join(sorted(_ACTIVATIONS))}")
    _check_number(config, "layer_norm_eps", 1e-12)
    for key in _SHARES:
        if key != "classifier_dropout" or config.get(key) is not None:
            _check_number(config, key, 0.1)
    _check_padding(config, kind)
    if kind.role == RERANKER:
        _check_label(config)


def _check_padding(config: Mapping[str, object], kind: Encoder) -> None:
    pad = config.get("pad_token_id", 1 if kind.padded else 0)
    if pad is None and not kind.padded:
        return
    if type(pad) is not int or not 0 <= pad < _number(config, "vocab_size"):
        raise Unfit("config.json: pad_token_id must be one of the model's tokens")
    if kind.padded and pad + 2 > positions(config):
        raise Unfit("config.json: pad_token_id leaves no position for a text")


def _check_label(config: Mapping[str, object]) -> None:
    """A reranker says one thing of a pair; what is silent has two labels to every reader."""
    names = config.get("id2label")
    told = [config["num_labels"]] if config.get("num_labels") is not None else []
    if names is not None:
        told.append(len(names) if isinstance(names, dict) else None)
    if not told or any(type(labels) is not int or labels != 1 for labels in told):
        raise Unfit("config.json: a reranker has exactly one label; train it with num_labels=1")


def _check_number(config: Mapping[str, object], key: str, default: float) -> None:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise Unfit(f"config.json: {key} must be a number from 0 to under 1")


def _head(kind: Encoder, hidden: int) -> Shapes:
    if kind.padded:
        return _linear("classifier.dense", hidden, hidden) | _linear("classifier.out_proj", 1, hidden)
    return _linear(f"{kind.prefix}pooler.dense", hidden, hidden) | _linear("classifier", 1, hidden)


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _number(config: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = config.get(key, default)
    if type(value) is not int or not 1 <= value <= _MOST[key]:
        raise Unfit(f"config.json: {key} must be a whole number from 1 to {_MOST[key]}")
    return value
