"""`make demo`: training, serving and retrieval meet on this machine, in minutes.

Its state is apart from everything else: TRIVIUM_DEMO_DIR, or ~/.local/share/trivium-demo.
"""

import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from trivium_client import TriviumError

from services.ops.demo.run import run
from services.ops.demo.stages import DemoError
from services.ops.supervisor.launching import LaunchError


def main() -> int:
    """Run the demo; 0, 1 when a stage failed, 130 when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(os.environ.get("TRIVIUM_DEMO_DIR") or "~/.local/share/trivium-demo").expanduser().absolute()
    try:
        run(folder, _console())
    except KeyboardInterrupt:
        print("Interrupted; everything is stopped. Run it again: it goes on from what it has.", file=sys.stderr)
        return 130
    except Exception as error:
        failure = _first(error)
        if not isinstance(failure, DemoError | LaunchError | TriviumError):
            raise
        print(f"The demo stopped: {failure}\nLogs are in {folder / 'logs'}.", file=sys.stderr)
        return 1
    return 0


def _console() -> Console:
    """The terminal as wide as it is; a file wide enough for the tables."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def _first(error: BaseException) -> BaseException:
    """The failure inside the groups in which concurrent work reports it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
