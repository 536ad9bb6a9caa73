"""Constraints from requests against the limited child: what compiles, what is refused, what must not survive."""

import asyncio
import contextlib
import os
import sys

import psutil
import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.constraint_judge import Patience, child_program
from services.generator.constraints import ConstraintCheck
from services.generator.engine import Constraint, ConstraintKind
from tests.harness.timeouts import HANG_SECONDS

SOUND = [
    Constraint(ConstraintKind.JSON_SCHEMA, '{"type": "object", "properties": {"n": {"type": "integer"}}}'),
    Constraint(ConstraintKind.REGEX, "[0-9]{4}-[0-9]{2}"),
    Constraint(ConstraintKind.CHOICE, choices=("yes", 'no "quoted"', "ünïcode")),
    Constraint(ConstraintKind.GRAMMAR, 'root ::= "a" root | "b"'),
    Constraint(ConstraintKind.JSON_OBJECT),
]
BEYOND_ITS_TIME = Constraint(ConstraintKind.REGEX, "(a|b|[c-z])*" * 1600)
HOSTILE = [
    Constraint(ConstraintKind.JSON_SCHEMA, "{not json"),
    Constraint(ConstraintKind.JSON_SCHEMA, "[" * 50_000),
    Constraint(ConstraintKind.REGEX, "(unclosed"),
    Constraint(ConstraintKind.REGEX, "a\0b"),
    Constraint(ConstraintKind.GRAMMAR, 'root ::= missing "a"'),
    Constraint(ConstraintKind.CHOICE, choices=tuple("x" * 1000 + str(number) for number in range(256))),
    BEYOND_ITS_TIME,
]


async def test_what_is_sound_compiles_and_what_is_hostile_is_refused_by_one_check_after_another():
    async with checking(child_program(resolve(DEFAULT_BASE).path), children=1) as check:
        for hostile in HOSTILE:
            assert await refusal(check, hostile) == (Reason.FIELD_INVALID, "structured_output")
        # A new child has come up; of the former one's end everything is known already.
        assert await refusal(check, BEYOND_ITS_TIME) == (Reason.FIELD_INVALID, "structured_output")
        for sound in SOUND:
            await check.require_compilable(sound, "t")


# The protocol of the child without its imports: what it does with a text is in the text.
STAND_IN = """
import json, os, signal, sys
if not os.path.exists(sys.argv[1]):
    sys.stdin.read()
print(json.dumps({"problem": ""}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    word, _, place = task["text"].partition(" ")
    if word == "wait":
        open(place).read()
    if word == "wait-and-die":
        open(place).read()
        os.kill(os.getpid(), signal.SIGPROF)
    if word == "killed-at-first" and not os.path.exists(place):
        open(place, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"problem": "no" if word == "wrong" else ""}), flush=True)
"""


@contextlib.asynccontextmanager
async def checking(program, **options):
    check = ConstraintCheck(program, **options)
    try:
        yield check
    finally:
        await check.close()


@pytest.fixture
def gate(tmp_path):
    """Children come up while it exists."""
    (tmp_path / "gate").touch()
    return tmp_path / "gate"


@pytest.fixture
def fifo(tmp_path):
    """What reads it waits until somebody has written."""
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


@pytest.fixture
async def check(gate):
    async with checking([sys.executable, "-S", "-c", STAND_IN, gate]) as opened:
        yield opened


def text(words):
    return Constraint(ConstraintKind.GRAMMAR, words)


async def refusal(check, constraint, tenant="t"):
    with pytest.raises(Failure) as caught:
        await check.require_compilable(constraint, tenant)
    return caught.value.reason, caught.value.field


async def compiled(check, constraint):
    """Wait until a child has come up in time and has compiled it."""
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            try:
                return await check.require_compilable(constraint, "t")
            except Failure as failure:
                if failure.reason is not Reason.NOT_READY:
                    raise


async def begun(fifo):
    """Once a child reads it: a place to write to, which ends the child's wait when closed."""
    return await asyncio.to_thread(fifo.open, "w")


async def test_a_child_that_is_slow_to_start_condemns_no_constraint(gate):
    gate.unlink()
    program = [sys.executable, "-S", "-c", STAND_IN, gate]
    async with checking(program, patience=Patience(start_seconds=2.0)) as check:
        assert await refusal(check, text("fine")) == (Reason.NOT_READY, None)
        gate.touch()
        await compiled(check, text("fine"))
        assert await refusal(check, text("wrong")) == (Reason.FIELD_INVALID, "structured_output")


async def test_a_child_that_cannot_start_condemns_no_constraint():
    async with checking([sys.executable, "-S", "-c", "raise SystemExit(1)"]) as check:
        assert await refusal(check, text("fine")) == (Reason.NOT_READY, None)


async def test_a_child_that_somebody_ends_condemns_no_constraint(check, tmp_path):
    constraint = text(f"killed-at-first {tmp_path / 'killed'}")
    assert await refusal(check, constraint) == (Reason.NOT_READY, None)
    await check.require_compilable(constraint, "t")


async def test_one_that_takes_long_holds_up_nobody_but_its_tenant(check, fifo):
    heavy = [asyncio.create_task(check.require_compilable(text(f"wait {fifo}"), "heavy")) for _ in range(2)]
    heavy += [asyncio.create_task(check.require_compilable(text("fine"), "heavy"))]
    with await begun(fifo):
        for number in range(3):
            await check.require_compilable(text(f"fine {number}"), "light")
        assert not any(task.done() for task in heavy)
    await asyncio.gather(*heavy)


async def test_one_that_was_left_in_the_middle_holds_up_nobody_but_its_tenant(check, fifo):
    for _ in range(2):
        left = asyncio.create_task(check.require_compilable(text(f"wait {fifo}"), "heavy"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
    with await begun(fifo):
        for number in range(3):
            await check.require_compilable(text(f"fine {number}"), "light")
        later = asyncio.create_task(check.require_compilable(text("fine"), "heavy"))
        await check.require_compilable(text("fine as well"), "light")
        assert not later.done()
    await later


async def test_a_caller_that_leaves_takes_nobody_elses_answer_along(gate, fifo):
    async with checking([sys.executable, "-S", "-c", STAND_IN, gate], children=1) as check:
        gone = asyncio.create_task(check.require_compilable(text(f"wait {fifo}"), "gone"))
        writer = await begun(fifo)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        later = asyncio.create_task(check.require_compilable(text("wrong"), "t"))
        writer.close()
        with pytest.raises(Failure) as caught:
            await later
        assert caught.value.reason is Reason.FIELD_INVALID


async def test_the_end_of_a_child_is_put_down_to_what_it_worked_on(gate, fifo):
    async with checking([sys.executable, "-S", "-c", STAND_IN, gate], children=1) as check:
        gone = asyncio.create_task(check.require_compilable(text(f"wait-and-die {fifo}"), "gone"))
        writer = await begun(fifo)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        later = asyncio.create_task(check.require_compilable(text("fine"), "t"))
        writer.close()
        await later


def stand_ins() -> list[psutil.Process]:
    """The children that check now; a child of an earlier test that has ended and is not yet reaped is none."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if STAND_IN in child.cmdline():
                found.append(child)
    return found


async def test_rest_ends_the_children_that_do_nothing_and_leaves_the_one_that_works(check, fifo):
    busy = asyncio.create_task(check.require_compilable(text(f"wait {fifo}"), "busy"))
    with await begun(fifo):
        await check.require_compilable(text("fine"), "light")
        children = stand_ins()
        assert len(children) == 2
        await check.rest()
        _, working = psutil.wait_procs(children, timeout=0)
        assert len(working) == 1
        # What rested comes up again.
        await check.require_compilable(text("fine again"), "light")
    await busy
