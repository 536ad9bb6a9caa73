"""Folders, hub names and merges become versions: work that takes longer than a call, and survives that it ends.

Invariant: one request id for one effect, however often it has to be asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trivium.common.v1 import transfer_pb2
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.registry.v1.registry_pb2_grpc import RegistryServiceStub

from trivium_client import model_wire, nouns
from trivium_client.errors import ConflictError, RequestTimeoutError
from trivium_client.model_folders import belongs, kind_of, require_whole
from trivium_client.transport import Transport, files_of, new_request_id, sha256_of, size_of, upload

if TYPE_CHECKING:
    from trivium.registry.v1.registry_pb2_grpc import RegistryServiceAsyncStub

T = TypeVar("T")

Progress = Callable[[int, int], None]
Said = Callable[[str], None]

# How long the whole of an import or a merge is waited for; the work itself goes on after that.
DONE_TIMEOUT_SECONDS = 6 * 3600.0
# How long a service that says nothing about the work is asked again: a few deadlines of one call.
SILENCE_SECONDS = 120.0
# Between a call that timed out and the next: one that times out at once does not keep the processor busy.
_AGAIN_SECONDS = 0.2

_KINDS = {
    "lora": model_pb2.VERSION_KIND_LORA,
    "full": model_pb2.VERSION_KIND_FULL,
    "encoder": model_pb2.VERSION_KIND_ENCODER,
}


async def add_folder(
    transport: Transport,
    model: str,
    folder: Path,
    *,
    base_digest: str,
    lineage: nouns.Lineage | None = None,
    progress: Progress | None,
) -> nouns.Version:
    """Upload what of a folder belongs to an adapter, a full model or an encoder, and make a version of it.

    `progress` hears (bytes sent, whole bytes) over all files; an upload that was interrupted goes on where it stopped.
    Raises ValueError for a folder of none, and as `model_folders.require_whole`.
    """
    kind = kind_of(folder)
    there = files_of(folder)
    paths = [path for path in there if belongs(kind, path.name)]
    require_whole(folder, kind, [path.name for path in there])
    whole, sent = sum(map(size_of, paths)), 0
    files = []
    for path in paths:
        before = sent

        def heard(there: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + there, whole)

        await upload_blob(transport, path, heard)
        sent += size_of(path)
        heard(size_of(path), 0)
        files.append(model_pb2.VersionFile(filename=path.name, sha256=sha256_of(path), size_bytes=size_of(path)))
    named = base_digest if kind == "lora" else ""
    version = model_pb2.Version(model=model, kind=_KINDS[kind], base_digest=named, files=files)
    if lineage is not None:
        version.lineage.CopyFrom(model_wire.lineage_to_wire(lineage))
    request = registry_pb2.CreateVersionRequest(version=version, request_id=new_request_id())
    create = _stub(transport).CreateVersion
    response = await until_done(lambda: transport.call("registry", create, request), f"The new version of {model}")
    return model_wire.version(response.version)


async def import_model(
    transport: Transport, uri: str, model: str, *, said: Said | None, timeout_seconds: float
) -> nouns.Version:
    """Have the registry fetch a model; `said` hears how far it is.  Raises as `until_done`."""
    request = registry_pb2.ImportModelRequest(uri=uri, model=model, request_id=new_request_id())
    asked = _stub(transport).ImportModel
    response = await until_done(
        lambda: transport.call("registry", asked, request),
        f"The import of {uri} into {model}",
        said=said,
        timeout_seconds=timeout_seconds,
    )
    return model_wire.version(response.version)


async def merge(
    transport: Transport, version: str, model: str, target: str, *, said: Said | None, timeout_seconds: float
) -> nouns.Version:
    """Have the registry bake an adapter into its base; `said` hears how far it is.  Raises as `until_done`."""
    request = registry_pb2.MergeVersionRequest(
        model=model, version=version, target_model=target, request_id=new_request_id()
    )
    asked = _stub(transport).MergeVersion
    response = await until_done(
        lambda: transport.call("registry", asked, request),
        f"The merge of {model}@{version} into {target}",
        said=said,
        timeout_seconds=timeout_seconds,
    )
    return model_wire.version(response.version)


async def upload_blob(transport: Transport, path: Path, progress: Progress | None = None) -> None:
    """Send one file, or what the registry lacks of it."""
    stub = _stub(transport)

    async def committed(sha256: str) -> int:
        request = registry_pb2.GetUploadRequest(sha256=sha256)
        response = await transport.call("registry", stub.GetUpload, request)
        return response.status.committed_bytes

    def frame(part: transfer_pb2.UploadHeader | transfer_pb2.Chunk) -> registry_pb2.UploadBlobRequest:
        if isinstance(part, transfer_pb2.Chunk):
            return registry_pb2.UploadBlobRequest(chunk=part)
        return registry_pb2.UploadBlobRequest(header=part)

    await upload(transport, "registry", path, send=stub.UploadBlob, committed=committed, frame=frame, progress=progress)


async def until_done(
    call: Callable[[], Awaitable[T]],
    what: str,
    *,
    said: Said | None = None,
    timeout_seconds: float = DONE_TIMEOUT_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
    again_seconds: float = _AGAIN_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Repeat a call that says WORK_UNDER_WAY, or runs into its deadline, until it answers: the work goes on meanwhile.

    `what` names the work in errors.  Raises RequestTimeoutError, with the reason WAIT_TIMEOUT, when `timeout_seconds`
    passed in all, whatever was heard meanwhile, or when calls only ran into their deadlines for `silence_seconds`.
    """
    begun = heard_at = clock()
    last = ""
    try:
        async with asyncio.timeout(timeout_seconds) as whole:
            while True:
                try:
                    return await call()
                except ConflictError as error:
                    if error.reason != "WORK_UNDER_WAY":
                        raise
                    heard_at, last = clock(), error.variables.get("progress", "")
                    if said is not None:
                        said(last)
                    await asyncio.sleep(error.retry_after_seconds or 0.1)
                except RequestTimeoutError:
                    silent_seconds = clock() - heard_at
                    if silent_seconds >= silence_seconds:
                        silence = f"the service has said nothing of it for {_seconds(silent_seconds)} s"
                        cause = f"{silence} (is it up? trivium status)"
                        raise _given_up(what, clock() - begun, cause, last) from None
                    await asyncio.sleep(again_seconds)
    except TimeoutError:
        if not whole.expired():
            raise
        raise _given_up(what, timeout_seconds, "that is as long as it was to be waited for", last) from None


def _given_up(what: str, waited_seconds: float, cause: str, last: str) -> RequestTimeoutError:
    heard = f"; last heard: {last}" if last else ""
    message = (
        f"{what} did not end within {_seconds(waited_seconds)} s: {cause}{heard}. What is under way goes on; "
        "ask for the same again to wait for it further."
    )
    return RequestTimeoutError(message, reason="WAIT_TIMEOUT", variables={"what": what, "progress": last})


def _seconds(seconds: float) -> str:
    """For people: whole from ten on."""
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.3g}"


def _stub(transport: Transport) -> RegistryServiceAsyncStub:
    stub: RegistryServiceAsyncStub = transport.stub("registry", RegistryServiceStub)
    return stub
