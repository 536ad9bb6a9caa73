"""What makes a full model whole: a configuration that is served, its tensors to the last shape, a tokenizer.

Invariant: an accepted model is a folder that transformers and vLLM read without looking anywhere else:
every file has a name that they know, the weights are what the configuration says, and nothing in it asks
for code, a kernel or a second model.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from services.registry.inspection import Unfit
from services.registry.inspection.layout import architecture, check_positions, tensors
from services.registry.inspection.tensors import Tensor

FLOATS = frozenset({"F32", "F16", "BF16"})
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
# What a full model may bring beside its weights; a model folder holds other things too, which nobody reads.
TOKENIZER_FILES = frozenset({
    TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "vocab.txt", TEMPLATE, "chat_template.json",
})  # fmt: skip
FULL_FILES = TOKENIZER_FILES | {CONFIG, "generation_config.json", INDEX}
_WEIGHTS = re.compile(r"^model(-\d{5}-of-\d{5})?\.safetensors$")
_MAX_TEXT_BYTES = 16 * 1024 * 1024
_MAX_TEMPLATE_CHARACTERS = 256 * 1024
_MODELS = frozenset({"BPE", "Unigram", "WordPiece", "WordLevel"})
# Keys by which a configuration chooses how attention is computed; another value names a kernel to be fetched.
_COMPUTES = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
_COMPUTED = (None, "eager", "sdpa", "flash_attention_2")
# Old checkpoints carry this table; everybody computes it anew.
_IGNORED = re.compile(r"^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$")


def belongs(filename: str) -> bool:
    """Whether a full model may hold a file of this name."""
    return filename in FULL_FILES or _WEIGHTS.match(filename) is not None


def check_full(
    files: Mapping[str, Path], parsed: Mapping[str, object], weights: Mapping[str, list[Tensor]]
) -> dict[str, object]:
    """Check all files of a full model together.  Raises Unfit."""
    for name in files:
        if not belongs(name):
            raise Unfit(f"{name[:128]} is no file of a full model")
    config = parsed.get(CONFIG)
    if not isinstance(config, dict):
        raise Unfit("a full model needs config.json")
    _check_config(config)
    _check_weights(config, weights, parsed.get(INDEX))
    vocabulary = config["vocab_size"]
    assert isinstance(vocabulary, int)  # the layout of the tensors saw to it
    _check_tokenizer(parsed, vocabulary)
    check_texts(files, parsed)
    return {"parameters": sum(_count(tensor) for found in weights.values() for tensor in found)}


def _check_config(config: Mapping[str, object]) -> None:
    architecture(config)
    check_positions(config)
    if config.get("quantization_config"):
        raise Unfit("config.json: quantization_config: import the plain weights; the engine quantises by itself")
    for key in _COMPUTES:
        if config.get(key) not in _COMPUTED:
            raise Unfit(f"config.json: {key} asks for a kernel to be loaded, which is never done")


def _check_weights(config: Mapping[str, object], weights: Mapping[str, list[Tensor]], index: object) -> None:
    if not weights:
        raise Unfit("a full model needs weights in safetensors")
    found: dict[str, tuple[str, Tensor]] = {}
    for name, held in weights.items():
        for tensor in held:
            if tensor.name in found:
                raise Unfit(f"two weights files hold the tensor {tensor.name[:200]}")
            if tensor.dtype not in FLOATS:
                raise Unfit(f"{name}: tensor {tensor.name[:200]} has dtype {tensor.dtype}")
            found[tensor.name] = (name, tensor)
    _check_index(set(weights), found, index)
    _check_shapes(config, {name: tensor.shape for name, (_, tensor) in found.items()})


def _check_shapes(config: Mapping[str, object], found: Mapping[str, tuple[int, ...]]) -> None:
    wanted = tensors(config)
    for name, shape in wanted.items():
        if name not in found:
            raise Unfit(f"the weights lack the tensor {name}, which config.json demands")
        if found[name] != shape:
            raise Unfit(f"{name} has the shape {list(found[name])}, config.json demands {list(shape)}")
    for name in found:
        tied_head = name == "lm_head.weight" and found[name] == wanted["model.embed_tokens.weight"]
        if name not in wanted and not tied_head and not _IGNORED.match(name):
            raise Unfit(f"the tensor {name[:200]} is none that config.json knows")


def _check_index(files: set[str], found: Mapping[str, tuple[str, Tensor]], index: object) -> None:
    if index is None:
        if files != {"model.safetensors"}:
            raise Unfit(f"weights in several files need {INDEX}; weights in one are called model.safetensors")
        return
    where = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(where, dict):
        raise Unfit(f"{INDEX} has no weight_map")
    if where != {name: file for name, (file, _) in found.items()}:
        raise Unfit(f"{INDEX} says another thing than the weights: save the model anew")


def _check_tokenizer(parsed: Mapping[str, object], vocabulary: int) -> None:
    tokenizer = parsed.get(TOKENIZER)
    if not isinstance(tokenizer, dict):
        raise Unfit(f"a full model needs {TOKENIZER}; AutoTokenizer.from_pretrained(…).save_pretrained writes it")
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") not in _MODELS:
        raise Unfit(f"{TOKENIZER}: its model is none of {', '.join(sorted(_MODELS))}")
    known = model.get("vocab")
    if isinstance(known, dict):
        numbers = list(known.values())
    elif isinstance(known, list):
        numbers = list(range(len(known)))
    else:
        raise Unfit(f"{TOKENIZER}: its model has no vocabulary")
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise Unfit(f"{TOKENIZER}: added_tokens must be a list of objects")
    numbers += [token.get("id") for token in added]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise Unfit(f"{TOKENIZER}: a token has no number")
    if numbers and max(numbers) >= vocabulary:
        raise Unfit(f"{TOKENIZER}: it has a token {max(numbers)}, the model has {vocabulary} tokens")


def check_texts(files: Mapping[str, Path], parsed: Mapping[str, object]) -> None:
    """Check what is neither JSON nor weights: text, and templates that parse.  Raises Unfit."""
    for name, path in files.items():
        if name.endswith((".txt", ".jinja")):
            _text(name, path)
    for text in _templates(files, parsed):
        if not isinstance(text, str) or len(text) > _MAX_TEMPLATE_CHARACTERS:
            raise Unfit(f"the chat template must be text of at most {_MAX_TEMPLATE_CHARACTERS} characters")
        _check_template(text)


def _text(name: str, path: Path) -> str:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise Unfit(f"{name} has over {_MAX_TEXT_BYTES} bytes")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise Unfit(f"{name} is not UTF-8 text") from None


def _templates(files: Mapping[str, Path], parsed: Mapping[str, object]) -> list[object]:
    found: list[object] = []
    if TEMPLATE in files:
        found.append(_text(TEMPLATE, files[TEMPLATE]))
    settings = parsed.get(TOKENIZER_CONFIG)
    if settings is not None and not isinstance(settings, dict):
        raise Unfit(f"{TOKENIZER_CONFIG} is not an object")
    told = (settings or {}).get("chat_template")
    if isinstance(told, list):
        found += [item.get("template") if isinstance(item, dict) else None for item in told]
    elif told:
        found.append(told)
    return found


def _check_template(text: str) -> None:
    """Parse, never render, where the language's parser is at hand; who renders it does so in a sandbox."""
    try:
        from jinja2 import Environment, TemplateError
    except ImportError:
        return
    try:
        # The two that every reader of chat templates switches on, and the tag that transformers adds.
        parser = Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"], autoescape=True)
        parser.parse(re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", text))
    except (TemplateError, RecursionError) as error:
        raise Unfit(f"the chat template cannot be parsed: {str(error)[:200]}") from None


def _count(tensor: Tensor) -> int:
    total = 1
    for size in tensor.shape:
        total *= size
    return total
