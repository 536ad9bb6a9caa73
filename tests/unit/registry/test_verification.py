"""A large model that is fetched and checked for long holds up nobody's adapter."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.chassis.blobs import ObjectBlobs, open_blobs
from services.chassis.errors import Failure
from services.registry.manifests import File, Kind
from services.registry.verification import BaseFacts, Verification
from tests.adapters import Adapter, digest

SLOW = "f" * 64


def arriving(blobs: ObjectBlobs, arrived: asyncio.Event) -> ObjectBlobs:
    """The same blobs, but one comes only when it is let go, as from a bucket far away."""
    local = blobs.local

    @asynccontextmanager
    async def awaited(sha256: str) -> AsyncIterator[Path]:
        if sha256 == SLOW:
            await arrived.wait()
            sha256 = digest(b"{}")
        async with local(sha256) as path:
            yield path

    blobs.local = awaited  # type: ignore[method-assign]  # the test stands between the store and its reader
    return blobs


async def test_adapters_are_checked_while_models_are_still_fetched(tmp_path: Path) -> None:
    folder, arrived = tmp_path / "blobs", asyncio.Event()
    blobs = arriving(open_blobs("", folder), arrived)
    files = {**Adapter().files(), "config.json": b"{}"}
    for content in files.values():
        staged = folder / "staged"
        staged.write_bytes(content)
        await blobs.adopt(staged, digest(content))
    verification = Verification(blobs, timeout_seconds=60)
    model = (File("config.json", SLOW, 2),)
    models = [asyncio.create_task(verification.inspect(Kind.FULL, model, BaseFacts())) for _ in range(4)]
    await asyncio.sleep(0)
    adapter = tuple(File(name, digest(content), len(content)) for name, content in Adapter().files().items())
    async with asyncio.timeout(60):
        found = await verification.inspect(Kind.LORA, adapter, BaseFacts())
    assert found.rank == json.loads(files["adapter_config.json"])["r"]
    assert not any(task.done() for task in models)
    arrived.set()
    ended, _ = await asyncio.wait(models)
    assert all(isinstance(task.exception(), Failure) for task in ended)
