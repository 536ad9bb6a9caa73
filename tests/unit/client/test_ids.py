"""Ids that are said in part: what is meant, and what names too much or too little."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from trivium.trainer.v1 import training_pb2
from trivium_client import NotFoundError, Trivium
from trivium_client.cli.ids import job_id, sweep_id
from trivium_client.sweeps import Sweeps
from trivium_client.transport import Transport

FIRST, SECOND = "01a221fe-0000-7000-8000-000005179725", "01a221fe-0000-7000-8000-0000051797ff"


class Answers:
    """A transport that lists two sweeps, on two pages."""

    def stub(self, service: str, kind: object) -> SimpleNamespace:
        return SimpleNamespace(ListSweeps=None)

    async def call(self, service: str, method: object, request: training_pb2.ListSweepsRequest) -> object:
        second = bool(request.page_token)
        listed = training_pb2.Sweep(
            sweep=SECOND if second else FIRST, state=training_pb2.SweepState.SWEEP_STATE_RUNNING
        )
        return training_pb2.ListSweepsResponse(sweeps=[listed], next_page_token="" if second else "next")


def client_with(*jobs: str) -> Trivium:
    like = [SimpleNamespace(job=job, model="desk", sweep=job, state="running") for job in jobs]
    noun = SimpleNamespace(like=lambda part: like)
    return cast("Trivium", SimpleNamespace(jobs=noun, sweeps=noun))


@pytest.mark.parametrize(
    ("part", "found"), [("01a2", [FIRST, SECOND]), ("9725", [FIRST]), (SECOND, [SECOND]), ("5179", [])]
)
async def test_a_sweep_is_found_by_what_its_id_begins_or_ends_with(part: str, found: list[str]) -> None:
    sweeps = Sweeps(cast("Transport", Answers()))
    assert [sweep.sweep for sweep in await sweeps.like(part)] == found


@pytest.mark.parametrize("named", [job_id, sweep_id])
def test_a_part_names_what_alone_has_it(named: Callable[[Trivium, str], str]) -> None:
    assert named(client_with(FIRST), "9725") == FIRST
    # For the server to refuse by its own name.
    assert named(client_with(), "no-such") == "no-such"
    with pytest.raises(typer.BadParameter, match=f"01a2.*\n  {FIRST}  .*\n  {SECOND}"):
        named(client_with(FIRST, SECOND), "01a2")


def test_too_few_characters_are_told_how_many_there_must_be() -> None:
    with pytest.raises(NotFoundError, match=r"job\b.*'bff'.* 4"):
        job_id(client_with(FIRST), "bff")
    with pytest.raises(NotFoundError, match=r"sweep\b.*'725'.* 4"):
        sweep_id(client_with(FIRST), "725")
