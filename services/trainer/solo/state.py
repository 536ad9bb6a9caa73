"""All that a solo job's later steps depend on, as tensors, and back.

Invariant: what `held` returns, put back by `restore` in a fresh process, continues to the bits of a run that was never
interrupted: trained weights, both moments, three random generators, references, and the history of evaluations.
"""

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy
import torch
from safetensors import safe_open
from torch import Tensor, nn

from services.trainer import checkpoints
from services.trainer.divergence import LOSSES, Losses, losses_of
from services.trainer.job import Progress
from services.trainer.joint.history import History
from services.trainer.joint.mismatching import PAIRING, Pairing, pairing_of
from services.trainer.solo.order import Assessment, Evaluated, Stepped
from services.trainer.solo.ranks import ALONE, Ranks, gathered, like, own
from services.trainer.work import REMEMBERED_LINES

_WEIGHT, _BEST, _REFERENCE, _GENERATOR = "weight.", "best.", "reference.", "generator."
_MOMENTS = ("exp_avg", "exp_avg_sq")
_TORCH, _NUMPY, _NUMPY_GAUSS, _PYTHON, _PYTHON_GAUSS = "torch", "numpy", "numpy_gauss", "python", "python_gauss"


@dataclass(slots=True)
class State:
    """The parts of a job's state that are not the model's: references by split, best weights, history, losses, generators."""

    references: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    history: History = field(default_factory=History)
    losses: Losses = field(default_factory=Losses)
    generators: dict[str, Tensor] = field(default_factory=dict)
    # What the references of judged rows are of.
    pairing: Pairing = Pairing.OTHER_QUESTION
    # Of the last steps and evaluations: whoever was told may have died with it.  Told again, they are told once.
    reported: deque[Stepped | Evaluated] = field(default_factory=lambda: deque(maxlen=REMEMBERED_LINES))


def tensors_of(
    parameters: Mapping[str, nn.Parameter], optimizer: Any, state: State, ranks: Ranks = ALONE, *, copied: bool = False
) -> dict[str, Tensor]:
    """Return all tensors by name.  Weights and moments are the live ones unless ``copied``: these no step changes.

    Of several processes all must ask, and the first has what is divided among them, put together and so a copy.
    """
    tensors = {_GENERATOR + name: tensor for name, tensor in generators().items()}
    for name, parameter in parameters.items():
        tensors |= gathered({_WEIGHT + name: parameter.detach()}, ranks)
        if parameter in optimizer.state:
            moments = {f"{moment}.{name}": optimizer.state[parameter][moment] for moment in _MOMENTS}
            tensors |= gathered(moments, ranks)
    if copied and ranks.size == 1:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    # A better evaluation makes others of these, and changes none.
    tensors |= {_BEST + name: tensor for name, tensor in state.best.items()}
    tensors |= {_REFERENCE + split: tensor for split, tensor in state.references.items()}
    return tensors


def noted(state: State) -> dict[str, object]:
    """Return what is kept beside the tensors, as JSON takes it."""
    return {
        "history": asdict(state.history),
        "reported": [asdict(report) for report in state.reported],
        PAIRING: state.pairing,
        LOSSES: asdict(state.losses),
    }


def state_of(checkpoint: checkpoints.Checkpoint) -> State:
    """The parts that are not the model's, as a checkpoint has them."""
    noted = checkpoints.load_state(checkpoint)
    with _opened(checkpoint) as tensors:
        return State(
            references=_below(tensors, _REFERENCE),
            best=_below(tensors, _BEST),
            history=History(**noted["history"]),
            losses=losses_of(noted, checkpoint.progress),
            generators=_below(tensors, _GENERATOR),
            pairing=pairing_of(noted),
            reported=deque(map(_report, noted.get("reported", ())), maxlen=REMEMBERED_LINES),
        )


def _report(fields: Mapping[str, Any]) -> Stepped | Evaluated:
    """A report again, of what `noted` made of it."""
    typed = dict(fields) | {"progress": Progress(**fields["progress"])}
    if "assessment" in fields:
        return Evaluated(**(typed | {"assessment": Assessment(**fields["assessment"])}))
    return Stepped(**typed)


def restore_weights(parameters: Mapping[str, nn.Parameter], checkpoint: checkpoints.Checkpoint) -> None:
    """Put the trained weights back, one at a time."""
    with _opened(checkpoint) as tensors, torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(like(tensors.get_tensor(_WEIGHT + name), parameter))


def restore_moments(parameters: Mapping[str, nn.Parameter], optimizer: Any, checkpoint: checkpoints.Checkpoint) -> None:
    """Put the optimizer's moments back, one at a time."""
    with _opened(checkpoint) as tensors:
        for name, parameter in parameters.items():
            moments = {moment: like(tensors.get_tensor(f"{moment}.{name}").clone(), parameter) for moment in _MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(checkpoint.progress.step)), **moments}


def _opened(checkpoint: checkpoints.Checkpoint) -> Any:
    return safe_open(str(checkpoint.folder / checkpoints.TENSORS), framework="pt")


def _below(tensors: Any, prefix: str) -> dict[str, Tensor]:
    names = [name for name in list(tensors.keys()) if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.get_tensor(name).clone() for name in names}


def generators() -> dict[str, Tensor]:
    """The states of the three generators that libraries draw from."""
    _, keys, position, has_gauss, cached = numpy.random.get_state(legacy=True)
    _, internal, gauss = random.getstate()
    return {
        _TORCH: torch.get_rng_state(),
        _NUMPY: torch.tensor([*map(int, keys), int(position), int(has_gauss)]),
        _NUMPY_GAUSS: torch.tensor(float(cached), dtype=torch.float64),
        _PYTHON: torch.tensor(internal),
        _PYTHON_GAUSS: torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
    }


def set_generators(states: Mapping[str, Tensor]) -> None:
    """Put the three generators where `generators` found them."""
    torch.set_rng_state(states[_TORCH])
    *keys, position, has_gauss = states[_NUMPY].tolist()
    cached = float(states[_NUMPY_GAUSS])
    numpy.random.set_state(("MT19937", numpy.array(keys, dtype=numpy.uint32), position, has_gauss, cached))
    gauss = states[_PYTHON_GAUSS].tolist()
    random.setstate((3, tuple(states[_PYTHON].tolist()), gauss[0] if gauss else None))


def finite(parameters: Iterable[Tensor]) -> bool:
    """Whether every number in them is one, of what this process has of them."""
    return all(bool(own(parameter).isfinite().all()) for parameter in parameters)
