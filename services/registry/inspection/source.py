"""What a source of a whole model says of itself: which kind it is, and whether an encoder ends in the mean of its tokens.

A version is a flat folder, so what sentence-transformers keeps beside the model is read here and stays behind.
Invariant: no encoder is imported whose vectors its source makes otherwise than the embedder does.
"""

from collections.abc import Mapping

from services.registry.inspection import Unfit
from services.registry.inspection.encoder_layout import EMBEDDER, ENCODERS
from services.registry.inspection.folder import CONFIG

MODULES = "modules.json"
POOLING = "1_Pooling/config.json"
PROMPTS = "config_sentence_transformers.json"
# What a source may hold of it, as paths.
DESCRIBING = (MODULES, POOLING, PROMPTS)
_ENCODERS = ("Model", "ForSequenceClassification")
_COMPUTED = ("Transformer", "Pooling", "Normalize")


def kind_of(parsed: Mapping[str, object]) -> str:
    """FULL or ENCODER, by ``config.json`` and what describes it beside that.  Raises Unfit."""
    config = parsed.get(CONFIG)
    if not isinstance(config, dict):
        raise Unfit(f"a model needs {CONFIG}")
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or not name.endswith(_ENCODERS):
        return "FULL"
    _check_modules(parsed)
    if name not in ENCODERS or ENCODERS[name].role == EMBEDDER:
        _check_pooling(parsed)
    _check_prompts(parsed)
    return "ENCODER"


def _check_modules(parsed: Mapping[str, object]) -> None:
    modules = parsed.get(MODULES, [])
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise Unfit(f"{MODULES} is no list of modules")
    for module in modules:
        name = str(module.get("type", "")).rpartition(".")[2]
        if name not in _COMPUTED:
            raise Unfit(f"{MODULES} names {name[:80] or 'nothing'}, which the embedder does not compute")
        if name == "Pooling" and (module.get("path") != POOLING.partition("/")[0] or POOLING not in parsed):
            raise Unfit(f"{MODULES} names a pooling, and {POOLING} is not there")


def _check_pooling(parsed: Mapping[str, object]) -> None:
    if POOLING not in parsed:
        return
    told = parsed[POOLING]
    if not isinstance(told, dict):
        raise Unfit(f"{POOLING} is not an object")
    # As sentence-transformers writes it now, and as it did before.
    modes = [told["pooling_mode"]] if "pooling_mode" in told else []
    modes += [key for key, value in told.items() if key.startswith("pooling_mode_") and value is True]
    if modes not in (["mean"], ["pooling_mode_mean_tokens"]):
        raise Unfit(f"{POOLING} does not pool by the mean of the tokens, which is how the embedder makes vectors")


def _check_prompts(parsed: Mapping[str, object]) -> None:
    told = parsed.get(PROMPTS)
    prompts = told.get("prompts") if isinstance(told, dict) else None
    if isinstance(prompts, dict) and any(prompts.values()):
        raise Unfit(f"{PROMPTS} puts words before texts (prompts), which a version does not keep")
