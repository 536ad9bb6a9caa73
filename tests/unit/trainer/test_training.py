import dataclasses
import hashlib
import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from services.trainer import adapter, batches
from services.trainer.data.examples import ChatEncoder, Example
from services.trainer.data.reading import read
from services.trainer.data.rows import Row
from services.trainer.peft_layout import CONFIG, WEIGHTS
from services.trainer.settings import Method, Schedule, Settings
from services.trainer.training import NotFinite, Run, collate, rate, supervised_loss
from tests.unit.trainer.tiny import rows_text

SETTINGS = Settings(rank=4, alpha=8, epochs=2, batch_rows=4, learning_rate=1e-2, seed=3)


def examples(base: Path) -> list[Example]:
    encoder = ChatEncoder.load(base)
    return [encoder.encode(row.turns) for row in read(io.BytesIO(rows_text().encode())) if isinstance(row, Row)]


def new_run(base: Path, settings: Settings = SETTINGS) -> Run:
    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16)
    return Run(model, examples(base), settings)


def finished(run: Run, folder: Path) -> str:
    while not run.finished:
        run.step()
    folder.mkdir()
    adapter.save(run.model, folder, "tiny")
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def test_a_run_begins_as_the_base_itself_and_the_loss_falls(base: Path) -> None:
    run = new_run(base)
    batch = collate(examples(base)[:3])
    with torch.no_grad():
        with run.model.disable_adapter():
            of_the_base = supervised_loss(run.model, batch)
        assert torch.equal(supervised_loss(run.model, batch), of_the_base)
    losses = [run.step().progress.loss for _ in range(6)]
    assert losses[-1] < losses[0]


def test_loss_at_supervised_positions_is_what_the_whole_model_says(base: Path) -> None:
    run = new_run(base)
    batch = collate(examples(base)[:3])
    with torch.no_grad():
        logits = run.model(input_ids=batch.tokens, attention_mask=batch.attention, use_cache=False).logits
        expected = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        assert torch.allclose(supervised_loss(run.model, batch), expected, rtol=1e-3)


def test_the_same_order_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    assert finished(new_run(base), tmp_path / "a") == finished(new_run(base), tmp_path / "b")


def test_another_seed_gives_another_adapter(base: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(SETTINGS, seed=4)
    assert finished(new_run(base), tmp_path / "a") != finished(new_run(base, other), tmp_path / "b")


def test_what_other_code_draws_does_not_reach_a_run(base: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, dropout=0.2)
    torch.manual_seed(1)
    first = finished(new_run(base, settings), tmp_path / "a")
    torch.manual_seed(2)
    assert finished(new_run(base, settings), tmp_path / "b") == first


def test_a_run_that_goes_on_elsewhere_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, dropout=0.2)
    whole = finished(new_run(base, settings), tmp_path / "a")
    broken = new_run(base, settings)
    broken.step()
    broken.step()
    tensors = {name: tensor.clone() for name, tensor in broken.tensors().items()}
    resumed = new_run(base, settings)
    resumed.restore(tensors, broken.progress)
    assert finished(resumed, tmp_path / "b") == whole


def test_splitting_a_step_does_not_change_what_it_learns(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = new_run(base)
    whole.step()
    monkeypatch.setattr(batches.micro_batches, "__defaults__", (1,))
    split = new_run(base)
    split.step()
    for name, parameter in whole.parameters.items():
        assert torch.allclose(parameter, split.parameters[name], atol=2e-3), name


def test_the_adapter_is_what_peft_and_the_engine_read(base: Path, tmp_path: Path) -> None:
    finished(new_run(base), tmp_path / "a")
    tensors = load_file(tmp_path / "a" / WEIGHTS)
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())
    # Two layers of seven linear modules, A and B of each.
    assert len(tensors) == 28
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (4, 32)
    fresh = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16)
    from peft import PeftModel

    read_back = PeftModel.from_pretrained(fresh, str(tmp_path / "a"))
    assert read_back.peft_config["default"].r == 4
    assert "tmp" not in (tmp_path / "a" / CONFIG).read_text()


def test_a_rank_stabilised_adapter_says_so(base: Path, tmp_path: Path) -> None:
    finished(new_run(base, dataclasses.replace(SETTINGS, method=Method.RSLORA)), tmp_path / "a")
    assert '"use_rslora": true' in (tmp_path / "a" / CONFIG).read_text()


def test_a_module_that_the_base_lacks_is_refused_by_name(base: Path) -> None:
    with pytest.raises(ValueError, match="no linear layer query"):
        new_run(base, dataclasses.replace(SETTINGS, target_modules=("query",)))


def test_a_loss_that_is_no_number_stops_before_anything_is_changed(base: Path) -> None:
    run = new_run(base)
    name, parameter = next((name, value) for name, value in run.parameters.items() if "lora_B" in name)
    with torch.no_grad():
        parameter.fill_(float("nan"))
    other = next(value for key, value in run.parameters.items() if key != name)
    before = other.detach().clone()
    with pytest.raises(NotFinite):
        run.step()
    assert torch.equal(other, before)
    assert run.progress.step == 0


@pytest.mark.parametrize(
    ("schedule", "last"), [(Schedule.LINEAR, 1 / 9), (Schedule.COSINE, 0.0302), (Schedule.CONSTANT, 1.0)]
)
def test_the_rate_warms_up_and_then_falls_as_scheduled(schedule: Schedule, last: float) -> None:
    settings = Settings(learning_rate=1.0, warmup_ratio=0.1, schedule=schedule)
    rates = [rate(step, 10, settings) for step in range(10)]
    assert rates[0] == rates[1] == 1.0
    assert rates[-1] == pytest.approx(last, abs=1e-3)
    assert rates == sorted(rates, reverse=True)
