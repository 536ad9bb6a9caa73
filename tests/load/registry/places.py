"""Where the registry is measured: over SQLite and a folder, and over PostgreSQL and a bucket with two replicas."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from tests.postgres import Postgres, find_binaries
from tests.s3 import S3
from tests.stack import Place, Stack, User, in_folder, registry_over
from tests.worlds import BUCKET, FOLDER, in_bucket

# A tenant of this benchmark does what a whole deployment does.
_SETTINGS = {"TRIVIUM_REGISTRY_MAX_CALLS_PER_TENANT": "512", "TRIVIUM_REGISTRY_MAX_STREAMS_PER_TENANT": "256"}


class Site:
    """A running registry; ``doors`` are the addresses of its replicas."""

    def __init__(self, stack: Stack, doors: list[str], opened: ExitStack) -> None:
        self._stack = stack
        self.doors = doors
        self._opened = opened

    def tenant(self) -> tuple[str, str]:
        """A new tenant and a key in it."""
        tenant = self._stack.tenant()
        return tenant, self._stack.tenant_key(tenant)

    def user(self, tenant: tuple[str, str], door: int = 0) -> User:
        """The tenant at one of the doors, over a connection of its own."""
        channel = grpc.insecure_channel(self.doors[door % len(self.doors)], [("grpc.use_local_subchannel_pool", 1)])
        self._opened.callback(channel.close)
        return User(registry_over(channel, tenant[1]), tenant[0])


def _bucket(folder: Path, opened: ExitStack) -> Callable[[Path], Place]:
    """Start both servers; places in them."""
    home = Path(tempfile.mkdtemp(prefix="trivium-postgres-"))
    opened.callback(shutil.rmtree, home, ignore_errors=True)
    (folder / "s3").mkdir()
    postgres, s3 = Postgres(home, find_binaries()), S3(folder / "s3")
    opened.callback(postgres.stop)
    postgres.start()
    opened.callback(s3.stop)
    s3.start()
    return lambda _: in_bucket(postgres, s3)


@contextmanager
def open_site(world: str) -> Iterator[Site]:
    """A registry in a world of its own."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="trivium-bench-")))
        place = _bucket(folder, opened) if world == BUCKET else in_folder
        stack = Stack(folder / "data", _SETTINGS, place=place)
        opened.callback(stack.close)
        doors = [stack.registry.address]
        if world == BUCKET:
            other = stack.replica(folder / "other")
            opened.callback(other.stop)
            doors.append(other.address)
        yield Site(stack, doors, opened)


WORLDS = (FOLDER, BUCKET)
