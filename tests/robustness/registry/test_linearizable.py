"""However many clients race, and whatever is killed meanwhile, the registry answers as one copy would."""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc
import pytest

from tests.linearizability import Kind, Outcome, violations
from tests.robustness.registry.racing import Race
from tests.stack import RECONNECTS, Process, Stack, User, registry_over
from tests.worlds import FOLDER

SEED = 20261125
# A run has one of the two races: each has two windows of keys.
SEEDS = (SEED, SEED + 100)


@contextmanager
def replicas(stack: Stack, folder: Path, prelude: str = "") -> Iterator[tuple[Stack, list[Process]]]:
    """A registry that may be killed; on PostgreSQL and S3, two of them over the same place."""
    with ExitStack() as opened:
        one = Stack(folder / "one", beside=stack, prelude=prelude)
        opened.callback(one.close)
        processes = [one.registry]
        if one.place.settings:
            processes.append(one.replica(folder / "two"))
            opened.callback(processes[1].stop)
        for process in processes:
            process.keep_port()
        yield one, processes


def door(process: Process, tenant: str, key: str, opened: ExitStack) -> User:
    """A connection of its own to one replica."""
    channel = grpc.insecure_channel(process.address, [("grpc.use_local_subchannel_pool", 1), *RECONNECTS])
    opened.callback(channel.close)
    return User(registry_over(channel, key), tenant)


def run(stack: Stack, folder: Path, *, seed: int, calls: int, kills: int, prelude: str = "") -> Race:
    """Race, and kill a replica now and then; the race with its history."""
    source = random.Random(seed)
    with ExitStack() as opened, replicas(stack, folder, prelude) as (one, processes):
        tenant = one.tenant()
        key = one.tenant_key(tenant)
        doors = [partial(door, process, tenant, key, opened) for process in processes]
        race = Race(doors, seed, calls)
        race.start()
        for number in range(kills):
            due = (number + source.random()) * calls / (kills + 1)
            race.reach(due)
            victim = source.choice(processes)
            victim.kill()
            victim.start()
        race.join()
    return race


def judge(race: Race, seed: int) -> list[str]:
    """What is wrong with a race, after a look whether it was one."""
    outcomes = race.outcomes()
    sys.stdout.write(f"seed {seed}: {dict(sorted(outcomes.items()))}\n")
    assert not race.unexpected, f"seed {seed}: {race.unexpected[:3]}"
    for told in ("create ok", "set ok", "set mismatch", "read ok"):
        assert outcomes[told], f"seed {seed}: no {told}"
    return violations(race.history)


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize("seed", SEEDS)
def test_racing_clients_see_one_copy_though_it_is_killed(stack: Stack, tmp_path: Path, seed: int):
    race = run(stack, tmp_path, seed=seed, calls=640, kills=2)
    assert not judge(race, seed), f"seed {seed}"
    assert any(call.outcome is Outcome.UNKNOWN for call in race.history), f"no call was hit by a kill (seed {seed})"
    _a_planted_stale_read_is_found(race)


def _a_planted_stale_read_is_found(race: Race) -> None:
    """A read after all is over, told what a key's first write was told."""
    writes = [call for call in race.history if call.kind is not Kind.READ and call.outcome is Outcome.OK]
    old = min(writes, key=lambda call: call.returned)
    assert len([call for call in writes if call.key == old.key]) > 1
    late = max(call.returned for call in race.history) + 1
    assert violations([*race.history, replace(old, kind=Kind.READ, invoked=late, returned=late + 1)])


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(SEED, SEED + 5))
def test_racing_clients_see_one_copy_for_long(stack: Stack, tmp_path: Path, seed: int):
    race = run(stack, tmp_path, seed=seed, calls=12_000, kills=25)
    assert not judge(race, seed), f"seed {seed}"


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize("stack", [FOLDER], indirect=True)
@pytest.mark.parametrize("lie", ["stale_reads", "lost_updates"])
def test_a_registry_that_lies_is_found_out(stack: Stack, lie: str, tmp_path: Path):
    race = run(stack, tmp_path, seed=SEED, calls=400, kills=0, prelude=f"tests.robustness.registry.lies.{lie}")
    found = judge(race, SEED)
    assert found
    assert all(key.startswith("model-") for key in found)
