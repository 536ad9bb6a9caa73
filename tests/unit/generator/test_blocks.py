"""A block that is handed on is empty in every layer, and no other block is touched."""

import math
from types import SimpleNamespace

import torch

from services.generator.plugin.blocks import _empty


def test_new_blocks_are_emptied_in_every_layer_that_has_them_and_others_are_left():
    caches = {name: torch.full((4, 2, 3), math.nan) for name in ("full", "window")}
    layers = {name: SimpleNamespace(kv_cache=cache) for name, cache in caches.items()}
    layers |= {"shared": SimpleNamespace(kv_cache=caches["full"]), "state": SimpleNamespace(kv_cache=[torch.ones(2)])}
    runner = SimpleNamespace(
        kv_cache_config=SimpleNamespace(
            num_blocks=4,
            kv_cache_groups=[
                SimpleNamespace(layer_names=["full", "shared", "unknown"]),
                SimpleNamespace(layer_names=["window", "state"]),
            ],
        ),
        compilation_config=SimpleNamespace(static_forward_context=layers),
    )
    _empty(runner, [1, 3])
    for cache in caches.values():
        assert torch.equal(cache[[1, 3]], torch.zeros(2, 2, 3))
        assert cache[[0, 2]].isnan().all()
    assert torch.equal(layers["state"].kv_cache[0], torch.ones(2))
