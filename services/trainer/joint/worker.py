"""The process that trains jobs together on one base: `python -m services.trainer.joint.worker FOLDER`.

It reads its order from the folder, commands as lines on its standard input, and writes lines of JSON to its standard
output.  The end of its input, and SIGTERM, mean that it is to stop every job at its next step boundary and end.  It may
be killed at any moment: all that it leaves behind is complete or ignored.
Invariant: one thread owns torch; the others read commands, read datasets, write what must last, or hold a team of threads.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

from services.chassis.child_side import own_output, write_whole
from services.chassis.code_version import code_version
from services.chassis.errors import Failure
from services.chassis.models import ModelSettings
from services.chassis.waiting import Waiting
from services.trainer import checkpoints
from services.trainer.base_folder import require_unchanged
from services.trainer.conduct import Manners, Refused, libraries
from services.trainer.joint.encoder import DatasetEncoder, Encoder
from services.trainer.joint.sharing import Sharing
from services.trainer.work import Command, Do, Line, Said, WorkerOrder

if TYPE_CHECKING:
    from services.trainer.joint.group import Group

_LOOK_SECONDS = 1.0
# Exit status when a thread of ours fails.
_BROKEN = 70

Inbox = SimpleQueue[Any]


def run(
    folder: Path,
    commands: BinaryIO,
    lines: BinaryIO,
    *,
    encoder: DatasetEncoder | None = None,
    at: checkpoints.WritePoint = lambda _: None,
) -> None:
    """Train what `commands` ask for and report on `lines`, until an end is asked for and every job has stopped."""
    order = WorkerOrder.read(folder)
    inbox: Inbox = SimpleQueue()
    # Reentrant, as a handler needs it.
    signal.signal(signal.SIGTERM, lambda *_: inbox.put(Command(Do.END)))
    # The terminal's Ctrl-C goes to the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_listen, args=(commands, inbox), name="commands", daemon=True).start()
    # Now, and not when a version waits for it.
    code = code_version()
    manners = Manners(Path(order.data_dir))
    manners.keep()

    def say(line: Line) -> None:
        write_whole(lines, line.encode())

    try:
        require_unchanged(Path(order.base_folder), order.base_name, order.base_digest)
    except Failure as changed:
        _refuse(inbox, say, Refused.by(changed), passing=True)
        return
    # Only now: loading these takes seconds of a processor that others may want.
    from services.trainer.joint.composition import Unjoinable, open_group

    encoder = Sharing(encoder or Encoder(Path(order.base_folder), keep=manners.keep))
    try:
        with (
            closing(Waiting(order.threads)) as waiting,
            open_group(
                order, inbox.put, say, encoder, code=code, libraries=libraries(), cache=_cache(order), at=at
            ) as group,
        ):
            say(Line(Said.READY))
            _train(group, inbox, manners, waiting)
    except Unjoinable as why:
        _refuse(inbox, say, Refused("SETTINGS_UNFIT", f"{why}: choose a method that trains alone, dora, qlora or full"))
        return
    # Said of jobs that were replaced or dropped shortly before.
    for event in _events(inbox, wait=False):
        group.take(event)


def _train(group: "Group", inbox: Inbox, manners: Manners, waiting: Waiting) -> None:
    """Step the group's jobs, and take in what comes, until it has ended."""
    stepped = False
    while not group.ended:
        # Also where jobs wait and none may train: only what comes, or time, changes that.
        for event in _events(inbox, wait=not stepped):
            group.take(event)
        stepped = group.busy
        if stepped:
            manners.keep()
            waiting.look()
            stepped = group.step()
        group.tell_usage()


def _refuse(inbox: Inbox, say: Callable[[Line], None], refusal: Refused, *, passing: bool = False) -> None:
    """Refuse whatever job is to join, until the end; for what is `passing` those that wait, and the next worker looks anew."""
    say(Line(Said.READY))
    over = False
    while not over:
        for command in _events(inbox, wait=True):
            if command.do is Do.JOIN:
                say(replace(refusal.line(), job=command.job, epoch=command.epoch))
            over |= command.do is Do.END or (passing and command.do is Do.JOIN)


def _events(inbox: Inbox, *, wait: bool) -> Iterator[Any]:
    """What has come in; when there is nothing and `wait`, what comes within a while."""
    try:
        yield inbox.get(timeout=_LOOK_SECONDS) if wait else inbox.get_nowait()
        while True:
            yield inbox.get_nowait()
    except Empty:
        return


def _listen(commands: BinaryIO, inbox: Inbox) -> None:
    """Hand on commands; the end of the input, also inside a line (the trainer was killed), means END."""
    for line in commands:
        if not line.endswith(b"\n"):
            break
        inbox.put(Command.decode(line))
    inbox.put(Command(Do.END))


def _cache(order: WorkerOrder) -> Path | None:
    """Where the measurement of this machine lies; None for a base without a digest, which may be any."""
    if not order.base_digest:
        return None
    name = f"{order.base_digest.removeprefix('sha256:')}-{order.dtype}-{order.threads}.json"
    return ModelSettings().cache_dir.expanduser() / "step-budget" / name


def end_with_threads() -> None:
    """From now on the process ends when any thread of it fails: half a worker would hold its jobs for ever."""

    def end(failed: threading.ExceptHookArgs) -> None:
        traceback.print_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
        sys.stderr.flush()
        os._exit(_BROKEN)

    threading.excepthook = end


def main(folder: Path) -> None:
    """Run with the process's own input and output."""
    end_with_threads()
    run(folder, sys.stdin.buffer, own_output())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stderr.flush()
    # All is durable and said; taking the interpreter down takes seconds.
    os._exit(0)
