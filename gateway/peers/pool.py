"""The replicas of the generator: by a list of addresses, or by a name whose addresses come and go.

``TRIVIUM_GENERATOR_ADDRESS`` is one ``host:port``, several with commas between, or
``dns:///host:port``, whose addresses are looked up again every few seconds.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import grpc

from gateway.peers.replicas import AsService, WatchedGenerator
from gateway.replicas.silence import Voices
from services.chassis.config import split_address
from services.chassis.logs import Log

_DNS = "dns:///"
_LOOK_UP_SECONDS = 5.0


class Spawn(Protocol):
    """Runs work for as long as the server lives, or until it is cancelled."""

    def __call__(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        """Start it."""


def several(address: str) -> bool:
    """Whether a setting names more than one replica, or may."""
    return "," in address or address.startswith(_DNS)


class Pool:
    """Those replicas that there are now, each watched.  ``connect(address, host)`` opens a channel."""

    def __init__(
        self,
        address: str,
        connect: Callable[[str, str], grpc.aio.Channel],
        as_service: AsService,
        spawn: Spawn,
        clock: Callable[[], float],
        log: Log,
        *,
        look_up_seconds: float = _LOOK_UP_SECONDS,
    ) -> None:
        self._connect = connect
        self._as_service = as_service
        self._spawn = spawn
        self._clock = clock
        self._log = log
        self._look_up_seconds = look_up_seconds
        self._there: dict[str, tuple[WatchedGenerator, asyncio.Task[None]]] = {}
        self._voices = Voices(clock)
        self._name = address.removeprefix(_DNS) if address.startswith(_DNS) else ""
        self._fixed = [] if self._name else [part.strip() for part in address.split(",") if part.strip()]

    def __call__(self) -> Sequence[WatchedGenerator]:
        """The replicas now."""
        return [replica for replica, _ in self._there.values()]

    async def run(self) -> None:
        """Keep to the addresses, for as long as the server lives."""
        try:
            self._keep_to(self._fixed, "")
            await self._follow() if self._name else await asyncio.Event().wait()
        finally:
            for replica in self():
                await replica.channel.close()

    async def _follow(self) -> None:
        while True:
            host, port = split_address(self._name)
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                # What was there may be there still.
                self._log.warning("replicas_not_looked_up", name=self._name, why=str(error))
            else:
                self._keep_to(sorted({_address(*where[:2]) for *_, where in found}), host)
            await asyncio.sleep(self._look_up_seconds)

    def _keep_to(self, addresses: Sequence[str], host: str) -> None:
        for address in [known for known in self._there if known not in addresses]:
            replica, watching = self._there.pop(address)
            watching.cancel()
            self._voices.forget(address)
            self._spawn(_closed_when_idle(replica), name=f"leave {address}")
        for address in addresses:
            if address not in self._there:
                replica = WatchedGenerator(address, self._connect(address, host), self._clock, self._voices)
                watching = self._spawn(replica.watch(self._as_service), name=f"watch {address}")
                self._there[address] = replica, watching


def _address(host: object, port: object) -> str:
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


async def _closed_when_idle(replica: WatchedGenerator) -> None:
    """Answers that run there go on to their end."""
    await replica.idle.wait()
    await replica.channel.close()
