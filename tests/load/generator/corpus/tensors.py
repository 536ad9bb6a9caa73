"""Classes of tensors that do not fit: types, shapes, offsets, modules, ranks, numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from tests.adapters import Entry, safetensors
from tests.load.generator.corpus.files import Maker
from tests.load.generator.corpus.make import PREFIX, Files, Good

_MAX_RANK = 16


def _entry(field: str, *values: object) -> Maker:
    return lambda good: good.with_entry(**{field: good.draw.choice(values)})


def _of_dtype(*dtypes: str) -> Maker:
    return lambda good: good.files(safetensors(good.tensors(dtype=good.draw.choice(dtypes))))


def _overlapping(good: Good) -> Files:
    size = len(good.entry()[2])
    return good.with_entry(data_offsets=[4, size + 4])


def _with_hole(good: Good) -> Files:
    tensors = good.tensors()
    step = 4 * good.draw.randint(1, 4)
    end = sum(len(content) for _, _, content in tensors.values())
    last = list(tensors)[-1]
    size = len(tensors[last][2])
    moved = {last: {"dtype": "F32", "shape": list(tensors[last][1]), "data_offsets": [end - size + step, end + step]}}
    return good.files(safetensors(tensors, header=moved) + bytes(step))


def _flat(good: Good) -> Files:
    dtype, shape, content = good.entry()
    count = math.prod(shape)
    other = good.draw.choice(([count], [1, *shape], [*shape, 1], [count, 1], [1, count], []))
    return good.with_tensors({good.name(): (dtype, other, content)})


def _empty(good: Good) -> Files:
    _, (rank, inputs), _ = good.entry()
    outputs = good.entry("B")[1][0]
    empty = good.draw.choice((([0, inputs], [outputs, 0]), ([rank, 0], [0, rank]), ([0, 0], [0, 0])))
    return good.with_tensors({good.name(): ("F32", empty[0], b""), good.name("B"): ("F32", empty[1], b"")})


def _side_missing(side: str) -> Maker:
    return lambda good: good.with_tensors({good.name(side): None})


def _exchanged(good: Good) -> Files:
    return good.with_tensors({good.name(): good.entry("B"), good.name("B"): good.entry()})


def _elsewhere(*modules: str) -> Maker:
    """The first module's matrices under another module's name."""

    def make(good: Good) -> Files:
        module = good.draw.choice(modules)
        changed: dict[str, Entry | None] = {good.name(side): None for side in "AB"}
        moved: dict[str, Entry | None] = {f"{PREFIX}{module}.lora_{side}.weight": good.entry(side) for side in "AB"}
        return good.with_tensors(changed | moved)

    return make


def _of_another_base(good: Good) -> Files:
    wider = [(module, (outputs + 64, inputs + 64)) for module, (outputs, inputs) in good.modules]
    return Good(good.draw, wider, good.rank).files()


def _ranks_differ(good: Good) -> Files:
    wider = Good(good.draw, good.modules, good.rank + good.draw.randint(1, 4))
    return good.with_tensors({good.name("B"): wider.entry("B")})


def _another_rank(good: Good) -> Files:
    return good.files(config=good.config(r=good.rank + good.draw.randint(1, 8)))


def _rank_too_large(good: Good) -> Files:
    return Good(good.draw, good.modules[:1], _MAX_RANK + good.draw.randint(1, 200)).files()


def _one_number(*numbers: float, dtype: str = "F32") -> Maker:
    """One number of the last matrix is replaced."""

    def make(good: Good) -> Files:
        tensors = good.tensors(dtype=dtype)
        name = list(tensors)[-1]
        kind, shape, content = tensors[name]
        number, width = good.draw.choice(numbers), {"F32": 4, "BF16": 2, "F16": 2}[dtype]
        bits = struct.pack("<e", number) if dtype == "F16" else struct.pack("<f", number)[4 - width :]
        place = good.draw.randrange(math.prod(shape)) * width
        tensors[name] = (kind, shape, content[:place] + bits + content[place + width :])
        return good.files(safetensors(tensors))

    return make


def _all(dtype: str, value: Callable[[Good], float]) -> Maker:
    return lambda good: good.files(safetensors(good.tensors(dtype=dtype, value=lambda: value(good))))


def _sign(good: Good) -> float:
    return good.draw.choice((-1.0, 1.0))


def _beside(*endings: str) -> Maker:
    """One more tensor of a module that a plain adapter does not have."""

    def make(good: Good) -> Files:
        name = f"{PREFIX}{good.modules[0][0]}.{good.draw.choice(endings)}"
        outputs = good.entry("B")[1][0]
        return good.with_tensors({name: ("F32", [outputs, 1], bytes(4 * outputs))})

    return make


TENSORS: dict[str, Maker] = {
    "an unknown type": _entry("dtype", "F31", "", None, 4, "float32", "BF16 ", ["F32"]),
    "whole numbers for weights": _of_dtype("I32", "I16", "I8", "U8", "BOOL"),
    "a type of another width": _of_dtype("F64", "F8_E4M3"),
    "a type that its bytes do not have": _entry("dtype", "BF16", "F16", "F64", "I8"),
    "negative or endless sizes": _entry("shape", [-1, -576], [1 << 62, 4], [-2, 2], [1 << 40, 1 << 40], [0.5, 2]),
    "sizes that are no numbers": _entry("shape", [True, 576], ["2", 576], None, {}, "2x576", [[2], [576]]),
    "a shape of another length": _entry("shape", [2, 577], [1, 1], [3, 576], [576, 577]),
    "offsets that are none": _entry("data_offsets", [-8, 0], [1 << 70, 1 << 71], [8], [], None, ["0", "8"], [9, 3]),
    "overlapping tensors": _overlapping,
    "a hole between tensors": _with_hole,
    "other dimensions": _flat,
    "empty matrices": _empty,
    "A alone": _side_missing("B"),
    "B alone": _side_missing("A"),
    "A and B exchanged": _exchanged,
    "a layer that the base has not": _elsewhere("model.layers.30.self_attn.q_proj", "model.layers.9999.mlp.up_proj"),
    "a module that is not adapted": _elsewhere("model.norm", "model.layers.0.input_layernorm", "model.rotary_emb"),
    "embedding or head": _elsewhere("model.embed_tokens", "lm_head", "model.layers.0.lm_head"),
    "experts and other architectures": _elsewhere("model.layers.0.mlp.experts.0.w1", "transformer.h.0.attn.c_attn"),
    "widths of another base": _of_another_base,
    "ranks of A and B that differ": _ranks_differ,
    "another rank than configured": _another_rank,
    "a rank over the engine's": _rank_too_large,
    "not a number": _one_number(math.nan, -math.nan),
    "infinite": _one_number(math.inf, -math.inf),
    "not finite in bfloat16": _one_number(math.nan, math.inf, dtype="BF16"),
    "not finite in half precision": _one_number(math.nan, math.inf, dtype="F16"),
    "finite in float32, infinite in bfloat16": _one_number(3.4028234e38, -3.4028234e38, 3.3999999e38),
    "the largest numbers": _all("BF16", lambda good: 3e38 * _sign(good)),
    "numbers whose products overflow": _all("F32", lambda good: 1e30 * _sign(good)),
    "numbers that drown the base": _all("F32", lambda good: 10 ** good.draw.uniform(2, 8) * _sign(good)),
    "the largest half precision": _all("F16", lambda good: 65504.0 * _sign(good)),
    "the smallest numbers": _all("F32", lambda good: good.draw.choice((1e-45, -1e-45, 1e-38, 5e-324))),
    "zeros of both signs": _all("BF16", lambda good: 0.0 * _sign(good)),
    "magnitudes of DoRA": _beside(
        "lora_magnitude_vector", "lora_magnitude_vector.weight", "lora_magnitude_vector.default"
    ),
    "trained biases": _beside("bias", "lora_B.bias", "lora_bias.weight"),
    "whole modules": _beside("modules_to_save.weight", "modules_to_save.default.weight", "weight", "base_layer.weight"),
    "tables for a linear layer": _beside("lora_embedding_A", "lora_embedding_B"),
}
