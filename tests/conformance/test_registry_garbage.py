"""What is reached is never removed, what is not goes after its grace: whoever sweeps, and whatever happens meanwhile."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from trivium.common.v1.transfer_pb2 import Chunk

from services.chassis.blobs import ObjectBlobs
from services.chassis.errors import Failure, Reason
from services.registry.callers import Caller
from services.registry.uploads import Progress
from tests.adapters import digest
from tests.conformance.replicas import CALLER, DAY_SECONDS, Replica, Site

CONTENT = b'{"a": 1}'
# So that everything is old at once: a sweep at any moment is the worst that clocks can do.
NO_GRACE_SECONDS = -60.0
SEED = 20261125


class Killed(Exception):
    """Stands for the process that ends here."""


def breaking_off(blobs: ObjectBlobs, act: Callable[[], Awaitable[object]]) -> ObjectBlobs:
    """The same blobs, with ``act`` between the bytes of an upload and its row."""
    adopt = blobs.adopt

    async def then(staged: Path, sha256: str) -> None:
        await adopt(staged, sha256)
        await act()

    blobs.adopt = then  # type: ignore[method-assign]  # the test stands between two steps
    return blobs


async def die() -> None:
    raise Killed


async def told(replica: Replica, content: bytes = CONTENT):
    return await replica.uploads.progress(CALLER, digest(content))


async def test_a_blob_without_a_row_is_kept_for_the_grace_and_then_removed(site: Site):
    async with site.replica(blobs=breaking_off(site.blobs(), die)) as dying:
        with pytest.raises(Killed):
            await dying.send(CONTENT)
    async with site.replica() as replica:
        assert not (await told(replica)).complete
        site.clock.advance(DAY_SECONDS - 60)
        assert await replica.garbage.sweep() == 0
        assert await replica.stored() == {digest(CONTENT)}
        site.clock.advance(120)
        assert await replica.garbage.sweep() == 1
        assert not await replica.stored()


async def test_an_upload_that_died_before_its_row_is_not_there_and_can_be_repeated(site: Site):
    async with site.replica(blobs=breaking_off(site.blobs(), die)) as dying:
        with pytest.raises(Killed):
            await dying.send(CONTENT)
    async with site.replica() as replica:
        assert (await replica.send(CONTENT)).complete
        assert await replica.garbage.sweep() == 0
        assert (await told(replica)).complete


async def test_an_unused_upload_is_kept_for_its_time_and_then_swept(site: Site):
    async with site.replica() as replica:
        await replica.send(CONTENT)
        site.clock.advance(DAY_SECONDS - 60)
        assert await replica.garbage.sweep() == 0
        site.clock.advance(120)
        assert await replica.garbage.sweep() == 1
        assert not (await told(replica)).complete


async def sent_again(replica: Replica):
    return await replica.send(CONTENT)


@pytest.mark.parametrize("ask", [sent_again, told])
async def test_an_upload_that_is_called_complete_again_has_its_whole_time_again(site: Site, ask: Any):
    async with site.replica() as replica:
        await replica.send(CONTENT)
        for _ in range(3):
            site.clock.advance(DAY_SECONDS - 60)
            assert (await ask(replica)).complete
        site.clock.advance(DAY_SECONDS - 60)
        assert await replica.garbage.sweep() == 0
        site.clock.advance(120)
        assert await replica.garbage.sweep() == 1


async def test_a_file_of_a_version_that_was_uploaded_again_outlives_the_version(site: Site):
    async with site.replica() as replica:
        await replica.send(CONTENT)
        version = await replica.create(CONTENT)
        site.clock.advance(2 * DAY_SECONDS)
        assert await replica.garbage.sweep() == 0
        assert (await replica.send(CONTENT)).complete
        await replica.delete(version)
        assert await replica.garbage.sweep() == 0
        assert (await told(replica)).complete
        site.clock.advance(DAY_SECONDS + 60)
        assert await replica.garbage.sweep() == 1


async def test_a_blob_that_two_versions_share_goes_with_the_last(site: Site):
    async with site.replica(grace_seconds=NO_GRACE_SECONDS) as replica:
        await replica.send(CONTENT)
        versions = [await replica.create(CONTENT, model=model) for model in ("one", "two")]
        await replica.delete(versions[0])
        assert await replica.garbage.sweep() == 0
        assert await replica.read(CONTENT) == CONTENT
        await replica.delete(versions[1])
        assert await replica.garbage.sweep() == 1


async def test_a_version_that_is_deleted_softly_keeps_its_blobs_until_it_is_purged(site: Site):
    async with site.replica(grace_seconds=NO_GRACE_SECONDS) as replica:
        await replica.send(CONTENT)
        version = await replica.create(CONTENT)
        await replica.delete(version, purge=False)
        assert await replica.garbage.sweep() == 0
        restored = await replica.deletion.restore_version(CALLER, "m", version.version)
        assert restored.version == version.version
        assert await replica.read(CONTENT) == CONTENT
        await replica.delete(version, purge=False)
        site.clock.advance(DAY_SECONDS + 60)
        assert await replica.deletion.purge_due() == 1
        assert await replica.garbage.sweep() == 1


async def test_a_sweep_between_the_bytes_and_the_row_costs_a_repeat_and_no_blob(site: Site):
    async with site.replica("sweeper", grace_seconds=NO_GRACE_SECONDS) as sweeper:
        blobs = breaking_off(site.blobs(), sweeper.garbage.sweep)
        async with site.replica(blobs=blobs) as replica:
            with pytest.raises(Failure) as caught:
                await replica.send(CONTENT)
            assert caught.value.reason is Reason.UPLOAD_IN_PROGRESS
            assert not (await told(replica)).complete
        async with site.replica() as replica:
            assert (await replica.send(CONTENT)).complete
            assert await replica.read(CONTENT) == CONTENT


async def test_an_upload_between_a_sweeps_look_and_its_deed_keeps_its_blob(site: Site, monkeypatch: pytest.MonkeyPatch):
    async with site.replica(grace_seconds=NO_GRACE_SECONDS) as sweeper, site.replica("other") as replica:
        await sweeper.send(CONTENT)
        write, writes = sweeper.database.write, []

        async def interrupted(change: Callable[[Any], Any]) -> Any:
            writes.append(change)
            if len(writes) == 2:  # the first removed the old row; the second is to remove the blob
                await replica.send(CONTENT)
            return await write(change)

        monkeypatch.setattr(sweeper.database, "write", interrupted)
        assert await sweeper.garbage.sweep() == 0
        assert len(writes) == 2
        assert (await told(replica)).complete
        assert await replica.read(CONTENT) == CONTENT


async def test_what_is_staged_goes_when_nobody_comes_back_for_it_and_never_under_an_upload(site: Site, tmp_path: Path):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[Chunk]:
        yield Chunk(offset_bytes=0, data=CONTENT[:3])
        begun.set()
        await go_on.wait()
        yield Chunk(offset_bytes=3, data=CONTENT[3:])

    async def half() -> AsyncIterator[Chunk]:
        yield Chunk(offset_bytes=0, data=b"{")

    def staged() -> list[str]:
        return sorted(path.name for path in (tmp_path / "one" / "staging").rglob("*") if path.is_file())

    async with site.replica(grace_seconds=NO_GRACE_SECONDS) as replica:
        with pytest.raises(Failure):
            await replica.send(b"{}", half())
        sending = asyncio.create_task(replica.send(CONTENT, slow()))
        await begun.wait()
        assert len(staged()) == 2
        await replica.garbage.sweep()
        assert staged() == [f"{digest(CONTENT)}.partial"]
        go_on.set()
        assert (await sending).complete
        await replica.garbage.sweep()
        assert not list((tmp_path / "one" / "staging").iterdir())


async def test_copies_that_a_killed_process_left_are_cleared(site: Site, tmp_path: Path):
    async with site.replica() as replica:
        scratch = replica.blobs._scratch
        old, new = scratch / "read-old", scratch / "read-new"
        for copy in (old, new):
            copy.write_bytes(b"x")
        os.utime(old, (0, 0))
        await replica.garbage.sweep()
        assert (old.exists(), new.exists()) == (False, True)


async def test_a_copy_that_is_read_is_not_cleared_however_old_it_is(site: Site):
    async with site.replica() as replica:
        await replica.send(CONTENT)
        async with replica.blobs.local(digest(CONTENT)) as copy:
            os.utime(copy, (0, 0))
            await replica.garbage.sweep()
            assert copy.read_bytes() == CONTENT


async def test_a_file_that_is_being_kept_is_nobody_elses_to_grow_though_its_caller_went_away(site: Site):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await go_on.wait()

    async with site.replica(blobs=breaking_off(site.blobs(), wait)) as replica:
        gone = asyncio.create_task(replica.send(CONTENT))
        await entered.wait()
        gone.cancel()
        await asyncio.wait([gone])
        async with asyncio.timeout(60):
            with pytest.raises(Failure) as failure:
                await replica.send(CONTENT)
        assert failure.value.reason is Reason.UPLOAD_IN_PROGRESS
        go_on.set()
        async with asyncio.timeout(60):
            while not (await told(replica)).complete:  # noqa: ASYNC110 - a row sets no event
                await asyncio.sleep(0)
        assert (await replica.send(CONTENT)).complete


async def test_a_turn_that_begins_as_another_ends_is_not_ended_with_it(site: Site):
    async with site.replica() as replica:
        replica.uploads.progress = nothing_yet  # type: ignore[method-assign]  # as if the row came a moment later
        first = asyncio.create_task(replica.send(CONTENT))
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[Chunk]:
            begun.set()
            await go_on.wait()
            yield Chunk(offset_bytes=0, data=CONTENT)

        async def at_the_first_moment() -> Progress:
            progress: Progress | None = None
            while progress is None:
                await asyncio.sleep(0)
                progress = await settle(partial(replica.send, CONTENT, slowly()), Reason.UPLOAD_IN_PROGRESS)
            return progress

        second = asyncio.create_task(at_the_first_moment())
        async with asyncio.timeout(60):
            await begun.wait()
            await first
            with pytest.raises(Failure) as failure:
                await replica.send(CONTENT)
            assert failure.value.reason is Reason.UPLOAD_IN_PROGRESS
            go_on.set()
            assert (await second).complete


async def nothing_yet(caller: Caller, sha256: str) -> Progress:
    """What a caller was told before the other's upload was entered."""
    return Progress(sha256, 0, complete=False)


async def settle(attempt: Callable[[], Awaitable[Any]], *expected: Reason) -> Any:
    """What ``attempt`` gives, or None when it failed for a reason that a sweep may cause."""
    try:
        return await attempt()
    except Failure as failure:
        if failure.reason not in expected:
            raise
        return None


async def test_versions_made_while_replicas_sweep_without_grace_never_lack_a_blob(site: Site):
    source = random.Random(SEED)
    contents = [f'{{"content": {number}}}'.encode() for number in range(3)]
    made = lost = 0
    async with contextlib.AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(site.replica(name, grace_seconds=NO_GRACE_SECONDS))
            for name in ("one", "two")
        ]
        done = asyncio.Event()

        async def sweeps(replica: Replica) -> None:
            while not done.is_set():
                await replica.garbage.sweep()

        async def makes(number: int) -> None:
            nonlocal made, lost
            for _ in range(12):
                uploader, creator, reader = (source.choice(replicas) for _ in range(3))
                content = source.choice(contents)
                await settle(partial(uploader.send, content), Reason.UPLOAD_IN_PROGRESS)
                version = await settle(partial(creator.create, content, model=f"m{number}"), Reason.BLOB_MISSING)
                if version is None:
                    lost += 1
                    continue
                made += 1
                assert await reader.read(content) == content, f"seed {SEED}"
                await creator.delete(version)

        sweeping = [asyncio.create_task(sweeps(replica)) for replica in replicas]
        await asyncio.gather(*(makes(number) for number in range(4)))
        done.set()
        await asyncio.gather(*sweeping)
    # Both happened, or nothing raced.
    assert made
    assert lost
