"""Solo jobs in several processes on this machine, as a cluster starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from services.trainer.work import RESULT, Exit, Line

SECONDS = 240.0


def train_together(folder: Path, size: int, threads: int = 1, ends: int = Exit.DONE) -> list[Line]:
    """Train the job in `folder` in so many processes until all `ends` so; return what the first of them said."""
    with socket.socket() as held:
        # The first process may listen on it as well, and nobody else is given it meanwhile.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        return _trained_together(folder, size, threads, ends, held.getsockname()[1])


def _trained_together(folder: Path, size: int, threads: int, ends: int, port: int) -> list[Line]:
    meeting = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "services.trainer.child", str(folder)],
            env=os.environ | meeting | {"RANK": str(rank), "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=SECONDS)[0] for process in processes]
    assert [process.returncode for process in processes] == [ends] * size
    lines = [Line.decode(raw) for raw in said[0].splitlines()]
    return [line for line in lines if line is not None]


def weights(folder: Path) -> Path:
    """The weights that the job ended with."""
    return folder / RESULT / "model.safetensors"
