"""Prelude of a registry that dies where a test wants it to: see ``test_every_step.py``.

While the file ``TRIVIUM_TEST_ARMED`` exists, steps are counted from its appearance on: when it
holds a number, the process kills itself as that step is passed; otherwise steps and effects are
written down, one a line, to ``TRIVIUM_TEST_TRACE``.
"""

import functools
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import obstore
import sqlalchemy
from sqlalchemy.engine import Engine

from services.chassis import steps

ARMED, TRACE = Path(os.environ["TRIVIUM_TEST_ARMED"]), os.environ["TRIVIUM_TEST_TRACE"]
DATA = os.environ["TRIVIUM_DATA_DIR"]
_FILE_EVENTS = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"})
_STORE_CALLS = ("put_async", "rename_async", "copy_async", "delete_async", "put", "rename", "copy", "delete")
_passed: Counter[str] = Counter()
_counting = threading.Lock()


def note(line: str) -> None:
    """Write a line of the trace, in one go."""
    trace = os.open(TRACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, f"{line}\n".encode())
    os.close(trace)


def armed() -> str | None:
    """What the test wants, None while it wants nothing."""
    try:
        descriptor = os.open(ARMED, os.O_RDONLY)
    except FileNotFoundError:
        return None
    wish = os.read(descriptor, 100).decode()
    os.close(descriptor)
    # It is empty for the moment in which the test writes it.
    return wish or None


def pass_step(step: steps.Step) -> None:
    """Count a step; die at the wanted one."""
    wish = armed()
    if wish is None:
        return
    with _counting:
        _passed[wish] += 1
        passed = _passed[wish]
    if wish == "record":
        note(f"step {step}")
    elif int(wish) == passed:
        os.kill(os.getpid(), signal.SIGKILL)


def effect(what: str) -> None:
    """Write down something that outlives the process."""
    if armed() == "record":
        note(f"effect {what}")


def see_files(name: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: files that are made, named or removed in the data folder."""
    if name == "open":
        path, _, flags = arguments
        if isinstance(path, str | os.PathLike) and flags & os.O_CREAT and _ours(path) and not os.path.exists(path):
            effect(f"open {os.path.basename(path)}")
    elif name in _FILE_EVENTS and _ours(arguments[0]):
        if name == "os.mkdir" and os.path.isdir(arguments[0]):
            return
        effect(f"{name} {os.path.basename(os.fspath(arguments[0]))}")


def _ours(path: Any) -> bool:
    text = os.fspath(path)
    return isinstance(text, str) and text.startswith(DATA) and text not in (TRACE, str(ARMED))


def see_store(call: str) -> None:
    """Have a function of the store written down."""
    original = getattr(obstore, call)

    @functools.wraps(original)
    def told(*arguments: Any, **named: Any) -> Any:
        effect(f"obstore.{call}")
        return original(*arguments, **named)

    setattr(obstore, call, told)


def see_statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    """Statements that change rows."""
    if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
        effect(" ".join(statement.split()[:3]))


def see_commit(connection: Any) -> None:
    """Commits of transactions that write."""
    if connection.get_execution_options().get("trivium_write", False):
        effect("COMMIT")


steps.listener = pass_step
sys.addaudithook(see_files)
for _call in _STORE_CALLS:
    see_store(_call)
sqlalchemy.event.listen(Engine, "before_cursor_execute", see_statement)
sqlalchemy.event.listen(Engine, "commit", see_commit)
