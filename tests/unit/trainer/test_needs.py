"""What a job needs, by arithmetic, against what PEFT makes of the same settings."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from services.chassis.errors import Failure, Reason
from services.trainer.data.dataset_rows import Dataset
from services.trainer.data.rows import Format
from services.trainer.estimates import estimate
from services.trainer.job import Job, Measures, Order, Progress, State
from services.trainer.needs import adapter_parameters, architecture, joint_base_parts, joint_job_parts
from services.trainer.ordering import completed
from services.trainer.planning import Allowance, unfit
from services.trainer.row_needs import Data
from services.trainer.scheduling.state import Node
from services.trainer.settings import Keep, Method, Objective, Settings
from services.trainer.solo.needs import solo_parts, trained_parameters
from services.trainer.speeds import kind_of, speeds

ORDER = Order("m", "rows", "", "tiny", "sha256:base", Settings(rank=4, epochs=2, batch_rows=4, keep=Keep.LAST), "")
ROWS = Dataset(
    "rows", 1, "sha256:rows", "rows.jsonl", Format.CHAT, 40, 1, 4000, 900, 1000, datetime(2026, 1, 1, tzinfo=UTC)
)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(rank=4),
        Settings(rank=4, target_modules=("q_proj", "down_proj")),
        Settings(rank=4, target_modules=("mlp.up_proj", "model.layers.1.self_attn.q_proj")),
        Settings(rank=4, exclude_modules=("mlp.up_proj", "model.layers.1.self_attn.q_proj")),
        Settings(rank=4, rank_pattern=(("mlp.up_proj", 6), ("model.layers.1.self_attn.q_proj", 2))),
    ],
)
def test_an_adapter_has_as_many_parameters_as_peft_gives_it(base: Path, settings: Settings) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(
        r=settings.rank,
        target_modules=list(settings.target_modules) or "all-linear",
        exclude_modules=list(settings.exclude_modules) or None,
        rank_pattern=dict(settings.rank_pattern),
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    count = sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)
    assert adapter_parameters(shape, settings) == count
    assert joint_job_parts(shape, settings)["adapter, moments and gradient"] == 16 * count


def test_layers_ranks_and_exclusions_count(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    whole = adapter_parameters(shape, Settings(rank=4))
    assert adapter_parameters(shape, Settings(rank=4, layers=(1,))) * 2 == whole
    inputs, outputs = shape.linears["q_proj"]
    without = adapter_parameters(shape, Settings(rank=4, exclude_modules=("q_proj",)))
    assert whole - without == shape.layers * 4 * (inputs + outputs)
    more = adapter_parameters(shape, Settings(rank=4, rank_pattern=(("q_proj", 6),)))
    assert more - whole == shape.layers * 2 * (inputs + outputs)


def test_a_target_that_only_another_kind_of_base_has_does_not_pass_for_nothing(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    asked = Settings(rank=4, target_modules=("q_proj", "fc1"))
    assert adapter_parameters(shape, asked) == adapter_parameters(shape, Settings(rank=4))


@pytest.mark.parametrize(
    ("method", "part"), [(Method.LORA, "best adapter so far"), (Method.DORA, "best weights so far")]
)
def test_the_best_so_far_is_counted_wherever_anything_is_held_out(base: Path, method: Method, part: str) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    nothing = replace(ORDER, settings=replace(ORDER.settings, method=method, keep=Keep.BEST))
    share = replace(nothing, settings=replace(nothing.settings, validation_ratio=0.1))
    dataset = replace(nothing, validation_dataset="others")
    whole = 4 * trained_parameters(shape, nothing.settings)
    assert [estimate(each, ROWS, shape, 0.0).memory_parts.get(part, 0) for each in (nothing, share, dataset)] == [
        0,
        whole,
        whole,
    ]
    # Nobody may order the best of nothing.
    unasked = replace(nothing, settings=replace(nothing.settings, keep=Keep.LAST))
    bytes_of = [completed(each, shape, threads=2, serving_rank=16).job_bytes for each in (unasked, share, dataset)]
    assert bytes_of[0] + whole <= bytes_of[1] == bytes_of[2]
    last = replace(dataset, settings=replace(dataset.settings, keep=Keep.LAST))
    assert part not in estimate(last, ROWS, shape, 0.0).memory_parts


def test_a_base_has_about_as_many_parameters_as_its_files(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    model = AutoModelForCausalLM.from_pretrained(base)
    assert shape.parameters == pytest.approx(sum(weight.numel() for weight in model.parameters()), rel=0.02)


def test_a_rank_that_is_not_served_is_warned_of(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    (warning,) = completed(
        replace(ORDER, settings=replace(ORDER.settings, rank=64)), shape, threads=2, serving_rank=16
    ).warnings
    assert "rank 64 is over 16" in warning
    assert completed(ORDER, shape, threads=2, serving_rank=16).warnings == ()


def test_an_estimate_counts_what_will_be_trained(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    found = estimate(ORDER, ROWS, shape, 200.0)
    assert (found.steps, found.tokens, found.seconds, found.fits) == (20, 8000, 40.0, True)
    whole = completed(ORDER, shape, threads=2, serving_rank=16, data=Data(ROWS))
    assert found.memory_bytes == whole.job_bytes + whole.base_bytes
    own, shared = joint_job_parts(shape, ORDER.settings), joint_base_parts(shape, ORDER.settings)
    assert whole.job_bytes == sum(own.values()) + whole.row_bytes
    assert found.memory_parts == own | shared | {
        "rows": whole.row_bytes,
        "reading rows": whole.base_bytes - sum(shared.values()),
    }
    refused = estimate(ORDER, ROWS, shape, 0.0, "it needs 3 GiB")
    assert (refused.fits, refused.warnings) == (False, [*found.warnings, "it needs 3 GiB"])


@pytest.mark.parametrize("method", [Method.FULL, Method.DORA])
def test_an_estimate_of_a_job_that_trains_alone_is_of_its_own_process(base: Path, method: Method) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    order = replace(ORDER, settings=replace(ORDER.settings, method=method, rank=Settings().rank))
    found = estimate(order, ROWS, shape, 0.0)
    whole = completed(order, shape, threads=2, serving_rank=16, data=Data(ROWS))
    assert found.memory_parts == solo_parts(shape, order.settings) | {"rows": whole.row_bytes}
    assert found.memory_bytes == whole.job_bytes
    if method is Method.FULL:
        assert (found.trainable_parameters, found.version_bytes) == (shape.parameters, 2 * shape.parameters)
    else:
        assert found.trainable_parameters > adapter_parameters(shape, order.settings)


def test_an_estimate_of_long_texts_counts_all_their_pieces(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    settings = replace(ORDER.settings, objective=Objective.CONTINUED, max_row_tokens=101)
    texts = replace(ROWS, format=Format.TEXT, rows=2, tokens=80_000, max_row_tokens=60_000)
    found = estimate(replace(ORDER, settings=settings), texts, shape, 0.0)
    # 800 pieces, twice, four a step; a piece repeats one token.
    assert (found.steps, found.tokens) == (400, 160_000)
    assert found.warnings == []


@pytest.mark.parametrize(("objective", "steps"), [(Objective.DPO, 20), (Objective.KTO, 40)])
def test_an_estimate_of_pairs_counts_both_their_sides(base: Path, objective: Objective, steps: int) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    settings = replace(ORDER.settings, objective=objective, max_row_tokens=80)
    pairs = replace(ROWS, format=Format.PREFERENCE, max_row_tokens=80)
    found = estimate(replace(ORDER, settings=settings), pairs, shape, 0.0)
    assert (found.steps, found.tokens) == (steps, 8000)


@pytest.mark.parametrize("pattern", ["(", "(a*)*b", "q_proj|v_proj", "", ".q_proj"])
def test_a_pattern_that_is_no_name_is_refused_before_it_is_matched(base: Path, pattern: str) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    for field, pairs in (("rank_pattern", ((pattern, 4),)), ("alpha_pattern", ((pattern, 4.0),))):
        settings = replace(ORDER.settings, **{field: pairs})  # type: ignore[arg-type]  # a field of Settings
        with pytest.raises(Failure) as refused:
            completed(replace(ORDER, settings=settings), shape, threads=2, serving_rank=16)
        assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, f"settings.lora.{field}")


def test_an_estimate_knows_no_time_where_nothing_was_measured(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    assert estimate(ORDER, ROWS, shape, 0.0).seconds == 0.0


def test_rows_that_will_be_cut_are_warned_of(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    cut = replace(ORDER, settings=replace(ORDER.settings, max_row_tokens=128))
    assert any("rows are cut at 128" in warning for warning in estimate(cut, ROWS, shape, 0.0).warnings)


def test_a_speed_is_the_median_of_jobs_of_the_same_kind() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    def job(tokens: int, base: str = "sha256:base") -> Job:
        order = replace(ORDER, base_digest=base)
        measures = Measures(charged_seconds=10.0)
        return Job("t", "j", "p", order, State.RUNNING, Progress(1, 2, tokens), moment, moment, measures=measures)

    known = speeds([job(100), job(900), job(300), job(10**9, "sha256:other"), job(0, "sha256:idle")])
    assert known[kind_of(replace(ORDER, base_digest="sha256:base"))] == 30.0
    assert kind_of(replace(ORDER, base_digest="sha256:idle")) not in known


@pytest.mark.parametrize(
    "other",
    [
        {"method": Method.FULL},
        {"method": Method.DORA},
        {"method": Method.LORA},
        {"gradient_checkpointing": True},
        {"objective": Objective.DPO},
    ],
)
def test_a_speed_says_nothing_of_jobs_that_train_otherwise(other: dict[str, Any]) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    order = replace(ORDER, settings=Settings(method=Method.QLORA))
    measures = Measures(charged_seconds=10.0)
    job = Job("t", "j", "p", order, State.RUNNING, Progress(1, 2, 100), moment, moment, measures=measures)
    known = speeds([job])
    assert known == {kind_of(order): 10.0}
    assert kind_of(replace(order, settings=replace(order.settings, **other))) not in known
    assert kind_of(replace(order, processes=2)) not in known


def test_jobs_that_share_the_bank_share_their_speed() -> None:
    lora, rslora = (replace(ORDER, settings=Settings(method=method)) for method in (Method.LORA, Method.RSLORA))
    assert kind_of(lora) == kind_of(rslora)


def test_what_no_machine_could_hold_is_refused_with_its_arithmetic() -> None:
    order = replace(ORDER, job_bytes=6 << 30, base_bytes=3 << 30)
    assert unfit(order, [Node("a", 10 << 30, 2), Node("b", 1 << 30, 2)], Allowance()) == ""
    refusal = unfit(order, [Node("a", 8 << 30, 2), Node("b", 1 << 30, 2)], Allowance())
    assert refusal.startswith("it needs 9.0 GiB (6.0 GiB for the job and 3.0 GiB for its base and a step)")
    assert "8.0 GiB" in refusal
    assert refusal.endswith("or gradient_checkpointing")
    asked = replace(order, settings=Settings(gradient_checkpointing=True))
    assert "gradient_checkpointing" not in unfit(asked, [Node("a", 8 << 30, 2)], Allowance())


def test_a_refusal_says_what_the_rows_take_where_that_is_much() -> None:
    order = replace(ORDER, job_bytes=6 << 30, base_bytes=3 << 30, row_bytes=5 << 30)
    refusal = unfit(order, [Node("a", 8 << 30, 2)], Allowance())
    assert refusal.startswith(
        "it needs 9.0 GiB (6.0 GiB for the job, 5.0 GiB of these for its rows, and 3.0 GiB for its base and a step)"
    )
    assert "use fewer rows (sample_rows), a smaller base" in refusal
    own = unfit(order, [Node("a", 64 << 30, 2)], Allowance(resident_bytes=5 << 30))
    assert own.startswith("it needs 6.0 GiB for itself, 5.0 GiB of these for its rows, your jobs may hold 5.0 GiB")
    few = replace(order, row_bytes=1 << 10)
    assert "for its rows" not in unfit(few, [Node("a", 8 << 30, 2)], Allowance())


def test_more_rows_take_more_and_a_sample_of_them_less(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    many = replace(ROWS, rows=1_000_000, tokens=100_000_000)

    def row_bytes(dataset: Dataset, **settings: Any) -> int:
        order = replace(ORDER, settings=replace(ORDER.settings, **settings))
        return completed(order, shape, threads=2, serving_rank=16, data=Data(dataset)).row_bytes

    # Five bytes a token.
    assert row_bytes(many) > 500_000_000
    assert row_bytes(many, method=Method.QLORA) > row_bytes(many)
    assert row_bytes(many, sample_rows=40) < row_bytes(ROWS) + 40 * 5 * ROWS.max_row_tokens
    # What a recipe makes of a record is known when it is made.
    records = replace(ROWS, format=Format.RECORDS)
    assert row_bytes(records) > 5 * ROWS.rows * ORDER.settings.max_row_tokens
    held_out = completed(ORDER, shape, threads=2, serving_rank=16, data=Data(ROWS, many))
    assert held_out.row_bytes > 500_000_000
    assert (held_out.dataset, held_out.validation_dataset) == ("rows@1", "rows@1")


def test_what_a_tenant_could_never_hold_is_refused_at_once() -> None:
    order = replace(ORDER, job_bytes=6 << 30, base_bytes=3 << 30)
    nodes = [Node("a", 64 << 30, 2)]
    assert unfit(order, nodes, Allowance(resident_bytes=6 << 30)) == ""
    assert "5.0 GiB in all" in unfit(order, nodes, Allowance(resident_bytes=5 << 30))
    # Who trains alone has a base of its own: what the plan would let wait for ever is refused.
    alone = replace(order, settings=Settings(method=Method.DORA))
    assert "needs 9.0 GiB for itself" in unfit(alone, nodes, Allowance(resident_bytes=8 << 30))
    assert unfit(alone, nodes, Allowance(resident_bytes=9 << 30)) == ""
