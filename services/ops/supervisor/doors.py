"""Where each service of a suite listens, and whether it can.

Invariant: the addresses of a suite are settled before its first process starts and stay
the same over every restart, so nobody has to be told a new one.
"""

import os
import random
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace

import psutil

from services.chassis.config import PORTS, split_address

# Below the range from which the kernel takes the near ends of outgoing connections
# (32768 and up on Linux): a port from there may be gone by the time we listen.
_FREE_RANGE = range(20_000, 32_000)
_HTTP_LISTEN = "127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Doors:
    """The addresses (host:port) of one service; `http_listen` is the gateway's alone, and `http_scheme` what is spoken there."""

    listen: str
    admin_listen: str
    metrics_listen: str
    http_listen: str = ""
    http_scheme: str = "http"

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield (setting, address) for each."""
        for setting in ("listen", "admin_listen", "metrics_listen", "http_listen"):
            if address := getattr(self, setting):
                yield setting, address


@dataclass(frozen=True, slots=True)
class Conflict:
    """An address that somebody else holds.  `owner` says who, when the system tells."""

    service: str
    setting: str
    address: str
    owner: str

    def __str__(self) -> str:
        variable = f"TRIVIUM_{self.service.upper()}_{self.setting.upper()}"
        return f"{self.address} ({self.service}, {variable}) is in use{self.owner}"


def settled(names: Iterable[str], *, free: bool, environment: Mapping[str, str] | None = None) -> dict[str, Doors]:
    """Return the addresses of `names`: from the environment, else the defaults, else free ports.

    Port 0, or `free`, takes a port that nobody listens on now.
    """
    given = os.environ if environment is None else environment
    chosen: dict[str, Doors] = {}
    taken: set[int] = set()
    for name in names:
        port = PORTS.get(name, 0)
        defaults = Doors(
            f"127.0.0.1:{port}",
            f"127.0.0.1:{port + 1000 if port else 0}",
            f"127.0.0.1:{port + 2000 if port else 0}",
            _HTTP_LISTEN if name == "gateway" else "",
            "https" if given.get("TRIVIUM_GATEWAY_HTTP_TLS_CERT_FILE") else "http",
        )
        addresses = {}
        for setting, default in defaults.named():
            host, wanted = split_address(given.get(f"TRIVIUM_{name.upper()}_{setting.upper()}") or default)
            if free or wanted == 0:
                wanted = _free_port(host, taken)
            addresses[setting] = f"{host}:{wanted}"
        chosen[name] = replace(defaults, **addresses)
    return chosen


def conflicts(doors: Mapping[str, Doors]) -> list[Conflict]:
    """Return the addresses that cannot be listened on."""
    return [
        Conflict(name, setting, address, _owner(split_address(address)[1]))
        for name, own in doors.items()
        for setting, address in own.named()
        if not _can_listen(*split_address(address))
    ]


def _free_port(host: str, taken: set[int]) -> int:
    for _ in range(1000):
        port = random.choice(_FREE_RANGE)
        if port not in taken and _can_listen(host, port):
            taken.add(port)
            return port
    raise OSError(f"no free port between {_FREE_RANGE.start} and {_FREE_RANGE.stop} on {host}")


def _can_listen(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # As servers do: a connection that has just ended does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _owner(port: int) -> str:
    """Return " by NAME (pid N)" for whoever listens on `port`; empty when the system does not say."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr:
                continue
            if connection.laddr.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline()[:4])
                return f" by pid {connection.pid} ({command[:80]})"
    return ""
