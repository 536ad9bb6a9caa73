"""Killed between any two steps of an upload, a version's creation or an alias's move, the registry is old or new.

Each act is first recorded: which steps it passes, and what it does between them that
outlives the process.  Then the registry is killed at these steps, a sample of them in one run,
started again, and asked: what was acknowledged is there, what was not is there whole or not
at all, and a repeat with the same ``request_id`` ends well.
"""

import itertools
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis import tasks
from services.chassis.steps import Step
from tests.adapters import Adapter, digest, noise
from tests.harness.plugin_sampling import sample
from tests.stack import CHUNK_BYTES, Stack, User, download, eventually, refused
from tests.worlds import BUCKET, FOLDER

_RUNS = 5
# One step in so many: where PostgreSQL is sampled too, of each act that is chosen there.
_EVERY = 3
# What the one store does and the other has no need of.
ELSEWHERE = {FOLDER: {Step.STAGED_REMOVED, Step.COPY_MADE, Step.COPY_REMOVED}, BUCKET: {Step.BLOB_SYNCED}}


class Mortal:
    """A registry that can be told where to die."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._armed, self._trace = folder / "armed", folder / "trace"
        settings = {"TRIVIUM_TEST_ARMED": str(self._armed), "TRIVIUM_TEST_TRACE": str(self._trace)}
        self.stack = Stack(folder / "data", settings, beside=stack, prelude="tests.robustness.registry.dying")
        self.stack.registry.keep_port()
        self.user = self.stack.newcomer()
        self.world = FOLDER if self.stack.place.blobs.is_relative_to(self.stack.data) else BUCKET
        self._recordings: dict[str, tuple[Act, list[str]]] = {}
        self._settled()

    def recorded(self, name: str) -> "tuple[Act, list[str]]":
        """Return an act and what a run of it does; recorded once, in a registry that has seen nothing of it before."""
        if name not in self._recordings:
            act = ACTS[name]()
            with self.explained():
                self._recordings[name] = act, recorded(self, act)
        return self._recordings[name]

    def _settled(self) -> None:
        """The sweep of a start writes too: it is over before anything is counted."""
        starts = self.stack.registry.log().count('"event": "serving"')
        eventually(lambda: self.stack.registry.log().count('"event": "swept"') >= starts, "the first sweep is over")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add the registry's log, with the stacks of its tasks and threads, to the failure of a call that is not answered."""
        try:
            yield
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            os.kill(self.stack.registry.pid, tasks.TELL)
            threading.Event().wait(1)
            raise AssertionError(f"the registry does not answer:\n{self.stack.registry.log()[-20_000:]}") from error

    def record(self, act: "Act") -> list[str]:
        """What one run of the act does: its steps, and its effects between them."""
        self._trace.unlink(missing_ok=True)
        self._armed.write_text("record")
        act.attempt(self.user)
        self._armed.unlink()
        return self._trace.read_text().splitlines()

    def die_at(self, number: int, act: "Act") -> bool:
        """Kill the registry at a step of the act and start it again; whether the act was acknowledged."""
        self._armed.write_text(str(number))
        acknowledged = True
        try:
            act.attempt(self.user)
        except grpc.RpcError:
            acknowledged = False
        status = self.stack.registry.died(30)
        assert status == -9, f"step {number} was not passed: {status}"
        self._armed.unlink()
        self.stack.restart(self.stack.registry)
        self._settled()
        return acknowledged


class Act(Protocol):
    """Something that is acknowledged or not."""

    def prepare(self, mortal: Mortal) -> None:
        """Make what it needs; called before each run."""

    def attempt(self, user: User) -> Any:
        """Do it, the same way every time between two preparations."""

    def check(self, user: User, acknowledged: bool) -> None:
        """It happened whole or not at all, and wholly if it was acknowledged; then repeat it, and it is there once."""


@dataclass
class Upload:
    """A file of two chunks."""

    content: bytes = b""
    resume: int = 0
    kept: bytes = b""

    def prepare(self, mortal: Mortal) -> None:
        self.kept, self.content, self.resume = self.content, noise(CHUNK_BYTES + 1000), 0

    def attempt(self, user: User) -> Any:
        return user.upload("weights.safetensors", self.content, resume=self.resume)

    def check(self, user: User, acknowledged: bool) -> None:
        if self.kept:
            assert download(user.api, digest(self.kept)) == self.kept
        status = user.api.GetUpload(pb.GetUploadRequest(sha256=digest(self.content))).status
        assert status.complete or not acknowledged
        if status.complete:
            assert download(user.api, digest(self.content)) == self.content
        else:
            assert status.committed_bytes <= len(self.content)
            with refused("BLOB_NOT_FOUND"):
                download(user.api, digest(self.content))
        self.resume = 0 if status.complete else status.committed_bytes
        assert self.attempt(user).complete
        assert download(user.api, digest(self.content)) == self.content


@dataclass
class Creation:
    """A first version of a new model."""

    model: str = ""
    request_id: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    events: int = 0
    count: int = 0

    def prepare(self, mortal: Mortal) -> None:
        self.count += 1
        self.model, self.request_id = f"m{self.count}", str(uuid.uuid4())
        self.files = Adapter(salt=float(self.count)).files()
        for name, content in self.files.items():
            mortal.user.upload(name, content)
        self.events = len(mortal.user.events_so_far())

    def attempt(self, user: User) -> Any:
        return user.create(user.draft(self.model, self.files), self.request_id)

    def check(self, user: User, acknowledged: bool) -> None:
        models = [item.model for item in user.api.ListModels(pb.ListModelsRequest(page_size=1000)).models]
        events = user.events_so_far()[self.events :]
        if self.model in models:
            (found,) = self._versions(user)
            assert [event.version for event in events] == [found.version]
        else:
            assert not acknowledged
            assert not events
        repeated = self.attempt(user)
        assert [item.version for item in self._versions(user)] == [repeated.version]
        assert repeated.number == 1
        assert [event.version for event in user.events_so_far()[self.events :]] == [repeated.version]
        assert {file.filename: download(user.api, file.sha256) for file in repeated.files} == self.files

    def _versions(self, user: User) -> list[Any]:
        return list(user.api.ListVersions(pb.ListVersionsRequest(model=self.model)).versions)


@dataclass
class Move:
    """An alias goes to a version that a generator holds, so that it serves in the same transaction."""

    versions: list[str] = field(default_factory=list)
    request_id: str = ""
    before: Any = None
    seen: int = 0
    moved: int = 0

    def prepare(self, mortal: Mortal) -> None:
        user = mortal.user
        if not self.versions:
            self.versions = [user.publish("moving", Adapter(salt=salt).files()).version for salt in (1000.0, 2000.0)]
            self._hold(mortal)
            user.point("moving", self.versions[1])
        self._hold(mortal)
        self.versions.reverse()
        self.request_id = str(uuid.uuid4())
        self.before = user.alias("moving")
        self.seen, self.moved = len(user.events_so_far()), len(self._moves(user))

    def _hold(self, mortal: Mortal) -> None:
        for version in self.versions:
            mortal.stack.service().report("g", mortal.user.tenant, version, "READY")

    def attempt(self, user: User) -> Any:
        return user.point("moving", self.versions[1], etag=self.before.etag, request_id=self.request_id)

    def check(self, user: User, acknowledged: bool) -> None:
        if user.alias("moving") == self.before:
            assert not acknowledged
            assert (len(user.events_so_far()), len(self._moves(user))) == (self.seen, self.moved)
        else:
            self._moved(user)
        assert self.attempt(user).serving_version == self.versions[1]
        self._moved(user)

    def _moved(self, user: User) -> None:
        now = user.alias("moving")
        assert (now.target_version, now.serving_version) == (self.versions[1], self.versions[1])
        moves = self._moves(user)
        assert len(moves) == self.moved + 1
        assert (moves[0].from_version, moves[0].to_version) == (self.before.serving_version, now.serving_version)
        events = user.events_so_far()
        assert len(events) == self.seen + 2
        assert events[-1].alias.serving_version == now.serving_version

    def _moves(self, user: User) -> list[Any]:
        request = pb.ListAliasMovesRequest(model="moving", alias="prod", page_size=1000)
        return list(user.api.ListAliasMoves(request).moves)


ACTS: dict[str, type[Act]] = {"upload": Upload, "creation": Creation, "move": Move}


@pytest.fixture(scope="module")
def mortal(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    running = Mortal(stack, tmp_path_factory.mktemp("mortal"))
    yield running
    running.stack.close()


def recorded(mortal: Mortal, act: Act) -> list[str]:
    """Return the trace of an act once a second run has passed the same steps: the registry's background work is in one alone.

    It is the later run's trace: steps that a data folder needs only once are not part of the act.
    """
    seen: list[list[str]] = []
    for _ in range(_RUNS):
        act.prepare(mortal)
        trace = mortal.record(act)
        if steps_of(trace) in map(steps_of, seen):
            return trace
        seen.append(trace)
    raise AssertionError(f"no two runs pass the same steps: {seen}")


def steps_of(trace: list[str]) -> list[str]:
    """The steps alone."""
    return [line for line in trace if line.startswith("step ")]


def one_between(trace: list[str]) -> list[int]:
    """The first step, and the first after each effect: one between any two of the things that outlive the process."""
    chosen, number, pending = [], 0, True
    for line in trace:
        if line.startswith("effect "):
            pending = True
            continue
        number += 1
        if pending:
            chosen.append(number)
        pending = False
    return chosen


def every_one(trace: list[str]) -> list[int]:
    """Every step, those that only read included."""
    return list(range(1, 1 + len(steps_of(trace))))


@pytest.mark.parametrize("choice", [one_between, pytest.param(every_one, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ACTS)
def test_killed_between_any_two_steps_it_is_old_or_new(
    mortal: Mortal, name: str, choice: Callable[[list[str]], list[int]]
):
    act, trace = mortal.recorded(name)
    chosen = choice(trace)
    assert chosen[-1] > 3
    for number in sample(chosen, _EVERY):
        act.prepare(mortal)
        acknowledged = mortal.die_at(number, act)
        try:
            act.check(mortal.user, acknowledged)
        except (AssertionError, grpc.RpcError) as error:
            raise AssertionError(f"killed as it passed step {number} of {trace}") from error


def test_a_step_stands_between_any_two_things_that_outlive_the_process(mortal: Mortal):
    seen: set[str] = set()
    for name in ACTS:
        _, trace = mortal.recorded(name)
        for before, after in itertools.pairwise(trace):
            assert not (before.startswith("effect ") and after.startswith("effect ")), f"between {before} and {after}"
        seen |= {line.removeprefix("step ") for line in trace if line.startswith("step ")}
    assert seen == set(Step) - ELSEWHERE[mortal.world]
