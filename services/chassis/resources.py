"""Who may use how much of the machine: the one place that hands out cores, memory and priorities.

The trainer, the embedder and the engine would each take the whole machine; whatever
sets thread counts asks here.  Training runs at the system's idle priority while anything
serves: it takes only what serving leaves, at once and without a decision of ours.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis import process_identity

_GIB = 1024**3
# Of hundreds of jobs in a process each tells of every step; to read /proc for each would tell nobody more.
_MEASURE_SECONDS = 1.0
_SERVING = ("generator", "embedder", "retriever", "gateway")


class Role(StrEnum):
    """Who asks.  ``CONTROL`` is every service that computes little."""

    ENGINE = "engine"
    EMBEDDER = "embedder"
    TRAINER = "trainer"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Share:
    """One role's part.  ``idle`` means SCHED_IDLE and idle I/O; ``nice`` counts where that is not to be had."""

    role: Role
    threads: int
    cpus: tuple[int, ...]
    memory_bytes: int
    nice: int
    idle: bool

    def environment(self) -> dict[str, str]:
        """Variables for a child of this role.

        Waiting threads sleep instead of spinning: on shared cores a spinning OpenMP
        thread takes the time of the one that it waits for.  Those of an engine spin for
        at most some 200 us first: between the hundreds of products of a decode step they
        need not be woken, which takes 14 % off the step (SmolLM2-135M, batch 32, two cores)
        for 17 % more of processor time.  A worker of joint training changes between the two
        (`chassis.waiting`).
        """
        count = str(self.threads)
        variables = {
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "RAYON_NUM_THREADS": count,
            "TOKENIZERS_PARALLELISM": "false",
            "GOMP_SPINCOUNT": "10000" if self.role is Role.ENGINE else "0",
            "OMP_WAIT_POLICY": "PASSIVE",
            "KMP_BLOCKTIME": "0",
        }
        if self.role is Role.ENGINE:
            variables["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, self.cpus[: self.threads]))
            # Whole GiB, of what is left beside weights and activations.
            variables["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, self.memory_bytes // 2 // _GIB))
        return variables


class ResourceSettings(BaseSettings):
    """Limits set by the deployment; 0 takes what the machine (or its control group) offers."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore", env_ignore_empty=True)

    cores: int = Field(default=0, ge=0, validation_alias="TRIVIUM_CORES")
    memory_bytes: int = Field(default=0, ge=0, validation_alias="TRIVIUM_MEMORY_BYTES")


def shares(settings: ResourceSettings | None = None) -> Mapping[Role, Share]:
    """The shares of this machine under the deployment's limits."""
    settings = settings or ResourceSettings()
    return plan(settings.cores or available_cores(), settings.memory_bytes or available_memory_bytes())


def plan(cores: int, memory_bytes: int, cpus: tuple[int, ...] | None = None) -> Mapping[Role, Share]:
    """Divide ``cores`` and ``memory_bytes`` among the roles.

    Up to three cores are shared by all, who then differ in priority alone.  From four on
    the engine has about half for itself, and the embedder a quarter: an OpenMP loop is as
    slow as its most disturbed thread.  Training may use every core, at idle priority.
    The generator's engines, when there are several, share the engine's part, cores and
    memory: an idle one takes no time, and a part for each would slow the busy ones down.
    """
    cores = max(1, cores)
    known = cpus or usable_cpus()
    ids = (known * cores)[:cores] if len(known) < cores else known[:cores]
    if cores < 4:
        engine = embedder = ids
    else:
        half, quarter = cores // 2, max(1, cores // 4)
        engine, embedder = ids[:half], ids[half : half + quarter]
    part = {
        Role.ENGINE: (engine, 0.40, 0, False),
        Role.EMBEDDER: (embedder, 0.10, 0, False),
        Role.TRAINER: (ids, 0.35, 19, True),
        Role.CONTROL: (ids, 0.05, 0, False),
    }
    return {
        role: Share(role, 1 if role is Role.CONTROL else len(own), own, int(memory_bytes * fraction), nice, idle)
        for role, (own, fraction, nice, idle) in part.items()
    }


def usable_cpus() -> tuple[int, ...]:
    """The processors that this process may run on."""
    return tuple(sorted(os.sched_getaffinity(0)))


def available_cores() -> int:
    """Cores by affinity and by the control group's quota, whichever is less; at least one."""
    quota = _cgroup_cores()
    count = len(usable_cpus())
    return max(1, min(count, int(quota))) if quota else count


def available_memory_bytes() -> int:
    """Memory of the machine or of the control group, whichever is less."""
    total = int(psutil.virtual_memory().total)
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            return min(total, int(Path(name).read_text()))
    return total


class ResidentMemory:
    """Resident memory of this process in bytes, measured anew at most once a second however often it is asked for.

    Pages that it shares with others, such as those of a file that several have mapped, are among it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._process = psutil.Process()
        self._clock = clock
        self._measured = -math.inf
        self._bytes = 0

    def __call__(self) -> int:
        """What the process held when it was last measured."""
        now = self._clock()
        if now - self._measured >= _MEASURE_SECONDS:
            self._bytes, self._measured = int(self._process.memory_info().rss), now
        return self._bytes


def _cgroup_cores() -> float | None:
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text()
        period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()
        if int(quota) > 0:
            return int(quota) / int(period)
    return None


def apply(role: Role | str, share: Share | None = None) -> Share:
    """Give this process (all its threads) the priority and processors of its role.  Returns the share."""
    role = Role(role)
    share = share or shares()[role]
    set_idle(share.idle, nice=share.nice)
    allowed = set(share.cpus) & set(usable_cpus())
    if allowed:
        for thread in _threads():
            with suppress(ProcessLookupError, PermissionError):
                os.sched_setaffinity(thread, allowed)
    return share


def set_idle(idle: bool, *, nice: int = 0, children: bool = False) -> None:
    """Enter or leave the system's idle class, for all threads: processor and disk.  With ``children`` for theirs, too.

    The training process calls this as serving comes and goes (:func:`serving`).  Where the
    system forbids to leave it, the process stays idle: slower, never in the way.
    """
    own = psutil.Process()
    _set_idle(own, idle, nice)
    # Only now looked for: what is started meanwhile inherits what we have.
    for child in own.children(recursive=True) if children else ():
        _set_idle(child, idle, nice)
    # Under autogrouping, priorities count inside a session only, unless the group is lowered as well: ours to
    # lower when we lead the session, and everybody's who serves beside us when we do not.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(19 if idle else 0))


def _set_idle(process: psutil.Process, idle: bool, nice: int) -> None:
    """Change one process; one that ends meanwhile needs no change."""
    policy = os.SCHED_IDLE if idle else os.SCHED_OTHER
    for thread in _threads(process.pid):
        with suppress(ProcessLookupError, PermissionError):
            os.sched_setscheduler(thread, policy, os.sched_param(0))
    with suppress(psutil.Error, OSError):
        process.ionice(psutil.IOPRIO_CLASS_IDLE if idle else psutil.IOPRIO_CLASS_BE)
    with suppress(psutil.Error, OSError):
        process.nice(nice if idle else 0)


def serving(data_dir: Path) -> bool:
    """Whether a service that answers people runs on this machine, by the run files; other machines may share these."""
    return next(serving_pids(data_dir), None) is not None


def serving_pids(data_dir: Path) -> Iterator[int]:
    """The processes of this machine's services that answer people, as :func:`serving` finds them."""
    for name in _SERVING:
        with suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
            facts = json.loads((data_dir / "run" / f"{name}.json").read_text())
            if process_identity.is_alive_here(facts["process"]):
                yield process_identity.pid_of(facts["process"])


def _threads(pid: int | None = None) -> list[int]:
    """The threads of a process, ours without ``pid``; none of one that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(name) for name in os.listdir(f"/proc/{pid or 'self'}/task")]
    return []
