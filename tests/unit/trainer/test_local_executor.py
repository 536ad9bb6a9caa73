"""Processes of this machine, as the executor keeps them."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from services.chassis.logs import logger
from services.trainer.executors import local
from services.trainer.executors.executor import Training
from services.trainer.executors.local import LocalExecutor, Machine
from services.trainer.settings import Settings
from services.trainer.work import Work


async def test_of_a_process_that_could_not_be_started_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def starts(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(local, "start", starts)
    machine = Machine("here", "us", memory_bytes=1 << 30, cores=1, stop_seconds=1.0, idle_seconds=1.0)
    executor = LocalExecutor(tmp_path, machine, logger("trainer"))
    work = Work("base", "tiny", "rows", Settings(), threads=1, data_dir=str(tmp_path))
    alone = Training(
        tenant="acme", job="alone", epoch=1, folder=tmp_path / "alone", work=work, group=None, nodes=("here",)
    )
    with pytest.raises(OSError, match="Too many open files"):
        await executor.start(alone)
    assert not executor._starting
