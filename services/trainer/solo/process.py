"""What the process of a solo job does with its order: reads, trains, reports, and leaves the result.

Invariant: every end has a word, DONE, STOPPED or a refusal that says what to do; a crash alone has none.
"""

import importlib.metadata
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.trainer import checkpoints, material
from services.trainer.base_folder import require_unchanged
from services.trainer.conduct import Manners, Refused, libraries
from services.trainer.joint.encoder import DatasetEncoder, Encoded
from services.trainer.joint.row_limits import require_within
from services.trainer.results import publish_result
from services.trainer.settings import Method, Settings
from services.trainer.solo import libraries as behaviour
from services.trainer.solo import meeting
from services.trainer.solo.order import (
    Checkpointed,
    Evaluated,
    Hooks,
    Remarked,
    Report,
    SoloOrder,
    Started,
    Stepped,
)
from services.trainer.work import CHECKPOINTS, Exit, Line, Said, Work

Say = Callable[[Line], None]


def train(
    work: Work,
    folder: Path,
    say: Say,
    stopping: Callable[[], bool],
    at: Callable[[str], None],
    *,
    code: str,
    encoder: DatasetEncoder,
    manners: Manners,
) -> int:
    """Train the job in `folder` to its end or to a step after `stopping`; return the exit code.

    ``encoder`` reads its files and is closed then; ``code`` is the version of this program.  Raises Refused, DISK_FULL,
    BASE_CHANGED.
    """
    manners.keep()
    behaviour.prepare()
    changed = _changed_base(work)
    found = (changed or _read(work, folder, encoder)) if meeting.is_first() else None
    # Only now: loading these takes seconds of a processor that others may want.
    import torch

    from services.trainer.solo import models, ranks, run

    torch.set_num_threads(work.threads)
    with ranks.joined() as together:
        encoded = together.said_by_first(found)
        assert encoded is not None, "the first process has read the dataset or refused it"
        if isinstance(encoded, Refused):
            raise encoded
        if together.total(float(changed is not None)):
            why = f"{work.base_name} is another base on one of the machines that train the job together"
            raise Refused(Reason.BASE_CHANGED.name, f"{why}. Have the operator put the same files on all of them.")
        for message in encoded.messages:
            say(Line(Said.MESSAGE, message=message))
        splits = encoded.splits
        require_within(splits, models.config_of(Path(work.base_folder)))
        facts = {
            "code": code,
            "libraries": _libraries(work.settings),
            "threads": work.threads,
            "processes": together.size,
            "rows": len(splits.training),
            **encoded.facts,
        }
        order = _order(work, folder, facts, splits.turn_ends)
        order.into.mkdir(exist_ok=True)
        hooks = Hooks(lambda report: say(line_of(report)), stopping, manners.keep, at)
        held_out = splits.held_out.examples() if splits.held_out else []
        with _own_errors_named():
            trained = run.train(order, splits.training.examples(), held_out, hooks, together)
        if trained is None:
            return Exit.STOPPED
        if together.first:
            if work.settings.method is Method.FULL:
                # The version's other files come from there.
                require_unchanged(Path(work.base_folder), work.base_name, work.base_digest)
            whole = {**facts, "weights_step": trained.step, "evaluations": trained.evaluations}
            publish_result(folder, trained.save, whole, at, require=lambda: _folder_of(order.kept, work.epoch))
        together.wait()
    return Exit.DONE


@contextmanager
def _own_errors_named() -> Iterator[None]:
    """Refuse a job for what it fails with inside the block by its own making: another try would end the same."""
    try:
        yield
    except (ArithmeticError, IndexError) as error:
        traceback.print_exc()
        raise Refused("SETTINGS_UNFIT", f"its rows do not go through the base: {error}") from error
    except ValueError as error:
        raise Refused("SETTINGS_UNFIT", str(error)) from error


def _changed_base(work: Work) -> Refused | None:
    """The refusal of a base that is another by now."""
    try:
        require_unchanged(Path(work.base_folder), work.base_name, work.base_digest)
    except Failure as failure:
        return Refused.by(failure)
    return None


def _read(work: Work, folder: Path, encoder: DatasetEncoder) -> Encoded | Refused:
    """The job's rows; of processes that train together the first reads for all, and tells the others of a refusal.

    So their rows are the same, and none waits for one that was refused alone.  Raises Refused where there are no others.
    """
    try:
        return encoder.encode(folder, material.size_bytes(work))
    except Refused as refusal:
        if meeting.is_alone():
            raise
        return refusal
    finally:
        encoder.close()


def line_of(report: Report) -> Line:
    """A report as the trainer hears it."""
    match report:
        case Started(progress):
            return Line(Said.STARTED, progress)
        case Stepped(progress, learning_rate, gradient_norm, tokens_per_second, memory_bytes):
            return Line(
                Said.STEP,
                progress,
                learning_rate,
                gradient_norm,
                tokens_per_second=tokens_per_second,
                memory_bytes=memory_bytes,
            )
        case Evaluated(progress, assessment, _):
            return Line(Said.EVALUATION, progress, evaluation=assessment.values())
        case Checkpointed(progress, size_bytes):
            return Line(Said.CHECKPOINT, progress, size_bytes=size_bytes)
        case Remarked(progress, message):
            return Line(Said.MESSAGE, progress, message=message)


def _order(work: Work, folder: Path, facts: Mapping[str, object], turn_ends: tuple[int, ...]) -> SoloOrder:
    kept = folder / CHECKPOINTS
    return SoloOrder(
        base_folder=Path(work.base_folder),
        base_name=work.base_name,
        settings=work.settings,
        kept=kept,
        into=_folder_of(kept, work.epoch),
        libraries=_libraries(work.settings),
        start=Path(work.start_path) if work.start_path else None,
        hold_step=work.hold_step,
        facts=facts,
        turn_ends=turn_ends,
    )


def _folder_of(kept: Path, epoch: int) -> Path:
    """Where checkpoints are written under this lease.  Raises LeaseLost."""
    return checkpoints.lease_folder(kept, epoch) if epoch else kept


def _libraries(settings: Settings) -> dict[str, str]:
    """What the result depends on: here TRL too, and for QLoRA what quantises."""
    more = ("trl", "accelerate", *(("bitsandbytes",) if settings.method is Method.QLORA else ()))
    return libraries() | {name: importlib.metadata.version(name) for name in more}
