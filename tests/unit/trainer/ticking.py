"""Stands in for a training process: says a step every hundredth of a second, and repeats what it is told.

Run as `python -m tests.unit.trainer.ticking FOLDER`, under the name of either kind of process.  It ends when it is told
to, by a command or by SIGTERM.
"""

import signal
import sys
import threading

from services.trainer.job import Progress
from services.trainer.work import Command, Do, Line, Said

JOB = "job"
_TICK_SECONDS = 0.01


def main() -> None:
    """Tick until told to end."""
    ended, turn = threading.Event(), threading.Lock()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())

    def say(line: Line) -> None:
        with turn:
            sys.stdout.buffer.write(line.encode())
            sys.stdout.buffer.flush()

    def listen() -> None:
        for line in sys.stdin.buffer:
            command = Command.decode(line)
            say(Line(Said.MESSAGE, message=line.decode(), job=JOB))
            if command.do is Do.END:
                ended.set()

    threading.Thread(target=listen, daemon=True).start()
    step = 0
    while not ended.wait(_TICK_SECONDS):
        step += 1
        say(Line(Said.STEP, Progress(step, step + 1), job=JOB))
    say(Line(Said.STOPPED, job=JOB))


if __name__ == "__main__":
    main()
