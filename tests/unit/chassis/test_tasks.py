"""A task that ends another one can be ended itself, and a server says what it is at."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from services.chassis import tasks
from services.chassis.access import AccessClient
from services.chassis.logs import logger
from tests.harness.timeouts import HANG_SECONDS

SAYS = """
import asyncio
from services.chassis import tasks
from services.chassis.logs import logger

async def waits_for_the_embedder():
    await asyncio.Event().wait()

async def main():
    asyncio.create_task(waits_for_the_embedder(), name="ingestion-0")
    tasks.tell_on_signal(logger("retriever"))
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_task_has_ended_and_its_failure_is_raised() -> None:
    ended = asyncio.Event()

    async def works() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise ValueError("on its way out")

    working, failing = asyncio.create_task(works()), asyncio.create_task(fails())
    await asyncio.sleep(0)
    await tasks.end()
    with pytest.raises(ValueError, match="on its way out"):
        await tasks.end(working, failing)
    assert ended.is_set()
    await tasks.end(working)


async def test_who_is_cancelled_while_it_ends_another_one_is_cancelled(tmp_path: Path) -> None:
    closing = asyncio.Event()

    async def token() -> str:
        return "token"

    async def worker() -> None:
        while True:
            async with access.renewed(token):
                await asyncio.sleep(0)
                closing.set()
            # A round that took no notice would go on for ever.
            await asyncio.sleep(0)

    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        access = AccessClient(channel, tmp_path / "no key", logger("test"))
        working = asyncio.create_task(worker())
        # The block is left in the same step: what it has to end is cancelled, and has not ended.
        await closing.wait()
        working.cancel()
        done, _ = await asyncio.wait([working], timeout=HANG_SECONDS)
        working.cancel()
        assert done


def test_a_server_that_hangs_says_what_each_task_and_each_thread_is_at() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SAYS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "up\n"
            os.kill(process.pid, signal.SIGUSR1)
            lines = list[str]()
            while not any('"ingestion-0"' in line for line in lines):
                lines.append(process.stderr.readline())
        finally:
            process.kill()
    told = json.loads(lines[-1])
    assert [frame.split()[-1] for frame in told["stack"]] == ["waits_for_the_embedder", "wait"]
    assert any("most recent call first" in line for line in lines)
