"""What reads documents, taken over by any that begins as the tests' do: it then does what that one says."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from services.retriever.formats.unreadable import Unreadable
from services.retriever.ingestion import answers, reading
from services.retriever.ingestion.answers import Answer

TAKES_OVER = b"take over: "
_READ = reading._read
_SEND = reading._send


def serve(memory_bytes: int, parent: int) -> None:
    """As :func:`services.retriever.ingestion.reading.serve`."""
    said: list[bytes] = []

    def read(request: dict[str, Any], content: bytes) -> Any:
        if not content.startswith(TAKES_OVER):
            return _READ(request, content)
        kind, _, rest = content.removeprefix(TAKES_OVER).partition(b" ")
        if kind == b"say":
            said.append(rest)
            raise Unreadable("", "")
        attempt(kind.decode(), rest.decode())
        raise Unreadable("nothing stopped it", "")

    def send(answering: BinaryIO, token: bytes, answer: Answer) -> None:
        if not said:
            _SEND(answering, token, answer)
            return
        answering.write(token + said.pop())
        answering.flush()

    reading._read, reading._send = read, send
    reading.serve(memory_bytes, parent)


def attempt(what: str, victim: str) -> None:
    """Something that reading a document never needs; Unreadable says with which error it was refused."""
    attempts: dict[str, Callable[[], object]] = {
        "network": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "program": lambda: subprocess.run([sys.executable, "--version"], check=True),
        "process": os.fork,
        "thread": lambda: threading.Thread(target=int).start(),
        "write": lambda: os.open(victim, os.O_WRONLY),
        "delete": lambda: os.unlink(victim),
        "rename": lambda: os.rename(victim, victim + "2"),
        "environment": lambda: _raise(" ".join(sorted(os.environ))),
    }
    try:
        attempts[what]()
    except OSError as error:
        raise Unreadable(str(error), "") from error


def _raise(sentence: str) -> None:
    raise Unreadable(sentence, "")


__all__ = ["TAKES_OVER", "answers", "serve"]
