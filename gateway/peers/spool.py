"""Receipts that wait for access, a file each in a folder of the gateway's own.

Invariant: a file under its name is whole and durable (``chassis.files``), and names sort
by the time at which their receipts began to wait.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from google.protobuf.message import DecodeError
from trivium.access.v1 import access_pb2

from gateway.peers.messages import of_receipt, to_receipt
from gateway.receipts import Waiting
from services.chassis.files import write_atomically

_SUFFIX = ".usage"


class FolderSpool:
    """Implements :class:`gateway.receipts.Spool`.  ``new_id`` gives ids that sort by creation."""

    def __init__(self, folder: Path, new_id: Callable[[], str]) -> None:
        self._folder = folder
        self._new_id = new_id

    async def keep(self, waiting: Waiting) -> None:
        """As the Protocol says."""
        record = access_pb2.UsageRecord(
            request_id=waiting.receipt.request_id,
            tenant=waiting.tenant,
            principal=waiting.principal,
            method=waiting.method,
            receipt=to_receipt(waiting.receipt),
        )
        await asyncio.to_thread(self._write, self._new_id() + _SUFFIX, record.SerializeToString())

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._folder / name, content)

    async def names(self) -> list[str]:
        """As the Protocol says."""
        return await asyncio.to_thread(lambda: sorted(path.name for path in self._folder.glob(f"*{_SUFFIX}")))

    async def read(self, name: str) -> Waiting | None:
        """As the Protocol says."""
        try:
            record = access_pb2.UsageRecord.FromString(await asyncio.to_thread((self._folder / name).read_bytes))
        except (OSError, DecodeError):
            return None
        return Waiting(record.tenant, record.principal, record.method, of_receipt(record.receipt))

    async def forget(self, name: str) -> None:
        """As the Protocol says."""
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
