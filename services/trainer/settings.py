"""The settings of a training run, each default explained where it is set.

Invariant: a `Settings` is complete. What a caller leaves open is filled in before a job is queued, and stored with
it, so that a default which changes later changes no job that is already there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Method(StrEnum):
    """How weights are adapted."""

    LORA = "lora"
    RSLORA = "rslora"
    DORA = "dora"
    QLORA = "qlora"
    FULL = "full"

    @property
    def joint(self) -> bool:
        """Whether jobs of this method train together on one resident base; the others each have a process."""
        return self in (Method.LORA, Method.RSLORA)

    @property
    def makes_adapter(self) -> bool:
        """Whether the result is an adapter; the other results are full models."""
        return self is not Method.FULL


class Objective(StrEnum):
    """What the loss is."""

    SUPERVISED = "supervised"
    CONTINUED = "continued"
    DPO = "dpo"
    KTO = "kto"

    @property
    def preference(self) -> bool:
        """Whether answers are compared with those of the model that training starts from."""
        return self in (Objective.DPO, Objective.KTO)


class Schedule(StrEnum):
    """How the learning rate moves after warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"
    STABLE_DECAY = "stable_decay"


class Supervision(StrEnum):
    """Which tokens of a conversation the loss is taken on."""

    ASSISTANT = "assistant"
    LAST_ANSWER = "last_answer"
    ALL = "all"


class Initialisation(StrEnum):
    """How an adapter begins.  Those that change the base (PiSSA and its kin) are not among them: it is shared."""

    KAIMING = "kaiming"
    GAUSSIAN = "gaussian"
    ORTHOGONAL = "orthogonal"


class Keep(StrEnum):
    """Which weights become the version."""

    BEST = "best"
    LAST = "last"


class Metric(StrEnum):
    """What decides which evaluation is best."""

    LOSS = "loss"
    EXACT_MATCH = "exact_match"
    TOKEN_F1 = "token_f1"  # noqa: S105  # a metric, no secret
    VALID_JSON = "valid_json"
    PREFERENCE_ACCURACY = "preference_accuracy"

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value is the better one."""
        return self is Metric.LOSS


# As a target: every linear layer but the output head, as PEFT has it.
ALL_LINEAR = "all-linear"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run, every default filled in.  What 0 and an empty tuple mean stands beside them.

    "LoRA Without Regret" is Thinking Machines' study of 2025.
    """

    method: Method = Method.LORA
    objective: Objective = Objective.SUPERVISED

    # LoRA and its kin.
    # 16 learns what a business dataset holds, and serves in a small slot; quality hardly depends on it until the
    # adapter is full (LoRA Without Regret).
    rank: int = 16
    # `default_alpha`.
    alpha: float = 32.0
    # Short runs on few rows gain nothing from dropout that early stopping does not give.
    dropout: float = 0.0
    # Empty: all linear layers but the output head. Attention alone loses even at equal size (LoRA Without Regret).
    target_modules: tuple[str, ...] = ()
    exclude_modules: tuple[str, ...] = ()
    # Empty: every layer; else indices of the layers that are adapted.
    layers: tuple[int, ...] = ()
    # Ranks and alphas of modules by their name, or by the end of it.
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    # As in LoRA's reference implementation and PEFT: with B zero, training begins at the base itself.
    initialisation: Initialisation = Initialisation.KAIMING

    # The optimizer: AdamW.
    # Three passes fit small datasets; more begin to learn rows by heart.
    epochs: int = 3
    # LoRA bears large batches worse than full training (LoRA Without Regret).
    batch_rows: int = 8
    # `default_learning_rate`.
    learning_rate: float = 1e-3
    # A few steps for the second moments to fill.
    warmup_ratio: float = 0.05
    # Matches or outperforms the usual others, cosine among them (Defazio et al., arXiv 2310.07831, 2023).
    schedule: Schedule = Schedule.LINEAR
    # Decay pulls an adapter towards the base; a held-out split says better when to stop.
    weight_decay: float = 0.0
    # All three: Adam's own good defaults (Kingma and Ba, arXiv 1412.6980, algorithm 1), and torch's.
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    # One odd row cannot throw the weights far. 1 is what GPT-3 was trained with (Brown et al., 2020, appendix B), and what
    # transformers' Trainer takes.
    max_gradient_norm: float = 1.0
    # What most datasets of instructions stay under; longer rows are cut and reported.
    max_row_tokens: int = 1024
    # Any: a fixed one, so that the same order gives the same version.
    seed: int = 0
    # 0: as many as the epochs take.
    max_steps: int = 0
    # Tokens that go through the model at once: a step's rows are split by it and their gradients added, which changes
    # memory and not what is learned. From this many on the base's products are as fast as they get on a CPU.
    micro_batch_tokens: int = 2048
    # Trades a third more time for the memory of activations; wanted for long rows on large bases. In a joint step those
    # that ask for it have a pass of their own, so that it costs nobody else time.
    gradient_checkpointing: bool = False
    # Short rows share one sequence without seeing one another. On the bank rows are never padded; this is for the rest.
    packing: bool = False

    # What is learned.
    # A model learns to answer and to stop, never to ask.
    supervision: Supervision = Supervision.ASSISTANT
    # 0: all rows; else as many, drawn by the seed.
    sample_rows: int = 0
    # Share of rows held out when no validation dataset is named; 0 evaluates nothing.
    validation_ratio: float = 0.0

    # Evaluation and the end.
    # Steps between evaluations; 0: after each epoch, where anything is held out.
    evaluation_steps: int = 0
    # `default_metric`.
    metric: Metric = Metric.LOSS
    # Evaluations without improvement after which training ends; 0: never early.
    early_stopping_patience: int = 0
    # Any improvement counts, however small.
    early_stopping_delta: float = 0.0
    # Few rows are soon learned by heart; the held-out ones say when, and the last step is often behind that. Where none
    # are held out an order that leaves it open keeps the last.
    keep: Keep = Keep.BEST
    # Held-out rows that are answered at each evaluation; 0: the loss alone is evaluated.
    generation_rows: int = 0
    # A label, a few fields or a sentence fit; each token more is another pass through the base, while others wait.
    generation_tokens: int = 64
    # What a kill costs at most is trained again; a checkpoint costs less than that: an adapter's is small, and written
    # beside the steps.
    checkpoint_steps: int = 20

    # Preferences.
    # How far answers may move from those of the model that training starts from: DPO's and KTO's own default.
    beta: float = 0.1
    # Share of pairs taken to be the wrong way round (conservative DPO); 0 takes people at their word, as DPO itself does.
    label_smoothing: float = 0.0
    # KTO's own default: they are for rows of which good or bad ones are many more (Ethayarajh et al., arXiv 2402.01306).
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


# By which power of the width the best rate falls, by the beginning of a base's model type: as published with "LoRA
# Without Regret" (tinker-cookbook, hyperparam_utils.py). Other families were not measured; Llama's is the most common.
_RATE_EXPONENTS = {"qwen": 0.0775}
_LLAMA_RATE_EXPONENT = 0.781


def default_alpha(method: Method, rank: int) -> float:
    """Return the alpha that scales an adapter of this rank by 2, whichever way its method divides by the rank.

    Twice the rank is what most recipes take; at rank 16 it is the 32 with which the default rate was found (LoRA Without
    Regret).  rsLoRA divides by the root of the rank: with the same alpha its adapters would learn several times as fast.
    """
    return 2.0 * math.sqrt(rank) if method is Method.RSLORA else 2.0 * rank


def default_metric(objective: Objective) -> Metric:
    """Return what evaluations are compared by where nobody says.

    The loss: every objective gives it, on every held-out row, without an answer being generated.  DPO's says how far apart
    the two sides are; whether they are the right way round, which is what people mean, is the accuracy.
    """
    return Metric.PREFERENCE_ACCURACY if objective is Objective.DPO else Metric.LOSS


def default_learning_rate(method: Method, objective: Objective, hidden_size: int, model_type: str = "") -> float:
    """Peak rate for a base of this width and `model_type` (as in its config.json).

    LoRA: the formula published with "LoRA Without Regret", independent of the rank.
    Full training takes a tenth of it (same source). Preference losses move a model that already answers: a tenth again,
    as the published recipes of DPO do beside those of supervised training.
    """
    families = (power for family, power in _RATE_EXPONENTS.items() if model_type.lower().startswith(family))
    lora = 5e-5 * 10 * (2000 / hidden_size) ** next(families, _LLAMA_RATE_EXPONENT)
    rate = lora if method.makes_adapter else lora / 10
    return float(rate / 10 if objective.preference else rate)


_ENUMS = {
    "method": Method,
    "objective": Objective,
    "schedule": Schedule,
    "supervision": Supervision,
    "initialisation": Initialisation,
    "keep": Keep,
    "metric": Metric,
}
_TUPLES = ("target_modules", "exclude_modules", "layers")
_PATTERNS = ("rank_pattern", "alpha_pattern")


def settings_from(stored: Mapping[str, Any]) -> Settings:
    """Rebuild settings from what `dataclasses.asdict` and JSON made of them.

    What an earlier release did not know takes its default here, which does what that release did.  Raises TypeError
    for a field that this release does not know: it was stored by a later one.
    """
    if unknown := set(stored) - {field.name for field in fields(Settings)}:
        raise TypeError(f"settings of a later release: {', '.join(sorted(unknown))}")
    typed: dict[str, Any] = dict(stored)
    typed |= {name: kind(stored[name]) for name, kind in _ENUMS.items() if name in stored}
    typed |= {name: tuple(stored[name]) for name in _TUPLES if name in stored}
    typed |= {name: tuple((key, value) for key, value in stored[name]) for name in _PATTERNS if name in stored}
    return Settings(**typed)
