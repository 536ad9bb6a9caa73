import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from services.chassis.blobs import key_of
from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from services.chassis.streams import Piece
from services.trainer.data import dataset_files
from services.trainer.data.checker import Budget, Checker, Say
from services.trainer.data.checking import MAX_KEPT_PROBLEMS, Counted, check
from services.trainer.data.checking_child import Problems
from services.trainer.data.dataset_rows import Incoming
from services.trainer.data.datasets import Datasets
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.report import Asked
from services.trainer.data.rows import Format, Problem
from tests.unit.trainer.checks import until_one
from tests.unit.trainer.tiny import rows_text
from tests.unit.trainer.verbs import datasets_over, files_over

CONTENT = rows_text().encode()
INCOMING = Incoming("", "Rows.JSONL", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), 0, None)
DAY = 24 * 3600.0


@asynccontextmanager
async def opened(
    folder: Path,
    checker: Checker,
    *,
    max_bytes: int = len(CONTENT),
    blocking: Callable[..., Awaitable[object]] = asyncio.to_thread,
    url: str = "",
    database_url: str = "",
) -> AsyncIterator[Datasets]:
    """The verbs over a database in `folder` or on a server, and blobs there or in a bucket."""
    database_url = database_url or f"sqlite:///{folder}/trainer.db"
    async with open_database(database_url, "services.trainer.migrations") as database:
        files = files_over(database, folder, blocking, url)
        await files.move_old()
        yield datasets_over(database, folder, checker, max_bytes=max_bytes, blocking=blocking, files=files)


@pytest.fixture
async def datasets(tmp_path: Path, base: Path) -> AsyncIterator[Datasets]:
    """The verbs over a database of their own, whose counting needs no process."""
    async with opened(tmp_path, Inline(base)) as datasets:
        yield datasets


class Inline(Checker):
    """Counts rows here: for tests of what becomes of a dataset that was checked."""

    async def count(self, tenant: str, path: Path, expected: Format | None, say: Say = lambda _: None) -> Counted:
        """As it is done in a child."""
        with path.open("rb") as file:
            found = check(file, ChatEncoder.load(self._base_folder), expected, lambda problem: say([problem]))
        assert isinstance(found, Counted)
        return found


async def whole() -> AsyncIterator[Piece]:
    yield Piece(0, CONTENT)


async def nothing() -> AsyncIterator[Piece]:
    raise AssertionError("a chunk was asked for")
    yield Piece(0, b"")


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


def files(folder: Path) -> dict[str, bytes]:
    """What lies under `folder`, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def aged(path: Path) -> Path:
    """Make `path` look as if nobody touched it for two days."""
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    return path


async def test_the_same_bytes_are_received_from_one_caller_at_a_time(datasets: Datasets) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        begun.set()
        await let_go.wait()
        yield Piece(0, CONTENT)

    first = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    async with asyncio.timeout(30):
        assert (await refused(datasets.upload("acme", INCOMING, whole()))).reason is Reason.UPLOAD_IN_PROGRESS
    # Another tenant's upload is another file, and says nothing about this one.
    assert (await datasets.upload("other", INCOMING, whole())).rows == 10
    let_go.set()
    assert (await first).rows == 10


async def test_another_tenants_dataset_is_as_absent_as_a_missing_one(datasets: Datasets) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    assert stored.dataset == "rows"
    for name in (stored.dataset, stored.digest, "missing"):
        with pytest.raises(Failure) as refused:
            await datasets.get("other", name)
        assert refused.value.reason is Reason.DATASET_NOT_FOUND
        assert await datasets.committed("other", INCOMING.sha256) == (0, False)


async def test_a_dataset_over_the_limit_is_refused_before_its_bytes_are_read(datasets: Datasets) -> None:
    large = replace(INCOMING, size_bytes=len(CONTENT) + 1)
    assert (await refused(datasets.upload("acme", large, nothing()))).reason is Reason.DATASET_TOO_LARGE


async def test_what_the_disk_cannot_hold_is_refused_before_its_bytes_are_read(tmp_path: Path, base: Path) -> None:
    large = replace(INCOMING, size_bytes=1 << 60)
    async with opened(tmp_path, Checker(base), max_bytes=1 << 60) as datasets:
        failure = await refused(datasets.upload("acme", large, nothing()))
    assert failure.sentence == "No space is left on the disk that holds the datasets."
    assert not files(tmp_path / "uploads")


async def test_what_could_not_be_checked_yet_is_kept_and_not_sent_again(tmp_path: Path, base: Path) -> None:
    async with opened(tmp_path, Checker(base, Budget(start_seconds=0.01))) as datasets:
        assert (await refused(datasets.upload("acme", INCOMING, whole()))).reason is Reason.NOT_READY
        assert await datasets.committed("acme", INCOMING.sha256) == (len(CONTENT), True)
    async with opened(tmp_path, Checker(base)) as datasets:
        assert (await datasets.upload("acme", INCOMING, nothing())).rows == 10
        assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}
        assert not files(tmp_path / "uploads")


async def test_what_takes_too_much_to_check_is_not_kept(tmp_path: Path, base: Path) -> None:
    content = rows_text(2000).encode()
    long = replace(INCOMING, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def all_of_it() -> AsyncIterator[Piece]:
        yield Piece(0, content)

    budget = Budget(cpu_seconds=0.05, bytes_per_cpu_second=1 << 40)
    async with opened(tmp_path, Checker(base, budget), max_bytes=len(content)) as datasets:
        assert (await refused(datasets.upload("acme", long, all_of_it()))).reason is Reason.DATASET_UNCHECKED
        assert await datasets.committed("acme", long.sha256) == (0, False)
    assert not files(tmp_path / "uploads")
    assert not files(tmp_path / "stored")


async def test_listed_bytes_stay_whatever_a_later_upload_of_them_announces(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    assert await datasets.upload("acme", replace(INCOMING, format=Format.CHAT), nothing()) == stored
    assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


async def test_bytes_that_a_kill_left_without_a_row_are_no_dataset_and_nobody_gets_them_by_their_digest(
    datasets: Datasets, tmp_path: Path
) -> None:
    place = tmp_path / "stored" / key_of(INCOMING.sha256)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert await datasets.committed("acme", INCOMING.sha256) == (0, False)
    stored = await datasets.upload("acme", INCOMING, whole())
    assert await datasets.get("acme", "rows") == stored
    assert await datasets.committed("acme", INCOMING.sha256) == (len(CONTENT), True)
    assert await datasets.committed("other", INCOMING.sha256) == (0, False)
    assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


async def test_a_listed_dataset_whose_bytes_the_disk_lost_is_whole_after_another_upload(
    datasets: Datasets, tmp_path: Path
) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    (await datasets.file(stored.digest)).unlink()
    assert (await refused(datasets.file(stored.digest))).reason is Reason.DATASET_NOT_FOUND
    assert await datasets.upload("acme", INCOMING, whole()) == stored
    assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


def shortened() -> tuple[Incoming, Callable[[], AsyncIterator[Piece]]]:
    """An upload under the same file name whose content is another."""
    content = b"".join(CONTENT.splitlines(keepends=True)[:-1])
    incoming = replace(INCOMING, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def chunks() -> AsyncIterator[Piece]:
        yield Piece(0, content)

    return incoming, chunks


async def test_other_bytes_under_a_name_are_its_next_version_and_the_name_means_the_newest(datasets: Datasets) -> None:
    first = await datasets.upload("acme", INCOMING, whole())
    incoming, chunks = shortened()
    second = await datasets.upload("acme", incoming, chunks())
    keys = [(one.dataset, one.version, one.key) for one in (first, second)]
    assert keys == [("rows", 1, "rows"), ("rows", 2, "rows@2")]
    for name, meant in {"rows": second, "rows@2": second, "rows@1": first, first.digest: first}.items():
        assert await datasets.get("acme", name) == meant
    for name in ("rows@3", "rows@0", "rows@", "rows@x", "rows@1@1", f"rows@{'9' * 30}"):
        assert (await refused(datasets.get("acme", name))).reason is Reason.DATASET_NOT_FOUND
    assert await datasets.page("acme", 10, None) == [second, first]


async def test_bytes_of_an_older_version_become_the_newest_again_without_being_sent(datasets: Datasets) -> None:
    first = await datasets.upload("acme", INCOMING, whole())
    incoming, chunks = shortened()
    await datasets.upload("acme", incoming, chunks())
    again = await datasets.upload("acme", INCOMING, nothing())
    assert (again.version, again.digest, again.rows) == (3, first.digest, first.rows)
    assert await datasets.get("acme", "rows") == again
    assert await datasets.upload("acme", INCOMING, nothing()) == again


async def test_a_number_is_never_given_again(datasets: Datasets) -> None:
    await datasets.upload("acme", INCOMING, whole())
    incoming, chunks = shortened()
    await datasets.upload("acme", incoming, chunks())
    await datasets.delete("acme", "rows@2")
    assert (await datasets.get("acme", "rows")).version == 1
    assert (await datasets.upload("acme", incoming, chunks())).version == 3
    await datasets.delete("acme", "rows")
    await datasets.delete("acme", "rows")
    assert (await datasets.upload("acme", INCOMING, whole())).version == 4


async def test_of_several_names_of_the_same_bytes_a_file_means_its_own(datasets: Datasets) -> None:
    own = await datasets.upload("acme", INCOMING, whole())
    later = await datasets.upload("acme", replace(INCOMING, dataset="mine"), nothing())
    assert await datasets.upload("acme", INCOMING, nothing()) == own
    assert await datasets.upload("acme", replace(INCOMING, filename="other.jsonl"), nothing()) == later


async def test_the_same_bytes_under_another_name_are_that_dataset_too_and_stay_until_both_are_gone(
    datasets: Datasets, tmp_path: Path
) -> None:
    await datasets.upload("acme", INCOMING, whole())
    named = await datasets.upload("acme", replace(INCOMING, dataset="mine"), nothing())
    elsewhere = await datasets.upload("other", INCOMING, whole())
    assert (named.dataset, named.version) == ("mine", 1)
    for tenant, name in (("acme", "rows"), ("other", elsewhere.dataset)):
        await datasets.delete(tenant, name)
        assert files(tmp_path / "stored")
    await datasets.delete("acme", "mine")
    assert not files(tmp_path / "stored")


async def test_what_an_earlier_release_kept_is_found_and_moves(tmp_path: Path, base: Path) -> None:
    async with opened(tmp_path, Inline(base)) as datasets:
        stored = await datasets.upload("acme", INCOMING, whole())
    old = tmp_path / "old" / "acme" / INCOMING.sha256
    old.parent.mkdir(parents=True)
    (tmp_path / "stored" / key_of(INCOMING.sha256)).rename(old)
    unlisted = old.with_name("1" * 64)
    unlisted.write_bytes(b"never checked")
    async with opened(tmp_path, Checker(base)) as datasets:
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT
        assert not old.exists()
        assert unlisted.exists()
        await datasets.sweep(time.time() + DAY)
        assert not unlisted.exists()
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT


async def test_a_dataset_is_not_deleted_while_its_bytes_are_received(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    # As after a disk that lost the file: the row is there and the bytes are sent again.
    (await datasets.file(stored.digest)).unlink()
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        begun.set()
        await let_go.wait()
        yield Piece(0, CONTENT)

    uploading = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    deleting = asyncio.create_task(datasets.delete("acme", stored.dataset))
    done, _ = await asyncio.wait([deleting], timeout=0.5)
    assert not done
    let_go.set()
    assert await uploading == stored
    await deleting
    assert (await refused(datasets.get("acme", stored.dataset))).reason is Reason.DATASET_NOT_FOUND
    assert not files(tmp_path / "stored")


async def test_two_tenants_and_two_names_may_take_and_drop_the_same_bytes_at_once(
    datasets: Datasets, tmp_path: Path
) -> None:
    for _ in range(5):
        mine, theirs = await asyncio.gather(
            datasets.upload("acme", INCOMING, whole()), datasets.upload("other", INCOMING, whole())
        )
        deleted = datasets.delete("acme", mine.key)
        again = datasets.upload("third", INCOMING, whole())
        await asyncio.gather(deleted, again, datasets.delete("other", theirs.key))
        assert (await datasets.file(mine.digest)).read_bytes() == CONTENT
        await datasets.delete("third", "rows")
        assert not files(tmp_path / "stored")


async def test_a_caller_that_leaves_while_its_dataset_is_stored_leaves_it_whole(tmp_path: Path, base: Path) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting(function: Callable[..., object], *arguments: object, **named: object) -> object:
        if function is dataset_files._linked:
            begun.set()
            await let_go.wait()
        return await asyncio.to_thread(function, *arguments, **named)

    async with opened(tmp_path, Checker(base), blocking=halting) as datasets:
        uploading = asyncio.create_task(datasets.upload("acme", INCOMING, whole()))
        await begun.wait()
        uploading.cancel()
        # Nobody else gets at the bytes before they are stored.
        assert (await refused(datasets.upload("acme", INCOMING, nothing()))).reason is Reason.UPLOAD_IN_PROGRESS
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert (await datasets.get("acme", "rows")).rows == 10
        assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


async def test_a_dataset_that_is_deleted_while_it_is_validated_disturbs_nothing(datasets: Datasets) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    validating = asyncio.create_task(datasets.validate("acme", stored.dataset, "", "", Asked(max_row_tokens=8)))
    await until_one()
    await datasets.delete("acme", stored.dataset)
    found, base_name, report, problems, count = await validating
    assert (found, base_name, report.rows) == (stored, "tiny", 10)
    assert len(problems) == count > 10


async def test_a_sweep_takes_what_nobody_lists_and_nobody_touched(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    listed = aged(await datasets.file(stored.digest))
    uploads, blobs, reports = tmp_path / "uploads" / "acme", tmp_path / "stored", tmp_path / "reports" / "acme"
    old = [uploads / f"{'1' * 64}.partial", uploads / ("2" * 64), blobs / key_of("3" * 64), reports / ("7" * 64)]
    new = [uploads / f"{'4' * 64}.partial", uploads / ("5" * 64), blobs / key_of("6" * 64), reports / ("8" * 64)]
    for path in (*old, *new):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"part")
    for path in old:
        aged(path)
    assert await datasets.sweep(time.time() - DAY) == len(old)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (listed, *new))


async def test_a_sweep_leaves_alone_what_is_being_received(datasets: Datasets, tmp_path: Path) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        yield Piece(0, CONTENT[:100])
        begun.set()
        await let_go.wait()
        yield Piece(100, CONTENT[100:])

    uploading = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    aged(tmp_path / "uploads" / "acme" / f"{INCOMING.sha256}.partial")
    assert await datasets.sweep(time.time() - DAY) == 0
    let_go.set()
    assert (await uploading).rows == 10


BAD = b'{"prompt": "a"}\n' * 2500


async def test_all_problems_of_a_refused_file_are_listed_by_pages_under_its_digest(tmp_path: Path, base: Path) -> None:
    sha256 = hashlib.sha256(BAD).hexdigest()

    async def chunks() -> AsyncIterator[Piece]:
        yield Piece(0, BAD)

    async with opened(tmp_path, Checker(base), max_bytes=len(BAD)) as datasets:
        bad = replace(INCOMING, size_bytes=len(BAD), sha256=sha256)
        failure = await refused(datasets.upload("acme", bad, chunks()))
        assert (failure.reason, len(failure.violations)) == (Reason.DATASET_MALFORMED, 20)
        lines: list[int] = []
        place = ""
        while not lines or place:
            page, place = await datasets.problems("acme", f"sha256:{sha256}", 1000, place)
            lines.extend(problem.line for problem in page)
        assert lines == list(range(1, 2501))
        missing = await refused(datasets.problems("other", f"sha256:{sha256}", 1000, ""))
        assert missing.reason is Reason.DATASET_REPORT_NOT_FOUND
        await datasets.sweep(time.time() + DAY)
        missing = await refused(datasets.problems("acme", f"sha256:{sha256}", 1000, ""))
        assert missing.reason is Reason.DATASET_REPORT_NOT_FOUND


async def test_what_the_default_base_refuses_is_stored_and_warned_of_and_stays_a_problem_of_a_check(
    tmp_path: Path, base: Path
) -> None:
    refusing = shutil.copytree(base, tmp_path / "refusing")
    (refusing / "chat_template.jinja").write_text("{{ raise_exception('no turns of anybody') }}")
    heard: list[Problem] = []
    async with opened(tmp_path, Checker(refusing)) as datasets:
        stored = await datasets.upload("acme", INCOMING, whole(), heard.extend)
        assert stored.rows == len(heard) == 10
        assert {problem.fatal for problem in heard} == {False}
        assert await datasets.problems("acme", "rows", 1000, "") == (heard, "")
        *_, problems, count = await datasets.validate("acme", "rows", "", "", Asked())
    assert count == 11
    assert problems[0].fatal
    assert "no turns of anybody" in problems[0].message


def test_a_fault_is_named_however_many_rows_before_it_are_warned_of() -> None:
    said: list[dict[str, object]] = []
    problems = Problems(said.append)
    for line in range(MAX_KEPT_PROBLEMS + 1):
        problems.take(Problem(line, "messages", "of another base", fatal=False))
    problems.take(Problem(200_000, "", "not JSON"))
    problems.end()
    told = "there are 100001 warnings up to this line, of which the first 100000 are listed; mend these and check again"
    unsaid = Problem(MAX_KEPT_PROBLEMS, "", told, fatal=False)
    assert said[-1] == {"problems": [asdict(Problem(200_000, "", "not JSON")), asdict(unsaid)]}


async def test_what_a_validation_said_of_lines_is_listed_under_the_name(datasets: Datasets) -> None:
    await datasets.upload("acme", INCOMING, whole())
    assert (await refused(datasets.problems("acme", "rows", 10, ""))).reason is Reason.DATASET_REPORT_NOT_FOUND
    *_, problems, count = await datasets.validate("acme", "rows", "", "", Asked())
    assert await datasets.problems("acme", "rows", 1000, "") == (problems, "")
    assert len(problems) == count == 5


async def test_a_dataset_to_evaluate_on_is_compared_with_and_must_be_of_the_same_format(datasets: Datasets) -> None:
    texts = b'{"text": "Once."}\n'

    async def chunks() -> AsyncIterator[Piece]:
        yield Piece(0, texts)

    await datasets.upload("acme", INCOMING, whole())
    await datasets.upload(
        "acme", Incoming("texts", "t.jsonl", len(texts), hashlib.sha256(texts).hexdigest(), 0, None), chunks()
    )
    failure = await refused(datasets.validate("acme", "rows", "texts", "", Asked()))
    assert "texts is text, rows is prompt_completion" in failure.sentence
    _, _, report, *_ = await datasets.validate("acme", "rows", "rows", "", Asked())
    assert report.shared_rows == 10


async def test_rows_are_previewed_as_they_are_trained_on(datasets: Datasets) -> None:
    await datasets.upload("acme", INCOMING, whole())
    rows, following = await datasets.preview("acme", "rows", "", Asked(), 1, 2)
    assert ([row.line for row in rows], following) == ([2, 3], 3)
    assert "".join(text for text, supervised in rows[0].tokens if supervised) == "The night watch has it.<|im_end|>"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_datasets_in_a_bucket_are_read_from_a_copy_that_stays(
    tmp_path: Path, base: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    database_url = str(request.getfixturevalue("postgres_url")) if kind == "postgres" else ""
    (tmp_path / "bucket").mkdir()
    bucket = f"file://{tmp_path}/bucket"
    async with opened(tmp_path, Inline(base), url=bucket, database_url=database_url) as datasets:
        stored = await datasets.upload("acme", INCOMING, whole())
        path = await datasets.file(stored.digest)
        assert path.read_bytes() == CONTENT
        assert await datasets.file(stored.digest) == path
        assert files(tmp_path / "stored") == {f"copies/{INCOMING.sha256}": CONTENT}
        await datasets.sweep(time.time() + DAY)
        assert not path.exists()
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT
        incoming, chunks = shortened()
        assert (await datasets.upload("acme", incoming, chunks())).version == 2
        await datasets.delete("acme", "rows@2")
        # Neither a tenant's deletion nor a sweep takes what another lists.
        await datasets.upload("other", INCOMING, whole())
        await datasets.delete("acme", "rows")
        await datasets.sweep(time.time() + DAY)
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT
        await datasets.delete("other", "rows")
        assert not files(tmp_path / "stored")
        assert not files(tmp_path / "bucket")
