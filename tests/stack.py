"""Access and the registry as real processes on free ports, and clients that speak to them with a key."""

import json
import os
import random
import signal
import subprocess
import threading
import urllib.request
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.common.v1 import transfer_pb2
from trivium.registry.v1 import model_pb2, registry_pb2, registry_pb2_grpc

from services.chassis import tasks
from services.chassis.status import PeerFailure, from_rpc_error
from tests import tied
from tests.adapters import BASE_DIGEST, Adapter, digest
from tests.harness.ports import bind_port, port_of
from tests.token_issuer import TokenIssuer
from tests.zygote import Forked

CHECKOUT = Path(__file__).resolve().parents[1]
CALL_SECONDS = 120
START_SECONDS = 120
CHUNK_BYTES = 512 * 1024
_END_SECONDS = 30


def eventually(holds: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """Wait until ``holds()`` is true and return it; fail with ``what`` when it does not become so."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        value = holds()
        if value:
            return value
        pause.wait(0.02)
    raise AssertionError(f"did not happen within {seconds} s: {what}")


class Process:
    """One service as ``python -m services.NAME``, on ports of the system's choice: each start has others.

    The port of its RPCs is held from before a start until the next one, so that no other server gets it meanwhile.
    """

    def __init__(
        self, name: str, data: Path, environment: Mapping[str, str] | None = None, *, prelude: str = ""
    ) -> None:
        """``prelude`` names a module of the tests that is imported in the service's process first."""
        self.name = name
        self.data = data
        self._prelude = prelude
        self.run_file = data / "run" / f"{name}.json"
        ours = {f"TRIVIUM_{name.upper()}_{kind}": "127.0.0.1:0" for kind in _LISTENS}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRIVIUM_")}
        self._environment = {**inherited, **ours, "TRIVIUM_DATA_DIR": str(data), **(environment or {})}
        self._log = data / f"{name}.log"
        self._child: subprocess.Popen[bytes] | Forked | None = None
        self._listen = f"TRIVIUM_{name.upper()}_LISTEN"
        self._keeps_port = self._listen in (environment or {})
        self._release_port: Callable[[], Any] = lambda: None
        # It listens, and nobody has ended it or waited for its end.
        self._expected = False

    def start(self) -> "Process":
        """Start it and wait until it listens."""
        if not self._keeps_port:
            self._hold_port()
        self.run_file.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._child = tied.start_service(
                self.name, prelude=self._prelude, cwd=CHECKOUT, env=self._environment, stdout=log, stderr=log
            )
        self._until_it_listens()
        self._expected = True
        _started.add(self)
        return self

    def _hold_port(self) -> None:
        self._release_port()
        held = bind_port()
        self._release_port = weakref.finalize(self, held.close)
        self._environment = {**self._environment, self._listen: f"127.0.0.1:{port_of(held)}"}

    def _until_it_listens(self) -> None:
        eventually(self._listens, f"{self.name} listens")

    def _listens(self) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, f"{self.name} died:\n{self.log()[-2000:]}"
        return self.run_file.exists()

    @property
    def address(self) -> str:
        """Where it listens now."""
        return str(json.loads(self.run_file.read_text())["listen"])

    def metric(self, series: str) -> float:
        """A number that it counts now, by the name of its series."""
        address = json.loads(self.run_file.read_text())["metrics_listen"]
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{series} "))

    def keep_port(self) -> None:
        """From the next start on, listen where it listens now: peers and clients know the address."""
        self._keeps_port = True

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        assert self._child is not None
        return self._child.pid

    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text()

    def died(self, seconds: float = START_SECONDS) -> int:
        """Wait until it has ended; how, negative for a signal."""
        assert self._child is not None
        self._expected = False
        return self._child.wait(seconds)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self._end(signal.SIGKILL)

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Inside the block it is dead; then it is started again, whatever the block ends in, for others use it too."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def stop(self) -> None:
        """End it as a supervisor would."""
        self._end(signal.SIGTERM)

    def missed(self) -> bool:
        """Whether it should run and does not; true once, for whoever says so."""
        missed = self._expected and self._child is not None and self._child.poll() is not None
        self._expected = self._expected and not missed
        return missed

    def _end(self, number: int) -> None:
        self._expected = False
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)
            try:
                self._child.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.send_signal(tasks.TELL)
                threading.Event().wait(1)
                self._child.kill()
                raise AssertionError(f"{self.name} does not end:\n{self.log()[-8000:]}") from None


_started: "weakref.WeakSet[Process]" = weakref.WeakSet()


def logs_of_missed() -> list[tuple[str, str]]:
    """The services that ended though no test ended them, each with the end of its log."""
    return [(f"{process.name} ended by itself", process.log()[-8000:]) for process in set(_started) if process.missed()]


_LISTENS = ("LISTEN", "ADMIN_LISTEN", "METRICS_LISTEN")
_QUICK = {"TRIVIUM_DRAIN_SECONDS": "1"}


def peer_settings(access: Process) -> dict[str, str]:
    """The settings of a service with a separate data folder that uses this access service."""
    return {
        "TRIVIUM_ACCESS_ADDRESS": access.address,
        "TRIVIUM_SERVICE_KEY_FILE": str(access.data / "keys" / "service.key"),
        **_QUICK,
    }


class Api:
    """A stub whose calls carry a credential and a deadline."""

    def __init__(self, stub: Any, credential: str = "", seconds: float = CALL_SECONDS) -> None:
        self.stub = stub
        self._seconds = seconds
        self.metadata = (("authorization", f"Bearer {credential}"),) if credential else ()

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        call = getattr(self.stub, rpc)

        def invoke(request: Any, **options: Any) -> Any:
            # A service that just restarted has a new connection to make.
            settings = {"timeout": self._seconds, "metadata": self.metadata, "wait_for_ready": True, **options}
            return call(request, **settings)

        return invoke


@dataclass(frozen=True)
class Place:
    """Where a registry keeps rows and blobs, as settings, and the folder below which the blobs lie on this machine."""

    settings: Mapping[str, str]
    blobs: Path


def in_folder(data: Path) -> Place:
    """All in the data folder: what no setting changes."""
    return Place({}, data / "registry" / "blobs")


class Stack:
    """Access and a registry over one data folder."""

    def __init__(
        self,
        data: Path,
        registry_environment: Mapping[str, str] | None = None,
        *,
        beside: "Stack | None" = None,
        place: Callable[[Path], Place] | None = None,
        prelude: str = "",
        issuer: TokenIssuer | None = None,
    ) -> None:
        """Start both; ``beside`` another stack, share its access and start a registry alone, in a place like its own.

        ``place`` makes an empty place for the registry; ``prelude`` is for its process.
        Access believes the tokens of ``issuer``, whose keys it reads from a file.
        """
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        self._beside = beside
        self._placing: Callable[[Path], Place] = place or (in_folder if beside is None else beside._placing)
        self.place = self._placing(data)
        believing = _believing(issuer, data) if issuer is not None else {}
        self.access: Process = (
            Process("access", data, {**_QUICK, **believing}).start() if beside is None else beside.access
        )
        environment = {
            "TRIVIUM_ACCESS_ADDRESS": self.access.address,
            "TRIVIUM_REGISTRY_BASES": BASE_DIGEST,
            **_QUICK,
            **self.place.settings,
            **(registry_environment or {}),
        }
        self._environment = environment
        self._prelude = prelude
        self.registry = Process("registry", data, environment, prelude=prelude).start()
        self._channels: dict[str, grpc.Channel] = {}

    def close(self) -> None:
        """End both."""
        for channel in self._channels.values():
            channel.close()
        self.registry.stop()
        if self._beside is None:
            self.access.stop()

    def replica(self, data: Path, environment: Mapping[str, str] | None = None) -> Process:
        """One more registry over the same place, with a data folder of its own; the caller stops it."""
        data.mkdir(parents=True)
        settings = {**self._environment, **(environment or {})}
        return Process("registry", data, settings, prelude=self._prelude).start()

    def restart(self, process: Process) -> None:
        """Kill a service if it lives, start it, and wait until our own connection to it stands again."""
        process.kill()
        process.start()
        api = {"access": self.access_api, "registry": self.registry_api}[process.name]()

        def reached() -> bool:
            try:
                api.WhoAmI(access_pb2.WhoAmIRequest()) if process is self.access else api.GetModel(
                    registry_pb2.GetModelRequest(model="m")
                )
            except grpc.RpcError as error:
                return from_rpc_error(error).reason == "CREDENTIAL_MISSING"
            return False

        eventually(reached, f"{process.name} answers after its restart")

    def channel(self, address: str) -> grpc.Channel:
        """Return the one channel to an address."""
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address, RECONNECTS)
        return self._channels[address]

    def key(self, name: str) -> str:
        """The text of a key file that the first start wrote."""
        if self._beside is not None:
            return self._beside.key(name)
        return (self.data / "keys" / f"{name}.key").read_text().strip()

    def access_api(self, credential: str = "") -> Api:
        """Access, as the holder of a credential."""
        return Api(access_pb2_grpc.AccessServiceStub(self.channel(self.access.address)), credential)

    def registry_api(self, credential: str = "") -> Api:
        """The registry, as the holder of a credential."""
        return registry_over(self.channel(self.registry.address), credential)

    def tenant(self, name: str = "") -> str:
        """Create a tenant; its id."""
        name = name or f"t-{uuid.uuid4().hex[:12]}"
        self.access_api(self.key("admin")).CreateTenant(access_pb2.CreateTenantRequest(tenant=name))
        return name

    def tenant_key(self, tenant: str, *roles: "access_pb2.Role.ValueType") -> str:
        """Create a key in a tenant; its text."""
        wanted = roles or (access_pb2.ROLE_OWNER, access_pb2.ROLE_MEMBER)
        request = access_pb2.CreateKeyRequest(tenant=tenant, roles=wanted)
        return str(self.access_api(self.key("admin")).CreateKey(request).api_key)

    def newcomer(self) -> "User":
        """A user of the registry in a tenant of its own."""
        tenant = self.tenant()
        return User(self.registry_api(self.tenant_key(tenant)), tenant)

    def service(self) -> "User":
        """The registry as a Trivium service sees it."""
        return User(self.registry_api(self.key("service")), "")


def _believing(issuer: TokenIssuer, data: Path) -> dict[str, str]:
    """The settings of access by which tokens of an issuer count."""
    keys = data / "issuer.json"
    keys.write_text(json.dumps(issuer.key_set()))
    return issuer.environment(jwks_file=str(keys))


def registry_over(channel: grpc.Channel, credential: str = "") -> Api:
    """The registry at the end of a channel, as the holder of a credential."""
    return Api(registry_pb2_grpc.RegistryServiceStub(channel), credential)


# A restarted service is found at once, not after a back-off.
RECONNECTS = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))


class User:
    """The registry in somebody's hands: uploads, publishes, aliases."""

    def __init__(self, api: Api, tenant: str) -> None:
        self.api = api
        self.tenant = tenant

    def upload(self, filename: str, content: bytes, **header: Any) -> Any:
        """Upload a file whole."""
        return self.api.UploadBlob(upload(filename, content, **header)).status

    def draft(
        self, model: str, files: Mapping[str, bytes], *, kind: Any = model_pb2.VERSION_KIND_LORA, **fields: Any
    ) -> model_pb2.Version:
        """A version over files, not uploaded yet."""
        return model_pb2.Version(
            model=model,
            kind=kind,
            base_digest=fields.pop("base_digest", BASE_DIGEST),
            files=[
                model_pb2.VersionFile(filename=name, sha256=digest(content), size_bytes=len(content))
                for name, content in files.items()
            ],
            **fields,
        )

    def create(self, version: model_pb2.Version, request_id: str = "") -> Any:
        """Create a version."""
        request = registry_pb2.CreateVersionRequest(version=version, request_id=request_id)
        return self.api.CreateVersion(request).version

    def publish(self, model: str, files: Mapping[str, bytes] | None = None, **fields: Any) -> Any:
        """Upload files (by default a small adapter's) and create a version of them."""
        # Millions of salts, since two adapters alike would be one version.
        files = Adapter(salt=random.uniform(1.0, 10_000.0)).files() if files is None else files
        for name, content in files.items():
            self.upload(name, content)
        return self.create(self.draft(model, files, **fields))

    def point(self, model: str, version: str, *, alias: str = "prod", **fields: Any) -> Any:
        """Give an alias a target."""
        request = registry_pb2.SetAliasRequest(model=model, alias=alias, target_version=version, **fields)
        return self.api.SetAlias(request).alias

    def alias(self, model: str, alias: str = "prod") -> Any:
        """An alias as it stands."""
        return self.api.GetAlias(registry_pb2.GetAliasRequest(model=model, alias=alias)).alias

    def resolve(self, name: str) -> Any:
        """What a name means."""
        return self.api.ResolveModel(registry_pb2.ResolveModelRequest(name=name))

    def report(
        self, generator: str, tenant: str, version: str, state: str, reason: str = "", *, life: str = "first"
    ) -> list[model_pb2.Alias]:
        """Speak as a generator, in one of its lives; an empty state is a heartbeat."""
        number = model_pb2.ReadinessState.Value(f"READINESS_STATE_{state or 'UNSPECIFIED'}")
        request = registry_pb2.ReportReadinessRequest(
            generator=generator, instance=life, tenant=tenant, version=version, state=number, reason=reason
        )
        return list(self.api.ReportReadiness(request).changed)

    def watch(self, after: int = 0, **options: Any) -> Any:
        """The stream of events after a number."""
        return self.api.Watch(registry_pb2.WatchRequest(after_sequence=after), **options)

    def events_so_far(self, after: int = 0) -> list[model_pb2.Event]:
        """The events up to now."""
        stream, events = self.watch(after), []
        for message in stream:
            if message.HasField("event"):
                events.append(message.event)
            if message.caught_up:
                break
        stream.cancel()
        return events


def upload(
    filename: str,
    content: bytes,
    *,
    resume: int = 0,
    sha256: str = "",
    size: int | None = None,
    until: int | None = None,
) -> Iterator[registry_pb2.UploadBlobRequest]:
    """The messages of an upload; ``sha256`` and ``size`` may lie, ``until`` breaks off."""
    header = transfer_pb2.UploadHeader(
        filename=filename,
        size_bytes=len(content) if size is None else size,
        sha256=sha256 or digest(content),
        resume_offset_bytes=resume,
    )
    yield registry_pb2.UploadBlobRequest(header=header)
    for start in range(resume, len(content) if until is None else until, CHUNK_BYTES):
        data = content[start : min(start + CHUNK_BYTES, len(content) if until is None else until)]
        yield registry_pb2.UploadBlobRequest(chunk=transfer_pb2.Chunk(offset_bytes=start, data=data))


def download(api: Api, sha256: str, offset: int = 0) -> bytes:
    """A blob from an offset, its pieces checked to be in order."""
    content, position = b"", offset
    for message in api.DownloadBlob(registry_pb2.DownloadBlobRequest(sha256=sha256, offset_bytes=offset)):
        assert message.chunk.offset_bytes == position
        assert len(message.chunk.data) <= 1024 * 1024
        content += message.chunk.data
        position += len(message.chunk.data)
    return content


@contextmanager
def refused(reason: str) -> Iterator[list[PeerFailure]]:
    """The block must fail with this reason of the catalogue; the failure is in the list afterwards."""
    found: list[PeerFailure] = []
    with pytest.raises(grpc.RpcError) as caught:
        yield found
    failure = from_rpc_error(caught.value)
    assert failure.reason == reason, f"{failure.code.name} {failure.reason} {failure.message}"
    found.append(failure)


def pages(call: Callable[[str], Any], field: str) -> Iterable[Any]:
    """Every entry of a list, page after page."""
    token = ""
    while True:
        page = call(token)
        yield from getattr(page, field)
        token = page.next_page_token
        if not token:
            return
