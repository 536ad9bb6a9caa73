"""A batch whose service is killed at any step goes on where it was: every line has one answer, and is asked under one id."""

import random
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests.answering_door import AnsweringDoor, requests
from tests.filing import Filing, Keeper
from tests.harness.plugin_sampling import sample
from tests.stack import Stack, eventually

LINES = 4
# So many kills of one run; `make soak` kills at every step.
KILLS = 3
AT_ONCE = 2
PRELUDE = "tests.robustness.registry.dying"


class Mortal:
    """A service of files that dies where the test wants it to, and its user."""

    def __init__(self, folder: Path, stack: Stack, door: AnsweringDoor) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.armed, self.trace = folder / "armed", folder / "trace"
        self.door = door
        settings = {
            "TRIVIUM_FILES_GATEWAY_URL": door.address,
            "TRIVIUM_FILES_BATCH_LOOK_SECONDS": "0.05",
            "TRIVIUM_FILES_BATCH_REQUESTS_AT_ONCE": str(AT_ONCE),
            "TRIVIUM_TEST_ARMED": str(self.armed),
            "TRIVIUM_TEST_TRACE": str(self.trace),
        }
        self.filing = Filing(folder / "data", stack, settings, prelude=PRELUDE)
        self.filing.process.keep_port()
        tenant = stack.tenant()
        self.user: Keeper = self.filing.keeper(stack.tenant_key(tenant), tenant)

    def begun(self) -> str:
        """A batch that waits for its first answer."""
        self.door.held = {1, 2}
        self.door.asked.clear()
        self.door.ids.clear()
        batch = self.user.batch(requests(*range(1, LINES + 1))).batch
        eventually(lambda: len(self.door.asked) == AT_ONCE, "the first lines are asked")
        return batch

    def checked(self, batch: str, kills: int) -> None:
        """The batch, once it has ended, has every answer once."""
        found = self.user.ended(batch)
        assert (found.total, found.completed, found.failed) == (LINES, LINES, 0)
        assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (3 * LINES, 2 * LINES)
        lines = self.user.lines(found.output_file)
        assert [line["custom_id"] for line in lines] == [f"c{n}" for n in range(1, LINES + 1)]
        # Asked again is only what had no durable answer: the lines that were under way.
        assert sum(self.door.asked.values()) <= LINES + kills * AT_ONCE
        assert all(len(ids) == 1 for ids in self.door.ids.values())


@pytest.fixture
def mortal(tmp_path: Path, stack: Stack, door: AnsweringDoor):
    """One a test."""
    running = Mortal(tmp_path, stack, door)
    yield running
    running.filing.close()


def recorded(mortal: Mortal) -> int:
    """How many steps the service takes from the first answer to the end of a batch."""
    batch = mortal.begun()
    mortal.armed.write_text("record")
    mortal.door.let_go()
    mortal.checked(batch, kills=0)
    mortal.armed.unlink()
    return sum(line.startswith("step ") for line in mortal.trace.read_text().splitlines())


def killed_at(mortal: Mortal, step: int) -> None:
    """One batch, killed as a step is passed, taken up by the next life."""
    batch = mortal.begun()
    mortal.armed.write_text(str(step))
    mortal.door.let_go()
    process = mortal.filing.process
    eventually(lambda: process.died(60), f"it dies at step {step}")
    mortal.armed.unlink()
    process.start()
    mortal.checked(batch, kills=1)


@pytest.mark.timeout(1800)
def test_a_batch_survives_a_kill_at_steps_over_its_whole_life(mortal: Mortal):
    steps = recorded(mortal)
    assert steps > 20
    for step in sample(range(1, steps), steps // KILLS):
        killed_at(mortal, step)


def lapsed(postgres_url: str) -> None:
    """Let all leases lapse.  As shipped they last half a minute, so that a replica that stalls keeps its own."""
    url = make_url(postgres_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as database:
        database.execute("UPDATE batches SET leased_until = 0")


def test_another_replica_takes_a_batch_over_when_its_lease_has_lapsed(
    tmp_path: Path, stack: Stack, door: AnsweringDoor, postgres_url: str
):
    settings = {
        "TRIVIUM_FILES_GATEWAY_URL": door.address,
        "TRIVIUM_FILES_BATCH_LOOK_SECONDS": "0.05",
        "TRIVIUM_FILES_DATABASE_URL": postgres_url,
    }
    one = Filing(tmp_path / "one", stack, settings)
    # Of one blob store, as a bucket would be.
    (tmp_path / "other" / "files").mkdir(parents=True)
    (tmp_path / "other" / "files" / "blobs").symlink_to(tmp_path / "one" / "files" / "blobs")
    key = stack.tenant_key(stack.tenant())
    numbers = list(range(1, 31))
    random.Random(7).shuffle(numbers)
    door.held = {numbers[10]}
    batch = one.keeper(key).batch(requests(*numbers)).batch
    eventually(lambda: door.asked[numbers[10]], "the line that waits is asked")
    other = Filing(tmp_path / "other", stack, settings)
    survivor = other.keeper(key)
    # While its holder lives nobody else takes it.
    eventually(lambda: sum(door.asked.values()) == len(numbers), "all others are asked")
    one.process.kill()
    door.let_go()
    lapsed(postgres_url)
    found = survivor.ended(batch)
    assert (found.completed, found.failed) == (30, 0)
    assert [line["custom_id"] for line in survivor.lines(found.output_file)] == [f"c{n}" for n in numbers]
    # Asked again is what had no durable answer: the line that was held, and at most the one beside it.
    again = {n: times for n, times in door.asked.items() if times > 1}
    assert again[numbers[10]] == 2
    assert len(again) <= AT_ONCE
    one.close()
    other.close()
