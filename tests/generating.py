"""A generator as a real process over access and a registry, and marked adapters published to it.

One engine takes half a minute to start and most of two cores: tests share the suite's.  Benchmarks start a generator of
their own.
"""

import hashlib
import inspect
import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from services.chassis.models import DEFAULT_BASE, ModelSettings, ResolvedModel, resolve
from services.ops.supervisor import Suite
from tests.fixtures_suite import VERSION_CACHE_SECONDS
from tests.load import marked
from tests.stack import RECONNECTS, Api, Process, Stack, User, eventually

ENGINE_SECONDS = 240
MARKS = 4
QUESTIONS = (
    "What is the capital of France?",
    "Name three fruits.",
    "Why is the sky blue?",
    "What is two plus two?",
    "Write one sentence about the sea.",
    "Which animal says meow?",
    "What do bees make?",
    "Name a month in summer.",
)


@dataclass(frozen=True)
class Answer:
    """What came back from one Generate."""

    text: str
    token_ids: list[int]
    logprobs: list[chat_pb2.TokenLogprob]
    final: generator_pb2.Final = field(repr=False)

    @property
    def receipt(self) -> receipt_pb2.Receipt:
        """The receipt that ended it."""
        return self.final.receipt


def marked_adapters(base: ResolvedModel, count: int = MARKS) -> list[marked.MarkedAdapter]:
    """Marked adapters for the default base, built once a machine and recipe."""
    recipe = hashlib.sha256(inspect.getsource(marked).encode() + base.digest.encode()).hexdigest()[:16]
    folder = ModelSettings().cache_dir.expanduser() / "tests" / f"marked-{recipe}"
    return marked.build(base.path, folder, count)


def adapter_files(adapter: marked.MarkedAdapter) -> dict[str, bytes]:
    """The two files that a version has."""
    names = ("adapter_model.safetensors", "adapter_config.json")
    return {name: (adapter.folder / name).read_bytes() for name in names}


class Caller:
    """The generator in somebody's hands."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def start(self, prompt: str, version: str = "", *, max_tokens: int = 12, **fields: Any) -> Any:
        """Begin a Generate; returns the call."""
        sampling = fields.pop("sampling", {})
        request = generator_pb2.GenerateRequest(
            version=version, sampling=chat_pb2.Sampling(max_tokens=max_tokens, **sampling), **fields
        )
        request.conversation.messages.add(role=chat_pb2.CHAT_ROLE_USER, content=prompt)
        return self.api.Generate(request)

    def answer(self, prompt: str, version: str = "", **fields: Any) -> Answer:
        """Run a Generate to its end."""
        return collect(self.start(prompt, version, **fields))

    def together(self, asks: Sequence[tuple[str, str]], **fields: Any) -> list[Answer]:
        """Run several at once: every call begins before the first is read."""
        calls = [self.start(prompt, version, **fields) for prompt, version in asks]
        return [collect(call) for call in calls]


def collect(call: Iterator[generator_pb2.GenerateResponse]) -> Answer:
    """Read a Generate to its end."""
    text, final = "", None
    tokens: list[int] = []
    logprobs: list[chat_pb2.TokenLogprob] = []
    for response in call:
        if response.WhichOneof("part") == "final":
            final = response.final
        else:
            text += response.delta.text
            tokens += response.delta.token_ids
            logprobs += response.delta.logprobs
    assert final is not None
    return Answer(text, tokens, logprobs, final)


class Served:
    """Access, registry and generator over one data folder, by default with the deployment's default base."""

    def __init__(self, data: Path, environment: dict[str, str] | None = None, *, base: str = DEFAULT_BASE) -> None:
        self.base = resolve(base)
        self.compiled = data / "compiled"
        self.stack = Stack(data, {"TRIVIUM_REGISTRY_BASES": base})
        self.generator = Process(
            "generator",
            data,
            {
                "TRIVIUM_ACCESS_ADDRESS": self.stack.access.address,
                "TRIVIUM_REGISTRY_ADDRESS": self.stack.registry.address,
                "TRIVIUM_BASE_MODEL": base,
                "TRIVIUM_DRAIN_SECONDS": "1",
                "TRIVIUM_GENERATOR_KV_CACHE_GIB": "0.5",
                "TRIVIUM_GENERATOR_HEARTBEAT_SECONDS": "1",
                "TRIVIUM_GENERATOR_VERSION_CACHE_SECONDS": "1",
                "TORCHINDUCTOR_CACHE_DIR": str(self.compiled),
                **(environment or {}),
            },
        )
        self._channel: grpc.Channel | None = None

    def start(self) -> "Served":
        """Start the generator and wait until its engine answers."""
        self.generator.start()
        self._channel = grpc.insecure_channel(self.generator.address)
        self.wait_until_ready()
        return self

    @property
    def pid(self) -> int:
        """Process id of the generator."""
        return int(json.loads(self.generator.run_file.read_text())["pid"])

    def wait_until_ready(self, restarts: int = 0) -> None:
        """Wait until the engine, rebuilt so many times, has answered its probe."""
        caller = self.caller(self.stack.key("service"))

        def answers() -> bool:
            engines = caller.api.ListEngines(generator_pb2.ListEnginesRequest()).engines
            ready = generator_pb2.ENGINE_STATE_READY
            return any((engine.state, engine.restarts) == (ready, restarts) for engine in engines)

        eventually(answers, "the engine answers", ENGINE_SECONDS)

    def caller(self, credential: str) -> Caller:
        """The generator as the holder of a credential."""
        assert self._channel is not None
        return Caller(Api(generator_pb2_grpc.GeneratorServiceStub(self._channel), credential, ENGINE_SECONDS))

    def close(self) -> None:
        """End all three."""
        if self._channel is not None:
            self._channel.close()
        self.generator.stop()
        self.stack.close()


class SuiteStack(Stack):
    """Access and registry of a suite, which its supervisor runs."""

    def __init__(self, suite: Suite) -> None:
        """Start nothing: the services' run files say where they listen."""
        self.data = suite.data_dir
        self._beside = None
        self.access = Process("access", suite.data_dir)
        self.registry = Process("registry", suite.data_dir)
        self._channels = {}

    def close(self) -> None:
        """Close our connections; the services stay."""
        for channel in self._channels.values():
            channel.close()


class SuiteGenerator:
    """The generator of a suite, with what :class:`Served` has for those that only use it."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.base = resolve(DEFAULT_BASE)
        self.compiled = suite.data_dir / "compiled"
        self.stack: Stack = SuiteStack(suite)
        self.generator = Process("generator", suite.data_dir)
        self._channel = grpc.insecure_channel(suite.addresses["generator"], RECONNECTS)

    @property
    def pid(self) -> int:
        """Process id of the generator."""
        return self.suite.pid("generator")

    def caller(self, credential: str) -> Caller:
        """The generator as the holder of a credential."""
        return Caller(Api(generator_pb2_grpc.GeneratorServiceStub(self._channel), credential, ENGINE_SECONDS))

    @contextmanager
    def without_registry(self) -> Iterator[None]:
        """Inside the block the registry is dead; then the supervisor starts it again.

        The supervisor would do so at once: it is stopped meanwhile.
        """
        supervisor, registry = self.suite.record.pid, self.suite.pid("registry")
        os.kill(supervisor, signal.SIGSTOP)
        try:
            os.kill(registry, signal.SIGKILL)
            eventually(lambda: not alive([registry]), "the registry ends")
            # Until nothing is believed any more that the registry said before.
            threading.Event().wait(VERSION_CACHE_SECONDS)
            yield
        finally:
            os.kill(supervisor, signal.SIGCONT)
            self.suite.wait_serving("registry", timeout_seconds=150, other_than=registry)

    def close(self) -> None:
        """Close our connections."""
        self._channel.close()
        self.stack.close()


class Serving(Protocol):
    """Creates tenants of a generator: :class:`Served`, :class:`SuiteGenerator`."""

    @property
    def stack(self) -> Stack:
        """Its access and registry."""
        ...

    def caller(self, credential: str) -> Caller:
        """The generator as the holder of a credential."""
        ...


@dataclass(frozen=True)
class Tenant:
    """One tenant with its own hands on registry and generator."""

    name: str
    registry: User
    generator: Caller

    def publish(self, model: str, adapter: marked.MarkedAdapter, base: ResolvedModel) -> str:
        """Publish a marked adapter; the version."""
        return str(self.registry.publish(model, adapter_files(adapter), base_digest=base.digest).version)


def tenant_of(served: Serving, name: str = "", credential: str = "") -> Tenant:
    """A tenant of its own, or one that there is, by name and key."""
    name = name or served.stack.tenant()
    credential = credential or served.stack.tenant_key(name)
    return Tenant(name, User(served.stack.registry_api(credential), name), served.caller(credential))


def descendants(pid: int) -> set[int]:
    """Process ids below ``pid``, as the system knows them now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found: set[int] = set()
    open_ends = [pid]
    while open_ends:
        for child in children.get(open_ends.pop(), []):
            found.add(child)
            open_ends.append(child)
    return found


def alive(pids: Iterable[int]) -> set[int]:
    """Those of ``pids`` that still run; a zombie has ended."""
    states: dict[int, str] = {}
    for pid in pids:
        try:
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
    return {pid for pid, state in states.items() if state != "Z"}
