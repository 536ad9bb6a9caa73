"""A trained model becomes a version that says what it was trained from, how, and how well it does.

Invariant: the version and its measurements come to be in one call; before it there are files that belong to nothing.
"""

import importlib.metadata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trivium_client import Trivium
from trivium_client.errors import NotFoundError
from trivium_client.nouns import Evaluation, Lineage, Version

from services.ops.tuning.bases import Base
from services.ops.tuning.conduct import Settings
from services.ops.tuning.judgement import Comparison, Judged
from services.ops.tuning.passages import Library
from services.ops.tuning.questions import Split, digest
from services.ops.tuning.refusal import Untrainable
from services.ops.tuning.role import Role


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from, and what was measured of it."""

    base: Base
    parts: Split
    library: Library
    settings: Settings
    libraries: Mapping[str, str]
    comparison: Comparison
    loss: float


def require_name(client: Trivium, model: str, role: Role) -> None:
    """Before anything is computed: raises Untrainable, TriviumError where no version could be made under this name."""
    newest = None
    with suppress(NotFoundError):
        newest = next(iter(client.models.versions(model)), None)
    if newest is not None and (newest.kind, newest.role) != ("encoder", role):
        what = f"a {newest.role}" if newest.role else f"of kind {newest.kind}"
        raise Untrainable(f"{model}@{newest.number} is {what}, and a model's versions are alike: name another --model")


def published(client: Trivium, model: str, folder: Path, role: Role, provenance: Provenance) -> Version:
    """Make a version of the folder's files.  Raises TriviumError."""
    return client.models.add_folder(model, folder, lineage=lineage(role, provenance))


def lineage(role: Role, it: Provenance) -> Lineage:
    """What the version says of itself: enough to train it again, and to judge it."""
    return Lineage(
        base_digest=it.base.digest,
        base_uri=it.base.uri,
        dataset_digest=digest(it.parts.training),
        dataset_rows=len(it.parts.training),
        config=_config(role, it),
        libraries=dict(it.libraries),
        seed=it.settings.seed,
        metrics={"train_loss": it.loss},
        code_version=importlib.metadata.version("trivium-suite"),
        evaluations=_evaluations(it),
    )


def _config(role: Role, it: Provenance) -> dict[str, Any]:
    aside = it.parts.held_out
    return {
        "recipe": f"{role.value} from questions",
        "collection": it.library.collection,
        "passages": len(it.library.passages),
        "held_out_questions": len(aside),
        "held_out_digest": digest(aside),
        **asdict(it.settings),
    }


def _evaluations(it: Provenance) -> tuple[Evaluation, ...]:
    """Of what was trained and of what there was before, on the questions that were kept aside."""
    aside = digest(it.parts.held_out)
    found = it.comparison
    measured = [*_measured(found.trained, ""), *_measured(found.before, "before_")]
    interval = f"95 % interval {found.low:+.4f} to {found.high:+.4f}, paired bootstrap"
    measured.append(("ndcg_at_10_gain", found.gain, f"over {found.before.name}, {interval}"))
    rows = len(it.parts.held_out)
    return tuple(Evaluation(metric, value, aside, rows, note) for metric, value, note in measured)


def _measured(judged: Judged, prefix: str) -> list[tuple[str, float, str]]:
    ndcg, rank = judged.means
    note = f"{judged.name}, by documents, on questions that were kept aside"
    return [(f"{prefix}ndcg_at_10", ndcg, note), (f"{prefix}mrr_at_10", rank, note)]
