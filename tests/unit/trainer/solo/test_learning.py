"""What a solo job learns, against the same written out plainly."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from services.trainer import checkpoints
from services.trainer.batches import Steps
from services.trainer.conduct import Refused
from services.trainer.data.examples import Example
from services.trainer.rates import rate
from services.trainer.settings import Method, Objective, Schedule, Settings
from services.trainer.solo.order import Stepped
from tests.unit.trainer.solo.small_jobs import OBJECTIVES, Job, judged_pairs, with_settings


def weights_of(job: Job) -> dict[str, Tensor]:
    """The trained weights in the job's newest checkpoint, fp32."""
    found = checkpoints.newest(job.order.kept)
    assert found is not None
    tensors = checkpoints.load_tensors(found)
    return {name.removeprefix("weight."): value for name, value in tensors.items() if name.startswith("weight.")}


def planned(job: Job) -> list[list[int]]:
    settings = job.settings
    lengths = [len(row.tokens) for row in job.training]
    return list(Steps(lengths, batch_rows=settings.batch_rows, epochs=settings.epochs, seed=settings.seed).since(0))


def plain(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)


def log_probs(model: Any, example: Example) -> Tensor:
    """[tokens - 1], 0 where no loss is taken: one row by itself, so that nothing is padded."""
    tokens = torch.tensor([example.tokens])
    found = functional.log_softmax(model(input_ids=tokens, use_cache=False).logits[0, :-1].float(), -1)
    kept = torch.tensor(example.supervised[1:])
    return found.gather(1, tokens[0, 1:, None])[:, 0] * kept


def trained_plainly(model: Any, job: Job, parameters: list[Tensor], decaying: list[Tensor]) -> None:
    """A plain loop: AdamW, one row at a time, the step's loss over its supervised tokens."""
    settings = job.settings
    others = [value for value in parameters if not any(value is one for one in decaying)]
    groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=settings.epsilon, weight_decay=settings.weight_decay)
    steps = planned(job)
    for number, rows in enumerate(steps):
        counted = sum(job.training[row].supervised_tokens for row in rows)
        for row in rows:
            (-log_probs(model, job.training[row]).sum() / counted).backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate(number, len(steps), settings)
        optimizer.step()
        optimizer.zero_grad()


def test_full_fine_tuning_is_a_plain_loop_of_adamw(tmp_path: Path, base: Path) -> None:
    settings = with_settings(epochs=2, weight_decay=0.1, max_gradient_norm=0.5, schedule=Schedule.COSINE)
    job = Job(tmp_path / "job", base, settings)
    job.finish()
    model = plain(base)
    parameters = list(model.parameters())
    trained_plainly(model, job, parameters, [value for value in parameters if value.ndim > 1])
    ours = weights_of(job)
    assert set(ours) == {name for name, _ in model.named_parameters()}
    for name, value in model.named_parameters():
        assert torch.allclose(ours[name], value, atol=1e-5, rtol=0), name


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen base in fp32, too: in bf16 another order of the same sums is another number."""
    from services.trainer.solo import models

    monkeypatch.setattr(models, "FROZEN_DTYPE", torch.float32)


LINEAR = sorted(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])


def adapted(model: Any, settings: Settings) -> Any:
    """Plain PEFT of the small settings around a model, as the seed begins it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    dora = settings.method is Method.DORA
    return get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=LINEAR, use_dora=dora, task_type="CAUSAL_LM")
    )


def in_four_bits(base: Path) -> Any:
    """The base in fp32 with the values that NF4 has of its linear layers, read out of a quantised model."""
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    kind = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    quantised = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32, quantization_config=kind)
    model = plain(base)
    for name, module in quantised.named_modules():
        if name.rpartition(".")[2] in LINEAR:
            whole = dequantize_4bit(module.weight.data, module.weight.quant_state)
            model.get_submodule(name).weight.data = whole.float()
    return model


@pytest.mark.usefixtures("_exact")
def test_qlora_is_plain_peft_over_what_nf4_has_of_the_base(tmp_path: Path, base: Path) -> None:
    # A greater epsilon: else the second step takes the sign of gradients of A that are hardly more than their rounding.
    settings = with_settings(method=Method.QLORA, learning_rate=1e-2, epochs=2, epsilon=1e-3)
    job = Job(tmp_path / "job", base, settings)
    job.finish()
    ours = weights_of(job)

    def trained(around: Any) -> dict[str, Tensor]:
        model = adapted(around, settings)
        parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        trained_plainly(model, job, list(parameters.values()), list(parameters.values()))
        return parameters

    expected = trained(in_four_bits(base))
    assert set(ours) == set(expected)
    for name, value in expected.items():
        # The same products of the same numbers, whose sums are in another order: 3e-8 apart, of 0.04 that was moved.
        assert torch.allclose(ours[name], value, atol=1e-6, rtol=0), name
    # The bound can tell the quantised base from the base.
    whole = trained(plain(base))
    assert max(float((ours[name] - value.detach()).abs().max()) for name, value in whole.items()) > 1e-3


@pytest.mark.usefixtures("_exact")
def test_dora_is_plain_peft(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base, with_settings(method=Method.DORA, learning_rate=1e-2, epochs=2))
    job.finish()
    model = adapted(plain(base), job.settings)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    before = {name: value.detach().clone() for name, value in parameters.items()}
    trained_plainly(model, job, list(parameters.values()), [value for value in parameters.values() if value.ndim > 1])
    ours = weights_of(job)
    assert set(ours) == set(parameters)
    for name, value in parameters.items():
        assert torch.allclose(ours[name], value, atol=1e-5, rtol=0), name
        assert not torch.equal(value, before[name]), name


# An adapter begins at the base itself, and has further to go.
RATES = {Method.FULL: 1e-3, Method.DORA: 1e-2}


def second_loss(
    tmp_path: Path, base: Path, settings: Settings, training: Sequence[Any] = ()
) -> tuple[Job, float, Any, Any]:
    """A job, its loss of the second step, the model before that step and the one before the first."""
    job = Job(tmp_path / "job", base, settings)
    job.training = training or job.training
    job.stop_after(1)
    policy, reference = plain(base), plain(base)
    if settings.method.makes_adapter:
        policy = adapted(policy, settings)
    policy.load_state_dict(weights_of(job), strict=False)
    job.finish()
    return job, job.steps()[1].progress.loss, policy, reference


@pytest.mark.parametrize(("method", "wrong"), [(Method.FULL, 0.0), (Method.FULL, 0.2), (Method.DORA, 0.2)])
@pytest.mark.usefixtures("_exact")
def test_the_loss_of_dpo_is_its_formula(tmp_path: Path, base: Path, method: Method, wrong: float) -> None:
    settings = with_settings(
        method=method, objective=Objective.DPO, beta=0.3, label_smoothing=wrong, learning_rate=RATES[method]
    )
    job, loss, policy, reference = second_loss(tmp_path, base, settings)
    lengths = [len(pair.chosen.tokens) + len(pair.rejected.tokens) for pair in job.training]
    rows = Steps(lengths, batch_rows=4, epochs=1, seed=settings.seed)[1]

    def ratio(example: Example) -> float:
        with torch.no_grad():
            return float(log_probs(policy, example).sum() - log_probs(reference, example).sum())

    def of_margin(margin: float) -> float:
        return math.log1p(math.exp(-margin))

    margins = [0.3 * (ratio(job.training[row].chosen) - ratio(job.training[row].rejected)) for row in rows]
    expected = sum((1 - wrong) * of_margin(margin) + wrong * of_margin(-margin) for margin in margins) / len(rows)
    assert job.steps()[0].progress.loss == pytest.approx(math.log(2), abs=1e-5)
    assert loss == pytest.approx(expected, abs=1e-5)
    assert abs(loss - math.log(2)) > 1e-3


@pytest.mark.parametrize(("method", "paired"), [(Method.FULL, False), (Method.FULL, True), (Method.DORA, True)])
@pytest.mark.usefixtures("_exact")
def test_the_loss_of_kto_is_its_formula(tmp_path: Path, base: Path, method: Method, paired: bool) -> None:
    training = judged_pairs(base) if paired else []
    # Of a pair the row before is no mismatch, but the other answer to the same question.
    back = 2 if paired else 1
    settings = with_settings(
        method=method,
        objective=Objective.KTO,
        beta=0.3,
        desirable_weight=1.2,
        undesirable_weight=0.7,
        learning_rate=RATES[method],
    )
    job, loss, policy, reference = second_loss(tmp_path, base, settings, training)
    rows = Steps([len(row.example.tokens) for row in job.training], batch_rows=4, epochs=1, seed=settings.seed)[1]

    def ratio(example: Example) -> float:
        with torch.no_grad():
            return float(log_probs(policy, example).sum() - log_probs(reference, example).sum())

    def mismatched(row: int) -> Example:
        asked, answered = job.training[row].example, job.training[row - back].example
        question, begin = asked.supervised.index(True), answered.supervised.index(True)
        return Example(
            asked.tokens[:question] + answered.tokens[begin:],
            asked.supervised[:question] + answered.supervised[begin:],
        )

    moved = max(0.0, sum(ratio(mismatched(row)) for row in rows) / len(rows))
    expected = 0.0
    for row in rows:
        good = job.training[row].desirable
        distance = 0.3 * (ratio(job.training[row].example) - moved) * (1 if good else -1)
        expected += (1.2 if good else 0.7) * (1 - 1 / (1 + math.exp(-distance))) / len(rows)
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_splitting_a_step_does_not_change_what_it_learns(tmp_path: Path, base: Path, objective: Objective) -> None:
    # A greater epsilon: else the first step takes the sign of gradients that cancel to nothing but their rounding.
    settings = with_settings(objective=objective, max_steps=2, epsilon=1e-3)
    whole, split = (
        Job(tmp_path / str(tokens), base, replace(settings, micro_batch_tokens=tokens)) for tokens in (10_000, 1)
    )
    whole.finish()
    split.finish()
    for step in range(2):
        ours, theirs = whole.said(Stepped)[step], split.said(Stepped)[step]
        assert ours.progress.loss == pytest.approx(theirs.progress.loss, rel=1e-5)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-4, abs=1e-6)
    weights = weights_of(split)
    for name, value in weights_of(whole).items():
        assert torch.allclose(value, weights[name], atol=2e-6, rtol=0), name


@pytest.mark.parametrize("change", [{"gradient_checkpointing": True}, {"packing": True}])
@pytest.mark.parametrize("method", [Method.FULL, Method.DORA])
@pytest.mark.usefixtures("_exact")
def test_saving_memory_does_not_change_what_is_learned(
    tmp_path: Path, base: Path, method: Method, change: dict[str, Any]
) -> None:
    plainly = Job(tmp_path / "a", base, with_settings(method=method))
    sparing = Job(tmp_path / "b", base, with_settings(method=method, **change))
    plainly.finish()
    sparing.finish()
    ours = weights_of(sparing)
    for name, value in weights_of(plainly).items():
        assert torch.allclose(value, ours[name], atol=5e-6, rtol=0), name


def test_text_is_learned_from_its_second_token_on(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base, with_settings(objective=Objective.CONTINUED, max_steps=1))
    job.finish()
    model, rows = plain(base), planned(job)[0]
    with torch.no_grad():
        total = sum(float(-log_probs(model, job.training[row]).sum()) for row in rows)
    counted = sum(len(job.training[row].tokens) - 1 for row in rows)
    assert job.steps()[0].progress.loss == pytest.approx(total / counted, abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_model_sees_our_tokens_and_no_others_in_the_order_of_the_plan(
    tmp_path: Path, base: Path, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaModel

    job = Job(tmp_path / "job", base, with_settings(objective=objective))
    seen: list[tuple[int, ...]] = []
    forward = LlamaModel.forward

    def watched(self: Any, input_ids: Any = None, attention_mask: Any = None, **others: Any) -> Any:
        if torch.is_grad_enabled():
            for tokens, kept in zip(input_ids, attention_mask, strict=True):
                seen.append(tuple(tokens[: int(kept.sum())].tolist()))
        return forward(self, input_ids=input_ids, attention_mask=attention_mask, **others)

    monkeypatch.setattr(LlamaModel, "forward", watched)
    job.finish()
    sides = {Objective.DPO: lambda row: (row.chosen, row.rejected), Objective.KTO: lambda row: (row.example,)}
    of = sides.get(objective, lambda row: (row,))
    lengths = [sum(len(side.tokens) for side in of(row)) for row in job.training]
    steps = Steps(lengths, batch_rows=4, epochs=1, seed=job.settings.seed)
    for rows in steps.since(0):
        expected = sorted(side.tokens for row in rows for side in of(job.training[row]))
        step, seen = seen[: len(expected)], seen[len(expected) :]
        assert sorted(step) == expected
    assert not seen


def test_rates_follow_the_schedule_also_after_a_stop(tmp_path: Path, base: Path) -> None:
    settings = with_settings(schedule=Schedule.STABLE_DECAY, batch_rows=2, warmup_ratio=0.2, epochs=2)
    job = Job(tmp_path / "job", base, settings)
    job.stop_after(3)
    job.finish()
    rates = [report.learning_rate for report in job.steps()]
    assert rates == [rate(step, 10, settings) for step in range(10)]
    assert rates[0] < rates[1] == rates[5] == settings.learning_rate > rates[-1]


def test_a_job_that_diverges_says_at_which_step_and_keeps_what_was_good(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base, with_settings(learning_rate=1e30, warmup_ratio=0, checkpoint_steps=1))
    with pytest.raises(Refused, match=r"\bstep 2\b") as refused:
        job.finish()
    assert refused.value.reason == "TRAINING_DIVERGED"
    found = checkpoints.newest(job.order.kept)
    assert found is not None
    assert found.progress.step == 1
    assert all(bool(value.isfinite().all()) for value in weights_of(job).values())


@pytest.mark.parametrize("objective", [Objective.SUPERVISED, Objective.DPO, Objective.KTO])
def test_a_job_that_its_rate_ruins_is_frozen_at_the_same_step_also_after_a_stop(
    tmp_path: Path, base: Path, objective: Objective
) -> None:
    settings = with_settings(objective=objective, learning_rate=1.0, epochs=30, checkpoint_steps=3)
    refusals = []
    for stopped_after in (0, 5):
        job = Job(tmp_path / str(stopped_after), base, settings)
        if stopped_after:
            job.stop_after(stopped_after)
        with pytest.raises(Refused) as refused:
            job.finish()
        assert refused.value.reason == "TRAINING_DIVERGED"
        refusals.append((str(refused.value), refused.value.sound_step))
    assert refusals[0] == refusals[1]
    assert f"at step {len(job.steps()) + 1} the loss" in refusals[0][0]
    assert "in 8 steps above" in refusals[0][0]


def test_what_the_preferred_and_the_good_answers_cost_is_what_their_tokens_do(tmp_path: Path, base: Path) -> None:
    for objective in (Objective.DPO, Objective.KTO):
        seen: list[float] = []
        split = with_settings(objective=objective, max_steps=1, batch_rows=8, micro_batch_tokens=60)
        for settings in (split, replace(split, micro_batch_tokens=10_000)):
            job = Job(tmp_path / f"{objective}-{settings.micro_batch_tokens}", base, settings)
            job.finish()
            found = checkpoints.newest(job.order.kept)
            assert found is not None
            seen.append(checkpoints.load_state(found)["losses"]["first"])
        assert seen[0] == pytest.approx(seen[1], rel=1e-5)
        # A base that knows nothing.
        assert seen[0] == pytest.approx(math.log(258), rel=0.02)
