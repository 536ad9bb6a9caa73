"""The process that trains one job: `python -m services.trainer.child JOB_FOLDER`.

It reads its order from the folder, goes on from the newest checkpoint there, and writes
lines of JSON to its standard output.  Who starts it sees that it
dies with its parent (`chassis.processes`); it may be killed at any moment: all
that it leaves behind is complete or ignored.  SIGTERM asks for a checkpoint and an end.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.chassis.code_version import code_version
from services.chassis.errors import Failure
from services.trainer import checkpoints
from services.trainer.conduct import Manners, Refused, libraries
from services.trainer.data.encoding import Preparation, Untrainable, prepare
from services.trainer.data.examples import ChatEncoder, Example
from services.trainer.recipes import reading
from services.trainer.results import publish_result
from services.trainer.solo.process import train as solo
from services.trainer.work import CHECKPOINTS, Exit, Line, Said, Work

if TYPE_CHECKING:
    from services.trainer.training import Run

Say = Callable[[Line], None]

# What reading a dataset may take: as the check of it may, whose template was another.
_RENDER_SECONDS = 60.0
_RENDER_BYTES_PER_SECOND = 32 * 1024


def read_examples(work: Work, say: Say) -> list[Example]:
    """Encode the dataset; cut long rows and leave out those with nothing left to learn, and say so.

    Raises Refused when no row remains.
    """
    settings = work.settings
    preparation = Preparation(
        ChatEncoder.load(Path(work.base_folder)), settings.objective, settings.supervision, settings.max_row_tokens
    )
    with Path(work.dataset_path).open("rb") as file:
        try:
            prepared = prepare(reading.read(file, work.recipe, settings.seed), preparation)
        except Untrainable as error:
            raise Refused("DATASET_MALFORMED", str(error)) from error
    if prepared.cut_lines:
        say(_about(f"Rows longer than {settings.max_row_tokens} tokens, which were cut", prepared.cut_lines))
    for reason, lines in prepared.left_out_lines.items():
        say(_about(f"Rows that were left out ({reason})", lines))
    return [example for example in prepared.examples if isinstance(example, Example)]


def _about(what: str, lines: Sequence[int]) -> Line:
    return Line(Said.MESSAGE, message=f"{what}: {len(lines)}, lines {_some(lines)}")


def train(
    folder: Path,
    say: Say,
    stopping: Callable[[], bool],
    at: checkpoints.WritePoint = lambda _: None,
) -> int:
    """Train the job in `folder` to its end or to the next step after `stopping`; return the exit code.

    Raises Refused, and DISK_FULL from the catalogue.
    """
    work = Work.read(folder)
    # Now, and not when the version waits for it.
    code = code_version()
    if not work.settings.method.joint:
        bounded = rendering(_read_bytes(work))
        return solo(work, folder, say, stopping, at, code=code, bounded=bounded)
    manners = Manners(Path(work.data_dir))
    manners.keep()
    # Only now: loading these takes seconds of a processor that others may want.
    import torch
    from transformers import AutoModelForCausalLM

    from services.trainer.training import Run

    torch.set_num_threads(work.threads)
    kept = folder / CHECKPOINTS
    checkpoints.sweep(kept)
    with rendering(Path(work.dataset_path).stat().st_size):
        examples = read_examples(work, say)
    base = AutoModelForCausalLM.from_pretrained(
        work.base_folder, dtype=torch.bfloat16, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    try:
        run = Run(base, examples, work.settings)
    except ValueError as error:
        raise Refused("SETTINGS_UNFIT", str(error)) from error
    if (found := checkpoints.newest(kept)) is not None:
        run.restore(checkpoints.load_tensors(found), found.progress)
    say(Line(Said.STARTED, run.progress))
    while not run.finished:
        manners.keep()
        if stopping():
            _checkpoint(run, kept, say, at)
            return Exit.STOPPED
        _step(run, say)
        if run.finished or run.progress.step % work.settings.checkpoint_steps == 0:
            _checkpoint(run, kept, say, at)
    _publish_result(run, folder, work, code, at)
    return Exit.DONE


def _read_bytes(work: Work) -> int:
    return sum(Path(path).stat().st_size for path in (work.dataset_path, work.validation_path) if path)


@contextmanager
def rendering(dataset_bytes: int, least_seconds: float = _RENDER_SECONDS) -> Iterator[None]:
    """Bound the processor time inside the block: the chat template comes with the base, which may be a tenant's.

    Raises Refused.
    """
    cpu_seconds = least_seconds + dataset_bytes / _RENDER_BYTES_PER_SECOND

    def overrun(*_: object) -> None:
        raise Refused(
            "SETTINGS_UNFIT", f"rendering the dataset with the base's template takes over {cpu_seconds:.0f} s"
        )

    before = signal.signal(signal.SIGPROF, overrun)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _step(run: "Run", say: Say) -> None:
    from services.trainer.training import NotFinite

    try:
        result = run.step()
    except NotFinite as error:
        raise Refused("TRAINING_DIVERGED", f"{error}. Lower the learning rate.") from error
    say(Line(Said.STEP, result.progress, result.learning_rate, result.gradient_norm))


def _checkpoint(run: "Run", kept: Path, say: Say, at: checkpoints.WritePoint) -> None:
    newest = checkpoints.newest(kept)
    if newest is not None and newest.progress.step == run.progress.step:
        return
    checkpoints.write(kept, run.tensors(), run.progress, libraries(), at=at)
    say(Line(Said.CHECKPOINT, run.progress))


def _publish_result(run: "Run", folder: Path, work: Work, code: str, at: checkpoints.WritePoint) -> None:
    """Give the adapter its place, complete and durable, under the name `result`."""
    from services.trainer import adapter

    facts = {"code": code, "libraries": libraries(), "threads": work.threads, "rows": len(run.lengths)}
    publish_result(folder, lambda into: adapter.save(run.model, into, work.base_name), facts, at)


def _some(lines: Sequence[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:10])
    return shown if len(lines) <= 10 else f"{shown}, …"


def main(folder: Path) -> int:
    """Train and report; return the exit code."""
    # Libraries print to standard output; our lines keep a descriptor of their own.
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    # The terminal's Ctrl-C goes to the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def say(line: Line) -> None:
        lines.write(line.encode())

    try:
        ended = train(folder, say, lambda: bool(asked))
        say(Line(Said.DONE if ended == Exit.DONE else Said.STOPPED))
        return ended
    except checkpoints.LeaseLost:
        # Whoever holds the job now says all that is to be said.
        return Exit.STOPPED
    except Refused as refusal:
        say(refusal.line())
    except Failure as failure:
        say(Refused.by(failure).line())
    return Exit.REFUSED


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # All is durable and said.  Taking the interpreter down takes seconds, for which the version would wait.
    os._exit(status)
