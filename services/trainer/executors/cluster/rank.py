"""One of the processes that train a job together: started beside Ray Train's worker, steered and heard through it.

Invariants: the process ends with the worker, however that ends; what the first of them says reaches the gang, in order.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from services.trainer.executors.executor import Training
from services.trainer.executors.processes import SOLO, Running, start
from services.trainer.work import Command, Do, Exit

# The gang's concurrency groups for our calls: one waits for wishes in each process, one passes lines on.
WISHES, WORDS = "wishes", "words"
_ENDS = frozenset({Exit.DONE, Exit.STOPPED, Exit.REFUSED})


def train_rank(config: Mapping[str, Any]) -> None:
    """Train as one of the job's processes, as Ray Train has numbered them.  Raises RuntimeError when it is lost."""
    import ray
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    context = train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    own = (ray.util.get_node_ip_address(), _free_port()) if rank == 0 else None
    address, port = broadcast_from_rank_zero(own)
    meeting = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": address, "MASTER_PORT": str(port)}
    # As in NodeHost: this process is ours, and its children are not the main thread's.
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    status = asyncio.run(_run(config["training"], config["gang"], rank, meeting))
    if status not in _ENDS:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise RuntimeError(f"process {rank + 1} of {size} ended: {how}")


async def _run(training: Training, gang: Any, rank: int, meeting: Mapping[str, str]) -> int:
    """Run the process to its end; return its status."""
    running = await start(SOLO, training.folder, training.work.threads, many=False, environment=meeting)
    running.rest()
    steering = asyncio.create_task(_steer(running, gang, training))
    try:
        await _pass_on(running, gang, heard=rank == 0)
        return await running.child.wait()
    finally:
        steering.cancel()
        await running.child.kill()


async def _steer(running: Running, gang: Any, training: Training) -> None:
    seen, stopping = -1, False
    while True:
        wishes = await gang.wishes.options(concurrency_group=WISHES).remote(seen)
        seen = wishes.number
        if wishes.stopping and not stopping:
            stopping = True
            await running.tell(Command(Do.STOP, job=training.job, epoch=training.epoch))
        elif wishes.computing:
            running.go()
        else:
            running.rest()


async def _pass_on(running: Running, gang: Any, *, heard: bool) -> None:
    output = running.child.process.stdout
    assert output is not None
    while raw := await output.readline():
        if heard:
            await gang.say.options(concurrency_group=WORDS).remote(raw)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
