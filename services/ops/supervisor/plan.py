"""What a suite is made of: the programs, what each waits for, and the environment that each gets.

Invariant: a program's environment says where every peer is, so no service has to guess.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.chassis.config import split_address
from services.chassis.resources import Role, shares
from services.ops.supervisor.doors import Doors


@dataclass(frozen=True, slots=True)
class Program:
    """One service as the supervisor runs it.

    It is started when every program in `after` serves, and stopped before any of them, and before those that it `asks`
    though it waits for none of them: while it drains it needs them still.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    role: Role = Role.CONTROL
    # Between start and SERVING; the engine may have to unpack its weights first.
    ready_seconds: float = 120.0


def suite_programs() -> tuple[Program, ...]:
    """Return the eight services.

    The generator needs access alone and takes longest, so it starts second and the others
    come up while it loads; it waits for the registry by itself.
    """

    def service(
        name: str,
        after: tuple[str, ...],
        role: Role = Role.CONTROL,
        ready_seconds: float = 120.0,
        asks: tuple[str, ...] = (),
    ) -> Program:
        module = "gateway" if name == "gateway" else f"services.{name}"
        return Program(name, (sys.executable, "-m", module), after, asks, role, ready_seconds)

    return (
        service("access", ()),
        service("generator", ("access",), Role.ENGINE, 600.0, asks=("registry",)),
        service("registry", ("access",)),
        service("embedder", ("access",), Role.EMBEDDER, 300.0, asks=("registry",)),
        service("retriever", ("access", "embedder"), asks=("generator",)),
        service("trainer", ("access", "registry")),
        service("files", ("access",)),
        service("gateway", ("access", "registry", "retriever", "files"), asks=("generator", "embedder", "trainer")),
    )


# No model, tokenizer or engine looks anything up on the network of a running suite.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Otherwise the engine asks the network which address this host has.
    "VLLM_HOST_IP": "127.0.0.1",
    "PYTHONUNBUFFERED": "1",
}
# Hosts that mean every interface.
_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104 - nothing listens by it


def environment(
    program: Program, doors: Mapping[str, Doors], data_dir: Path, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables of one program: what was set, the suite's addresses, its share of the machine.

    `base` is the caller's environment (default: this process').  What the caller set
    wins over our defaults, except for addresses, which the suite decides.
    """
    inherited = dict(os.environ if base is None else base)
    defaults = {**_OFFLINE, **shares()[program.role].environment()}
    if (gateway := doors.get("gateway")) is not None and gateway.http_listen:
        defaults["TRIVIUM_FILES_GATEWAY_URL"] = _on_this_machine(gateway.http_scheme, gateway.http_listen)
    addresses = {f"TRIVIUM_{name.upper()}_ADDRESS": door.listen for name, door in doors.items()}
    own = doors[program.name]
    prefix = f"TRIVIUM_{program.name.upper()}"
    listens = {
        f"{prefix}_LISTEN": own.listen,
        f"{prefix}_ADMIN_LISTEN": own.admin_listen,
        f"{prefix}_METRICS_LISTEN": own.metrics_listen,
    }
    if own.http_listen:
        listens[f"{prefix}_HTTP_LISTEN"] = own.http_listen
    return {**defaults, **inherited, **addresses, **listens, "TRIVIUM_DATA_DIR": str(data_dir)}


def _on_this_machine(scheme: str, listen: str) -> str:
    """The URL of a door for those beside it: one that listens everywhere is reached on the loopback."""
    host, port = split_address(listen)
    return f"{scheme}://127.0.0.1:{port}" if host in _EVERYWHERE else f"{scheme}://{listen}"
