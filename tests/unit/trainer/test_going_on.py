"""An order that goes on from an adapter has its shape, or is refused; and names nothing else by the way."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.streams import Chunk, Piece
from services.trainer.bases import Chosen
from services.trainer.going_on import Shape, Start, going_on, shape_of
from services.trainer.settings import Method, Settings
from services.trainer.starts import OwnAdapter, Starts
from tests.unit.trainer.test_honoured import LLAMA, UNKNOWN

NAMES = LLAMA.layer_names
CONFIG = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none", "use_rslora": False}
START = Start("desk@1", "sha256:1", shape_of("desk@1", CONFIG))
ALL = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


def started(said: Mapping[str, Any], start: Start = START, names: Any = NAMES) -> Settings:
    return going_on(Settings(**said), said.keys(), start, names)


def shaped(**fields: Any) -> Start:
    return replace(START, shape=shape_of("desk@1", CONFIG | fields))


def refused(said: Mapping[str, Any], start: Start = START, names: Any = NAMES) -> tuple[str | None, str]:
    with pytest.raises(Failure) as raised:
        started(said, start, names)
    assert raised.value.reason is Reason.FIELD_INVALID
    return raised.value.field, raised.value.sentence


@pytest.mark.parametrize("names", [NAMES, ()], ids=["known", "unknown"])
def test_what_is_left_out_is_the_adapters_own(names: Any) -> None:
    start = shaped(use_rslora=True, rank_pattern={"v_proj": 4}, alpha_pattern={"q_proj": 3}, layers_to_transform=[1])
    assert started({"epochs": 2}, start, names) == Settings(
        method=Method.RSLORA,
        rank=8,
        alpha=16.0,
        rank_pattern=(("v_proj", 4),),
        alpha_pattern=(("q_proj", 3.0),),
        target_modules=("q_proj", "v_proj"),
        layers=(1,),
        epochs=2,
    )


def test_what_agrees_may_be_said() -> None:
    said: dict[str, Any] = {"rank": 8, "alpha": 16.0, "method": Method.QLORA, "target_modules": ("v_proj", "q_proj")}
    assert started(said) == Settings(**said)
    # Other words for the same layers, and layers that are said in part.
    others: dict[str, Any] = {"exclude_modules": tuple(name for name in ALL if name not in ("q_proj", "v_proj"))}
    assert started(others) == Settings(rank=8, alpha=16.0, **others)
    found = started({"layers": (0,)}, shaped(layers_to_transform=0))
    assert (found.target_modules, found.layers) == (("q_proj", "v_proj"), (0,))


def test_all_layers_stay_unnamed_however_the_adapter_names_them() -> None:
    for targets in ("all-linear", list(ALL), list(NAMES)):
        assert started({}, shaped(target_modules=targets)).target_modules == ()


def test_layers_that_an_adapter_names_one_by_one_are_named_shortly() -> None:
    found = started({}, shaped(target_modules=[name for name in NAMES if "down" not in name]))
    assert (found.target_modules, found.layers) == (tuple(name for name in ALL if name != "down_proj"), ())
    odd = shaped(target_modules=[NAMES[0], NAMES[-1]])
    assert set(started({}, odd).target_modules) == {NAMES[0], NAMES[-1]}


@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        ({"rank": 16}, "rank", "desk@1 has rank 8, the order says 16: leave it out to go on"),
        ({"alpha": 8.5}, "alpha", "has alpha 16, the order says 8.5"),
        ({"rank_pattern": (("q_proj", 4),)}, "rank_pattern", "has rank_pattern none, the order says q_proj:4"),
        ({"alpha_pattern": (("q_proj", 4.0),)}, "alpha_pattern", "has alpha_pattern none, the order says q_proj:4"),
        ({"target_modules": ("q_proj",)}, "target_modules", "adapts q_proj, v_proj, the order says q_proj:"),
        ({"layers": (1,)}, "layers", "adapts q_proj, v_proj, the order says q_proj, v_proj in the layers 1:"),
        ({"exclude_modules": ("q_proj",)}, "exclude_modules", "adapts q_proj, v_proj, the order says v_proj:"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_what_differs_is_refused_with_both_values(said: Mapping[str, Any], field: str, words: str) -> None:
    found = refused(said)
    assert found[0] == f"settings.lora.{field}"
    assert words in found[1]


@pytest.mark.parametrize("method", [Method.RSLORA, Method.DORA])
def test_another_method_is_refused(method: Method) -> None:
    field, sentence = refused({"method": method})
    assert field == "settings.method"
    assert f"desk@1 is of the method lora, the order says {method}: leave it out" in sentence
    assert started({"method": method}, shaped(**{f"use_{method}": True})).method is method


def test_a_method_that_makes_no_adapter_is_left_to_who_refuses_it() -> None:
    assert started({"method": Method.FULL}) == Settings(method=Method.FULL)


def test_layers_that_only_the_loaded_base_tells_are_compared_later() -> None:
    assert started({"target_modules": ("odd",)}, names=UNKNOWN.layer_names).target_modules == ("odd",)


def test_layers_that_a_pattern_chooses_are_to_be_named() -> None:
    pattern = shaped(target_modules=r".*(q|v)_proj")
    assert refused({}, pattern) == (
        "start_version",
        "start_version: desk@1 chooses its layers by a pattern: name them in settings.lora.target_modules",
    )
    assert started({"target_modules": ("q_proj",)}, pattern).target_modules == ("q_proj",)
    assert refused({}, shaped(exclude_modules="q.*"))[0] == "start_version"


@pytest.mark.parametrize(
    "config", [{"use_rslora": True, "use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}]
)
def test_an_adapter_that_nothing_here_trains_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(Failure) as raised:
        shape_of("desk@1", CONFIG | config)
    assert raised.value.field == "start_version"
    assert refused({}, shaped(target_modules=["embed_tokens"]))[1].endswith("is on none of the base's linear layers")


class Registry:
    """One adapter, whose weights nobody asks for."""

    async def adapter(self, name: str) -> OwnAdapter:
        files = [{"filename": f"adapter_{part}", "sha256": part} for part in ("model.safetensors", "config.json")]
        return OwnAdapter("sha256:1", "sha256:base", json.dumps({"files": files}))

    async def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        assert (sha256, offset) == ("config.json", 0)
        text = json.dumps(CONFIG).encode()
        yield Piece(0, text[:9])
        yield Piece(9, text[9:])


async def test_the_shape_comes_from_the_small_file_alone(tmp_path: Any) -> None:
    starts = Starts(cast("Any", Registry()), tmp_path)
    base = Chosen("tiny", "sha256:base", "", LLAMA)
    assert await starts.chosen("", base) is None
    assert await starts.chosen("desk@1", base) == Start(
        "desk@1", "sha256:1", Shape(Method.LORA, 8, 16.0, target_modules=("q_proj", "v_proj"))
    )
    with pytest.raises(Failure) as refused:
        await starts.chosen("desk@1", replace(base, digest="sha256:other"))
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "start_version")
