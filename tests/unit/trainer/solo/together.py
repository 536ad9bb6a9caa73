"""Solo jobs in several processes on this machine, as a cluster starts them."""

from pathlib import Path

from services.trainer.work import RESULT, Exit, Line
from tests.harness.ports import bind_port, port_of
from tests.unit.trainer import programs

SECONDS = 240.0


def train_together(folder: Path, size: int, ends: int = Exit.DONE) -> list[Line]:
    """Train the job in `folder` in so many processes until all `ends` so; return what the first of them said."""
    with bind_port() as held:
        return _trained_together(folder, size, ends, port_of(held))


def _trained_together(folder: Path, size: int, ends: int, port: int) -> list[Line]:
    meeting = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        programs.start("services.trainer.child", folder, env=meeting | {"RANK": str(rank)}) for rank in range(size)
    ]
    ended = [process.ended(SECONDS) for process in processes]
    assert [each.status for each in ended] == [ends] * size, ended[0].errors[-2000:]
    lines = [Line.decode(raw) for raw in ended[0].output.encode().splitlines()]
    return [line for line in lines if line is not None]


def weights(folder: Path) -> Path:
    """The weights that the job ended with."""
    return folder / RESULT / "model.safetensors"
