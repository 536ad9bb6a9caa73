"""The merged model as a whole: which tensors in which file, under which configuration, with whose tokenizer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from services.registry.inspection import Unfit
from services.registry.inspection.documents import parse_all
from services.registry.inspection.folder import CONFIG, INDEX
from services.registry.inspection.full import TOKENIZER_FILES
from services.registry.inspection.layout import tensors as layout
from services.registry.inspection.layout import tied
from services.registry.merging.recipe import EMBEDDING, HEAD, Adapter, Recipe
from services.registry.merging.weights import Stored, blocks, stored

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Bases whose configuration says in one word whether all layers of a kind have biases.
_BIASES = {"self_attn": "attention_bias", "mlp": "mlp_bias"}
_GROWS_BIASES = ("llama", "granite")


@dataclass(frozen=True, slots=True)
class Merged:
    """What is to be written: recipes by weights file, the configuration (None: the base's own), files to copy."""

    shards: Mapping[str, Sequence[Recipe]]
    config: Mapping[str, object] | None
    copied: Mapping[str, Path]

    @property
    def index(self) -> dict[str, object] | None:
        """The index of several weights files; None for one."""
        if len(self.shards) == 1:
            return None
        where = {recipe.name: name for name, recipes in self.shards.items() for recipe in recipes}
        return {"metadata": {}, "weight_map": where}


def planned(base: Mapping[str, Path], adapter: Mapping[str, Path]) -> Merged:
    """Plan a merge of checked files, by name.  Raises Unfit for what cannot be placed in the base."""
    config = parse_all({CONFIG: base[CONFIG]})[CONFIG]
    assert isinstance(config, dict)  # a base was checked when it came
    loaded = Adapter(
        parse_all({ADAPTER_CONFIG: adapter[ADAPTER_CONFIG]})[ADAPTER_CONFIG],
        stored({ADAPTER_WEIGHTS: adapter[ADAPTER_WEIGHTS]}),
    )
    plan = _Plan(config, stored({name: path for name, path in base.items() if name.endswith(".safetensors")}), loaded)
    recipes = plan.recipes()
    shards = _shards(base, recipes)
    copied = {name: path for name, path in base.items() if not name.endswith(".safetensors") and name != INDEX}
    if TOKENIZER_FILES & set(adapter):
        # A tokenizer is one thing: of two, no file of the one goes with a file of the other.
        brought = {name: path for name, path in adapter.items() if name in TOKENIZER_FILES}
        kept = {name for name in copied if name not in TOKENIZER_FILES or "tokenizer.json" not in brought}
        copied = {**{name: copied[name] for name in kept}, **brought}
    return Merged(shards, plan.config if plan.config != config else None, copied)


class _Plan:
    def __init__(self, config: Mapping[str, object], base: Mapping[str, Stored], adapter: Adapter) -> None:
        self.config = dict(config)
        self._base = base
        self._adapter = adapter
        self._tied = tied(config)

    def recipes(self) -> dict[str, Recipe]:
        """How each tensor of the merged model is made, by name."""
        self._grow_biases()
        embedding, head = self._embedding(), self._head()
        self.config["vocab_size"] = embedding.shape[0]
        if head.shape != embedding.shape:
            raise Unfit("embeddings and output layer have vocabularies of different lengths")
        if self._tied and not _same(embedding, head):
            self.config["tie_word_embeddings"] = self._tied = False
        wanted = layout(self.config)
        self._require_places(wanted)
        made = {name: self._recipe(name, shape) for name, shape in wanted.items()}
        made[embedding.name] = embedding
        if not self._tied:
            made[head.name] = head
        return made

    def _require_places(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Raise Unfit unless the merged model has a place for everything that the adapter holds."""
        adapter = self._adapter
        for module in sorted(adapter.modules):
            if f"{module}.weight" not in wanted and module != HEAD:
                raise Unfit(f"the base has no module {module[:200]}")
            if adapter.bias(module) is not None and f"{module}.bias" not in wanted:
                raise Unfit(f"the base's {module[:200]} has no bias")
            if adapter.tokens(module) is not None and module not in (EMBEDDING, HEAD):
                raise Unfit(f"{module[:200]} has no tokens")

    def _recipe(self, name: str, shape: tuple[int, ...]) -> Recipe:
        module, _, part = name.rpartition(".")
        source = self._base.get(name)
        if part == "bias":
            chosen, added = self._adapter.bias(module) or source, self._adapter.added_bias(module)
            return self._sound(Recipe(name, self._dtype(name), shape, chosen, added=added))
        chosen = self._adapter.replaced(module) or source
        return self._sound(Recipe(name, self._dtype(name), shape, chosen, low=self._adapter.low(module)))

    def _sound(self, recipe: Recipe) -> Recipe:
        sources = [recipe.source] if recipe.source is not None else []
        sources += [recipe.added[0]] if recipe.added is not None else []
        for source in sources:
            if source.shape != recipe.shape:
                raise Unfit(f"{recipe.name} has the shape {list(source.shape)}, the base has {list(recipe.shape)}")
        low = recipe.low
        if low is not None and not low.turned and (low.up.shape[0], low.down.shape[1]) != recipe.shape:
            raise Unfit(f"the adapter's {recipe.name} does not fit {list(recipe.shape)}")
        return recipe

    def _embedding(self) -> Recipe:
        own = self._adapter.replaced(EMBEDDING) or self._base[f"{EMBEDDING}.weight"]
        tokens, low = self._adapter.tokens(EMBEDDING), self._adapter.low(EMBEDDING)
        return self._vocabulary(EMBEDDING, own, Recipe("", "", (), own, tokens=tokens, low=low))

    def _head(self) -> Recipe:
        own, tokens = self._adapter.replaced(HEAD), self._adapter.tokens(HEAD)
        if own is None and self._tied:
            # An embedding that was trained whole left the output layer with what they had shared.
            shared = self._adapter.replaced(EMBEDDING) if not self._adapter.saves(EMBEDDING) else None
            own = shared or self._base[f"{EMBEDDING}.weight"]
            tokens = tokens or self._adapter.tokens(EMBEDDING)
        own = own or self._base[f"{HEAD}.weight"]
        return self._vocabulary(HEAD, own, Recipe("", "", (), own, tokens=tokens, low=self._adapter.low(HEAD)))

    def _vocabulary(self, module: str, own: Stored, recipe: Recipe) -> Recipe:
        name = f"{module}.weight"
        shape, low = own.shape, recipe.low
        if recipe.tokens is not None and max(recipe.tokens[0], default=0) >= shape[0]:
            raise Unfit(f"{name} has {shape[0]} tokens, trainable_token_indices names more")
        if low is not None:
            changed = (low.down.shape[1], low.up.shape[0]) if low.turned else (low.up.shape[0], low.down.shape[1])
            if changed != shape:
                raise Unfit(f"the adapter's {name} does not fit {list(shape)}")
        return replace(recipe, name=name, dtype=self._dtype(name), shape=shape)

    def _dtype(self, name: str) -> str:
        like = self._base.get(name) or self._base[f"{EMBEDDING}.weight"]
        return like.tensor.dtype

    def _grow_biases(self) -> None:
        """Give the base biases where LoRA's need some and it has none: all layers of a kind then have them."""
        for module in self._adapter.modules:
            if self._adapter.added_bias(module) is None or f"{module}.bias" in self._base:
                continue
            key = _BIASES.get(module.split(".")[-2] if "." in module else "")
            if key is None or self.config.get("model_type") not in _GROWS_BIASES:
                raise Unfit(f"{module} has no bias that one could be added to")
            self.config[key] = True


def _same(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes over a vocabulary make the same rows."""
    if one.low is not None or other.low is not None or one.tokens != other.tokens:
        return False
    if one.source == other.source:
        return True
    first, second = one.source, other.source
    assert first is not None
    assert second is not None
    return first.shape == second.shape and all(
        np.array_equal(first.rows(*span), second.rows(*span)) for span in blocks(first.shape)
    )


def _shards(base: Mapping[str, Path], recipes: Mapping[str, Recipe]) -> dict[str, list[Recipe]]:
    """Each tensor in the file that it lies in already; new ones in the last."""
    names = sorted(name for name in base if name.endswith(".safetensors"))
    shards: dict[str, list[Recipe]] = {}
    left = dict(recipes)
    for name in names:
        held = stored({name: base[name]})
        shards[name] = [left.pop(tensor) for tensor in held if tensor in left]
    shards[names[-1]] += left.values()
    return {name: held for name, held in shards.items() if held}


def described(config: Mapping[str, object]) -> bytes:
    """A configuration as transformers writes it."""
    return json.dumps(config, indent=2, sort_keys=True).encode() + b"\n"
