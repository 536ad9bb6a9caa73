"""Every setting of a run: what it is when nobody says it, what it takes, and what it is for.

Invariant: the defaults are the trainer's own, and what a setting takes is what the contract says.
"""

from dataclasses import dataclass

# By the setting's name: the default, and what the setting is.
_SETTINGS = {
    "method": ("lora", "How the base is adapted."),
    "objective": ("supervised", "What the loss is."),
    "schedule": ("linear", "How the learning rate moves after warm-up."),
    "lora.rank": ("16", "Rank of the adapter."),
    "lora.alpha": ("twice the rank; rslora: twice its root", "Scale of the adapter, over its rank."),
    "lora.dropout": ("0", "Dropout on the adapter's input."),
    "lora.target_modules": ("all linear layers but the output head", "Modules to adapt, by name."),
    "lora.exclude_modules": ("none", "Modules that are left out, by name."),
    "lora.layers": ("all", "Layers to adapt, by index from 0."),
    "lora.rank_pattern": ("none", "Ranks of single modules, by name or the end of it."),
    "lora.alpha_pattern": ("none", "Alphas of single modules, by name or the end of it."),
    "lora.initialisation": ("kaiming", "How the adapter begins."),
    "epochs": ("3", "Passes over the dataset."),
    "batch_rows": ("8", "Rows of one step."),
    "learning_rate": ("by the base's width", "Peak learning rate, which the job tells."),
    "warmup_ratio": ("0.05", "Share of the steps that warm up."),
    "weight_decay": ("0", "Weight decay."),
    "max_gradient_norm": ("1", "Larger gradients are clipped to this norm."),
    "max_row_tokens": ("1024", "Longer rows are cut."),
    "seed": ("0", "Seed of initialisation, order and dropout."),
    "checkpoint_steps": ("20", "Steps between checkpoints."),
    "max_steps": ("as many as the epochs take", "Most steps."),
    "beta1": ("0.9", "AdamW's decay of the first moment."),
    "beta2": ("0.999", "AdamW's decay of the second moment."),
    "epsilon": ("1e-8", "AdamW's smallest denominator."),
    "micro_batch_tokens": ("2048", "Tokens that go through the model at once; changes memory and not the result."),
    "gradient_checkpointing": ("false", "Compute activations twice instead of holding them."),
    "packing": ("false", "Put short rows into one sequence; for full, dora and qlora."),
    "supervision": ("assistant", "Which tokens of a conversation are learned."),
    "sample_rows": ("all", "Rows drawn from the dataset by the seed."),
    "validation_ratio": ("0", "Share of the rows to hold out for evaluation."),
    "evaluation_steps": ("each epoch", "Steps between evaluations."),
    "metric": ("loss; dpo: preference_accuracy", "What decides which evaluation is best."),
    "early_stopping_patience": ("never early", "Evaluations without gain that end training."),
    "early_stopping_delta": ("0", "A smaller gain is none."),
    "keep": ("best; last where nothing is held out", "Which weights become the version."),
    "generation_rows": ("0", "Held-out rows that are answered at each evaluation."),
    "generation_tokens": ("64", "Most tokens of such an answer."),
    "preference.beta": ("0.1", "How strongly answers are held near the model that training starts from."),
    "preference.label_smoothing": ("0", "Share of pairs taken to be the wrong way round; dpo alone."),
    "preference.desirable_weight": ("1", "Weight of good answers; kto alone."),
    "preference.undesirable_weight": ("1", "Weight of bad answers; kto alone."),
}


@dataclass(frozen=True, slots=True)
class SettingLine:
    """A setting as a program reads it; people are told `about` and `takes` in one sentence."""

    setting: str
    option: str
    default: str
    takes: str
    about: str

    @property
    def described(self) -> str:
        """What it is and what it takes."""
        return f"{self.about.rstrip('.')}: {self.takes}."


def default_of(name: str) -> str:
    """What a setting is when nobody says it, in words."""
    return _SETTINGS[name][0]


def about(name: str) -> str:
    """What a setting is, in a sentence."""
    return _SETTINGS[name][1]
