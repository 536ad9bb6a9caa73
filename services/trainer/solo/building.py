"""How TRL's trainers are set up, so that they do what a job's settings say and nothing of their own.

Invariant: every default of TRL's and transformers' that touches the result is overruled here or meant.
"""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, PrinterCallback
from trl import DPOConfig, KTOConfig, SFTConfig

from services.trainer.rates import rate
from services.trainer.settings import Objective, Settings
from services.trainer.solo.models import optimizer, seed_of, trained
from services.trainer.solo.trainers import Judgements, Pairs, Plan, Sequences


def trainer_for(model: Any, base: Path, settings: Settings, plan: Plan, scratch: Path) -> Any:
    """The trainer of the objective around `model`, with its optimizer; nothing is written to `scratch`.

    The model's trained parameters stay fp32.
    """
    parameters = trained(model)
    kept = {name: value.data for name, value in parameters.items()}
    steps = optimizer(parameters, settings)
    kind: Any = {Objective.DPO: Pairs, Objective.KTO: Judgements}.get(settings.objective, Sequences)
    trainer = kind(
        model=model,
        args=_arguments(settings, len(plan.steps), scratch),
        data_collator=lambda items: items,
        train_dataset=Dataset.from_dict({"row": list(range(len(plan.feed.lengths)))}),
        processing_class=AutoTokenizer.from_pretrained(str(base), trust_remote_code=False, local_files_only=True),
        optimizers=(steps, scheduler_for(steps, plan, settings)),
    )
    trainer.remove_callback(PrinterCallback)
    if "ref" in getattr(model, "peft_config", {}):
        # TRL's copy of the start, which the stored reference replaces.
        model.delete_adapter("ref")
    for name, value in parameters.items():
        # TRL rounds adapters on a quantised base to bf16.
        value.data = kept[name]
    trainer.plan, trainer.settings = plan, settings
    return trainer


def scheduler_for(optimizer: torch.optim.Optimizer, plan: Plan, settings: Settings) -> Any:
    """A scheduler that gives every step the rate of `rates.rate`, standing after the steps that are done."""
    total = len(plan.steps)
    for group in optimizer.param_groups:
        group["initial_lr"] = settings.learning_rate
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: rate(min(step, total - 1), total, settings) / settings.learning_rate,
        last_epoch=plan.done - 1,
    )


def _arguments(settings: Settings, total_steps: int, scratch: Path) -> Any:
    plain: dict[str, Any] = {
        "output_dir": str(scratch),
        "use_cpu": True,
        # On by default even there.
        "bf16": False,
        "seed": seed_of(settings),
        "max_steps": total_steps,
        # Clipping is done where a step's gradients are complete.
        "max_grad_norm": 0.0,
        # A loss that is no number is to be seen.
        "logging_nan_inf_filter": False,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_strategy": "no",
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        # Rows are cut before they come here.
        "max_length": None,
    }
    match settings.objective:
        case Objective.DPO:
            return DPOConfig(
                **plain, beta=settings.beta, precompute_ref_log_probs=True, disable_dropout=False, **_smoothed(settings)
            )
        case Objective.KTO:
            return KTOConfig(
                **plain,
                beta=settings.beta,
                desirable_weight=settings.desirable_weight,
                undesirable_weight=settings.undesirable_weight,
                precompute_ref_log_probs=True,
                disable_dropout=False,
                train_sampling_strategy="sequential",
            )
        case _:
            return SFTConfig(**plain, dataset_kwargs={"skip_prepare_dataset": True})


def _smoothed(settings: Settings) -> dict[str, Any]:
    """Conservative DPO out of the two losses that TRL has.

    With S and F the losses of a pair as it is and flipped, and R = ((1-e)S - eF) / (1-2e), which is TRL's "robust":
    (1-e)S + eF = 2(1-e)S - (1-2e)R.
    """
    wrong = settings.label_smoothing
    if not wrong:
        return {}
    return {
        "loss_type": ["sigmoid", "robust"],
        "loss_weights": [2 * (1 - wrong), -(1 - 2 * wrong)],
        "label_smoothing": wrong,
    }
