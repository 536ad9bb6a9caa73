"""What publications leave when their trainer is killed."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from services.chassis.logs import logger
from services.trainer.publications import Places, Publications


async def blocking(act: Callable[..., Any], *given: Any) -> Any:
    return await asyncio.to_thread(act, *given)


def lineage(_: object) -> Mapping[str, object]:
    return {}


async def test_what_a_killed_trainer_was_publishing_goes_when_the_next_one_begins(tmp_path: Path) -> None:
    places = Places(tmp_path / "jobs", tmp_path / "publications")
    left = places.publications / "left" / "step-00000001"
    left.mkdir(parents=True)
    nobody = cast(Any, None)
    publications = Publications(
        nobody, nobody, nobody, nobody, places, lineage=lineage, blocking=blocking, new_id=nobody, log=logger("trainer")
    )
    async with publications.at_work():
        assert not left.exists()
