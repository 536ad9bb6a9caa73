"""The connection to a Ray cluster that somebody else runs: nothing of Ray's is started here but this connection.

Invariant: Ray is imported here and below alone, and only where a cluster is asked for; it reports to nobody, prints
nothing of other processes, and takes no signal from us.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import Unstartable

# A port that answers at all does so within this.
_REACH_SECONDS = 5.0
# Connecting takes some two seconds, on a machine that is busy several times that.
_CONNECT_SECONDS = 60.0
_NAMESPACE = "trivium-trainer"
# Ray's own reports and warnings that tell our log nothing are off; an address where no cluster answers is given up on
# after seconds.
_ENVIRONMENT = {
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # What its daemons say of one another would be printed to our standard output.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}
_NEVER_SHOWN = 100


class NoCluster(Unstartable):
    """There is no cluster to train on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class RayNode:
    """A machine of the cluster as Ray lists it.  ``cores`` and ``memory_bytes`` are what Ray was told that it has."""

    node: str
    hostname: str
    cores: int
    memory_bytes: int


class Connection:
    """An open connection."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray

    async def nodes(self) -> Sequence[RayNode]:
        """The machines that live, by Ray's word; one that died a moment ago may be among them.  Raises NoCluster."""
        try:
            listed: list[Mapping[str, Any]] = await asyncio.to_thread(self.ray.nodes)
        except (self.ray.exceptions.RayError, RuntimeError, OSError) as error:
            raise NoCluster(f"the Ray cluster's head does not answer: {error}") from error
        return [_node(entry) for entry in listed if entry["Alive"]]

    def actor(self, kind: type, node: str, groups: Mapping[str, int], *arguments: object) -> Any:
        """Start an actor of the class on a node; ``groups`` names how many of its calls run beside the others.

        It takes up none of Ray's cores: where something runs is the scheduler's decision, not Ray's.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        made = self.ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, concurrency_groups=dict(groups))(kind)
        return made.options(scheduling_strategy=there).remote(*arguments)

    def kill(self, actor: Any) -> None:
        """End an actor at once, wherever it is."""
        with suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(actor)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """Connect to the cluster whose head listens at ``address`` (host:port), from one of its nodes.

    Raises NoCluster when Ray is not installed, nothing answers there, or what answers is no cluster of this Ray.
    """
    ray = await asyncio.to_thread(_imported)
    await _reach(address)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await asyncio.to_thread(_open, ray, address)
    except (TimeoutError, OSError, RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0] or f"no answer within {_CONNECT_SECONDS:.0f} s"
        raise NoCluster(
            f"{address} is no Ray cluster that this machine is a node of ({why}): start Ray {ray.__version__} here "
            f"with `ray start --address={address}`, or as the head with `ray start --head`"
        ) from error
    try:
        yield Connection(ray)
    finally:
        await asyncio.to_thread(ray.shutdown)


def _imported() -> Any:
    os.environ.update(_ENVIRONMENT)
    try:
        import ray
    except ImportError as error:
        raise NoCluster(
            "TRIVIUM_TRAINER_EXECUTOR=ray needs Ray, which is not installed: install the extra `cluster` "
            "(trivium-suite[cluster]), or set TRIVIUM_TRAINER_EXECUTOR=local"
        ) from error
    return ray


async def _reach(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_REACH_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError) as error:
        raise NoCluster(
            f"nothing answers at {address}, where TRIVIUM_TRAINER_RAY_ADDRESS says that the Ray cluster's head is: "
            "start it with `ray start --head --port=PORT`, or set the address that it printed"
        ) from error
    writer.close()


def _open(ray: Any, address: str) -> None:
    ray.init(
        address=address,
        namespace=_NAMESPACE,
        log_to_driver=False,
        configure_logging=True,
        logging_level=_NEVER_SHOWN,
    )


def _node(entry: Mapping[str, Any]) -> RayNode:
    resources = entry["Resources"]
    return RayNode(
        node=entry["NodeID"],
        hostname=entry["NodeManagerHostname"],
        cores=int(resources.get("CPU", 0)),
        memory_bytes=int(resources.get("memory", 0)),
    )
