"""What any model's folder must be, whatever the model computes: weights that are indexed, a tokenizer that fits, plain text.

Invariant: an accepted folder is read by transformers without looking anywhere else, and nothing in it asks for code, a
kernel or a second model.
"""

import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

from services.registry.inspection import Unfit
from services.registry.inspection.tensors import Tensor

FLOATS = frozenset({"F32", "F16", "BF16"})
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
VOCABULARY_FILES = frozenset({
    TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
})  # fmt: skip
_WEIGHTS = re.compile(r"^model(-\d{5}-of-\d{5})?\.safetensors$")
_MAX_TEXT_BYTES = 16 * 1024 * 1024
_MAX_TEMPLATE_CHARACTERS = 256 * 1024
_MODELS = frozenset({"BPE", "Unigram", "WordPiece", "WordLevel"})
# Keys by which a configuration chooses how attention is computed; another value names a kernel to be fetched.
_COMPUTES = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
_COMPUTED = (None, "eager", "sdpa", "flash_attention_2")


def is_weights(filename: str) -> bool:
    """Whether a file is named as transformers names weights."""
    return _WEIGHTS.match(filename) is not None


def configuration(parsed: Mapping[str, object], what: str) -> Mapping[str, object]:
    """The folder's ``config.json``, which asks for plain weights and known kernels.  Raises Unfit."""
    config = parsed.get(CONFIG)
    if not isinstance(config, dict):
        raise Unfit(f"{what} needs {CONFIG}")
    if config.get("quantization_config"):
        raise Unfit("config.json: quantization_config: import the plain weights; the engine quantises by itself")
    for key in _COMPUTES:
        if config.get(key) not in _COMPUTED:
            raise Unfit(f"config.json: {key} asks for a kernel to be loaded, which is never done")
    return config


def held_tensors(weights: Mapping[str, list[Tensor]], index: object, what: str) -> dict[str, Tensor]:
    """Every tensor of the weights files by its name, each once and where the index says.  Raises Unfit."""
    if not weights:
        raise Unfit(f"{what} needs weights in safetensors")
    where: dict[str, str] = {}
    found: dict[str, Tensor] = {}
    for name, held in weights.items():
        for tensor in held:
            if tensor.name in found:
                raise Unfit(f"two weights files hold the tensor {tensor.name[:200]}")
            found[tensor.name], where[tensor.name] = tensor, name
    _check_index(set(weights), where, index)
    return found


def _check_index(files: set[str], found: Mapping[str, str], index: object) -> None:
    if index is None:
        if files != {"model.safetensors"}:
            raise Unfit(f"weights in several files need {INDEX}; weights in one are called model.safetensors")
        return
    where = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(where, dict):
        raise Unfit(f"{INDEX} has no weight_map")
    if where != found:
        raise Unfit(f"{INDEX} says another thing than the weights: save the model anew")


def check_shapes(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor], ignored: Callable[[Tensor], bool]
) -> int:
    """Hold tensors to what the configuration demands; how many numbers they are.  Raises Unfit.

    ``ignored`` says which beside them every reader passes over.
    """
    for name, shape in wanted.items():
        if name not in found:
            raise Unfit(f"the weights lack the tensor {name}, which config.json demands")
        if found[name].shape != shape:
            raise Unfit(f"{name} has the shape {list(found[name].shape)}, config.json demands {list(shape)}")
    for name, tensor in found.items():
        if name not in wanted and not ignored(tensor):
            raise Unfit(f"the tensor {name[:200]} is none that config.json knows")
    return sum(prod(tensor.shape) for tensor in found.values())


def require_floats(tensors: Mapping[str, Tensor]) -> None:
    """Raise Unfit for a tensor of anything but numbers that models compute with."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise Unfit(f"tensor {name[:200]} has dtype {tensor.dtype}")


def check_tokenizer(parsed: Mapping[str, object], vocabulary: int, what: str, segments: int = 0) -> None:
    """Check that a tokenizer is there, and that the model has a row for each token and segment that it gives.

    ``segments`` are how many the model tells apart; 0 where nobody asks the tokenizer for them.  Raises Unfit.
    """
    tokenizer = parsed.get(TOKENIZER)
    if not isinstance(tokenizer, dict):
        raise Unfit(f"{what} needs {TOKENIZER}; AutoTokenizer.from_pretrained(…).save_pretrained writes it")
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
    _check_post_processor(tokenizer.get("post_processor"), vocabulary, segments)


def _check_post_processor(content: object, vocabulary: int, segments: int) -> None:
    """What it puts around a text has numbers of its own, which no reader holds to the vocabulary."""
    pending: list[tuple[str, object]] = [("", content)]
    while pending:
        key, item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.items())
        elif isinstance(item, list):
            pending.extend((key, part) for part in item)
        elif isinstance(item, int) and not isinstance(item, bool):
            most = vocabulary if key != "type_id" else segments
            if item < 0 or (most and item >= most):
                raise Unfit(f"{TOKENIZER}: its post_processor gives {key or 'a number'} {item}, the model has {most}")


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
