"""Files that are made to harm whoever reads them, and children that cannot read: what becomes of the check."""

import asyncio
import io
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from services.chassis.errors import Failure, Reason
from services.trainer.data import rows
from services.trainer.data.checker import Budget, Checker
from services.trainer.data.checking import Counted, Flawed
from tests.unit.trainer.checks import checks, reads, until_one

# Each case is a process that checks a file.
_HARMFUL = pytest.mark.sampled(every=3, family="files that harm whoever reads them")
GOOD = b'{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]}\n'


def written(folder: Path, lines: Iterable[bytes], name: str = "rows.jsonl") -> Path:
    path = folder / name
    with path.open("wb") as file:
        file.writelines(lines)
    return path


def answer_of(text: str) -> bytes:
    return json.dumps({"prompt": "Say it.", "completion": text}).encode() + b"\n"


async def refused(checker: Checker, path: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        await checker.count("acme", path, None)
    return caught.value


async def test_the_rows_of_a_file_are_counted(base: Path, tmp_path: Path) -> None:
    found = await Checker(base).count("acme", written(tmp_path, [GOOD, GOOD]), None)
    assert isinstance(found, Counted)
    assert (found.format, found.rows) == (rows.Format.CHAT, 2)
    assert found.tokens > found.supervised_tokens > 0


MEGABYTE = 1 << 20
HOSTILE = {
    "a line of 100 MB": ([b"x" * MEGABYTE] * 100, "more than"),
    "a line of 100 MB that is blank": ([b" " * MEGABYTE] * 100, "more than"),
    "nesting": ([b'{"messages": ' + b"[" * 900_000], "nested too deeply"),
    "a million turns": (
        [b'{"messages": [', *[b'{"role":"user","content":"a"},'] * 1_000_000, b'{"role":"assistant","content":"a"}]}'],
        "more than",
    ),
    "turns, as many as fit in a line": (
        [b'{"messages": [', *[b'{"role":"user","content":""},'] * 36_000, b'{"role":"assistant","content":"a"}]}'],
        "at most 512",
    ),
    "a number of a million digits": ([b'{"messages": ', b"9" * 1_000_000, b"}"], "too long a number"),
}


@_HARMFUL
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_line_is_a_problem_like_any_other(base: Path, tmp_path: Path, name: str) -> None:
    pieces, says = HOSTILE[name]
    # Less than the longest of these lines takes.
    checker = Checker(base, Budget(memory_bytes=90 * MEGABYTE))
    found = await checker.count("acme", written(tmp_path, [GOOD, *pieces, b"\n", GOOD]), None)
    assert isinstance(found, Flawed)
    assert (found.count, found.problems[0].line) == (1, 2)
    assert says in found.problems[0].message


def parquet_of(column: pyarrow.Array, **options: object) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": column}), sink, **options)
    return sink.getvalue()


def nested(depth: int) -> pyarrow.Array:
    value: object = "a"
    for _ in range(depth):
        value = [value]
    return pyarrow.array([value])


async def test_a_parquet_file_is_read_by_its_content(base: Path, tmp_path: Path) -> None:
    found = await Checker(base).count("acme", written(tmp_path, [parquet_of(pyarrow.array(["a", "b"]))]), None)
    assert isinstance(found, Counted)
    assert (found.format, found.rows) == (rows.Format.TEXT, 2)


# A small file that unpacks to much: by compression, by repetition, by a dictionary, by nesting.
BOMBS = {
    "a cell of 100 MB": (lambda: parquet_of(pyarrow.array(["a" * 100_000_000]), compression="zstd"), "MiB of memory"),
    "ten million rows": (
        lambda: parquet_of(pyarrow.array(["ab"]).take(zeros(10_000_000))),
        "s of processor time",
    ),
    "a dictionary of one megabyte, named a thousand times": (
        lambda: parquet_of(pyarrow.DictionaryArray.from_arrays(zeros(1000), pyarrow.array(["ab " * 349_000]))),
        "MiB of memory",
    ),
}


def zeros(count: int) -> pyarrow.Array:
    return pyarrow.array(bytearray(count), type=pyarrow.uint8()).cast(pyarrow.int32())


@_HARMFUL
@pytest.mark.parametrize("name", BOMBS)
async def test_a_parquet_file_that_unpacks_to_too_much_is_refused_with_what_to_do(
    base: Path, tmp_path: Path, name: str
) -> None:
    make, says = BOMBS[name]
    content = make()
    assert len(content) < 200_000
    checker = Checker(base, Budget(cpu_seconds=30 if "memory" in says else 0.7, memory_bytes=150 * MEGABYTE))
    failure = await refused(checker, written(tmp_path, [content]))
    assert failure.reason is Reason.DATASET_UNCHECKED
    assert f"{says}. Shorten its rows" in failure.sentence


@_HARMFUL
@pytest.mark.parametrize("depth", [40, 400])
async def test_a_parquet_file_of_nested_lists_is_a_problem_like_any_other(
    base: Path, tmp_path: Path, depth: int
) -> None:
    found = await Checker(base).count("acme", written(tmp_path, [parquet_of(nested(depth))]), None)
    assert isinstance(found, Flawed)
    assert found.problems[0].line == 1


LONGEST = 900_000


@_HARMFUL
@pytest.mark.parametrize(
    "text", ["a" * LONGEST, " " * LONGEST + "a", "<|im_end|>" * (LONGEST // 10), "\u0301" * 150_000]
)
async def test_a_text_that_is_hard_on_tokenizers_is_counted_within_the_budget(
    base: Path, tmp_path: Path, text: str
) -> None:
    found = await Checker(base).count("acme", written(tmp_path, [answer_of(text)]), None)
    assert isinstance(found, Counted)


async def test_a_row_of_as_many_turns_as_can_be_is_counted_within_the_budget(base: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b" * 3000}] * (rows.MAX_TURNS // 2)
    found = await Checker(base).count("acme", written(tmp_path, [json.dumps({"messages": turns}).encode()]), None)
    assert isinstance(found, Counted)


async def test_a_file_that_takes_too_much_time_is_refused_with_what_to_do(base: Path, tmp_path: Path) -> None:
    checker = Checker(base, Budget(cpu_seconds=0.5, bytes_per_cpu_second=1 << 40))
    failure = await refused(checker, written(tmp_path, [answer_of("a" * LONGEST)] * 20))
    assert failure.reason is Reason.DATASET_UNCHECKED
    assert "s of processor time. Shorten its rows" in failure.sentence


async def test_a_larger_file_may_take_more_time(base: Path, tmp_path: Path) -> None:
    checker = Checker(base, Budget(cpu_seconds=0.01, bytes_per_cpu_second=64 * 1024))
    assert isinstance(await checker.count("acme", written(tmp_path, [GOOD] * 4_000), None), Counted)


async def test_a_file_that_takes_too_much_memory_is_refused_with_what_to_do(base: Path, tmp_path: Path) -> None:
    checker = Checker(base, Budget(memory_bytes=16 * MEGABYTE))
    failure = await refused(checker, written(tmp_path, [answer_of("a" * LONGEST)]))
    assert failure.reason is Reason.DATASET_UNCHECKED
    assert "16 MiB of memory. Shorten its rows" in failure.sentence


async def test_a_child_that_is_slow_to_start_says_nothing_of_the_file(base: Path, tmp_path: Path) -> None:
    failure = await refused(Checker(base, Budget(start_seconds=0.01)), written(tmp_path, [GOOD]))
    assert (failure.reason, failure.retry_after_seconds) == (Reason.NOT_READY, 5.0)
    assert not checks()


async def test_a_child_that_cannot_start_says_nothing_of_the_file(tmp_path: Path) -> None:
    failure = await refused(Checker(tmp_path / "no-base"), written(tmp_path, [GOOD]))
    assert failure.reason is Reason.NOT_READY


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file whose check outlasts every test."""
    return written(tmp_path, [answer_of("a" * LONGEST)] * 100, "endless.jsonl")


async def test_a_child_that_somebody_kills_says_nothing_of_the_file(base: Path, endless: Path) -> None:
    check = asyncio.create_task(refused(Checker(base), endless))
    await until_one(reads)
    for child in checks():
        child.kill()
    assert (await check).reason is Reason.NOT_READY


async def test_a_caller_that_leaves_takes_the_child_along(base: Path, endless: Path) -> None:
    check = asyncio.create_task(Checker(base).count("acme", endless, None))
    await until_one(reads)
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert not checks()


async def test_a_tenant_has_one_check_at_a_time_and_others_get_their_turn(
    base: Path, tmp_path: Path, endless: Path
) -> None:
    checker = Checker(base, at_a_time=2)
    long = [asyncio.create_task(checker.count("acme", endless, None)) for _ in range(3)]
    await until_one(reads)
    async with asyncio.timeout(60):
        assert isinstance(await checker.count("other", written(tmp_path, [GOOD]), None), Counted)
    assert not any(check.done() for check in long)
    assert len(checks()) == 1
    for check in long:
        check.cancel()
    await asyncio.wait(long)
