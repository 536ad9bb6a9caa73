"""Receipts that wait for access, a file for each batch in a folder of the gateway's own.

Invariant: a file under its name is whole and durable (``chassis.files``), and names sort
by the time at which their receipts began to wait; a name also says how many are in it.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from trivium.access.v1 import access_pb2, usage_pb2

from gateway.peers.access import of_record, to_record
from gateway.receipts import Waiting
from services.chassis.files import write_atomically

_SUFFIX = ".usages"
# One receipt alone, as gateways kept them before there were batches.
_SINGLE = ".usage"


class FolderSpool:
    """Implements :class:`gateway.receipts.Spool`.  ``new_id`` gives ids that sort by creation."""

    def __init__(self, folder: Path, new_id: Callable[[], str]) -> None:
        self._folder = folder
        self._new_id = new_id

    async def keep(self, batch: Sequence[Waiting]) -> None:
        """As the Protocol says."""
        content = usage_pb2.RecordUsagesRequest(records=map(to_record, batch)).SerializeToString()
        await asyncio.to_thread(self._write, f"{self._new_id()}.{len(batch)}{_SUFFIX}", content)

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._folder / name, content)

    async def names(self) -> list[str]:
        """As the Protocol says."""
        return await asyncio.to_thread(self._names)

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("*") if path.name.endswith((_SUFFIX, _SINGLE)))

    async def waiting(self) -> int:
        """As the Protocol says."""
        return sum(map(_count, await self.names()))

    async def read(self, name: str) -> list[Waiting] | None:
        """As the Protocol says."""
        try:
            content = await asyncio.to_thread((self._folder / name).read_bytes)
            if name.endswith(_SINGLE):
                return [of_record(access_pb2.UsageRecord.FromString(content))]
            return [of_record(record) for record in usage_pb2.RecordUsagesRequest.FromString(content).records]
        except (OSError, DecodeError):
            return None

    async def forget(self, name: str) -> None:
        """As the Protocol says."""
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)


def _count(name: str) -> int:
    number = name.removesuffix(_SUFFIX).rpartition(".")[2]
    return int(number) if number.isdigit() else 1
