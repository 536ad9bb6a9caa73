import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.errors import Failure, Reason
from services.trainer.data.datasets import Datasets
from tests.unit.trainer.dataset_uploads import (
    CONTENT,
    INCOMING,
    files,
    nothing,
    refused,
    shortened,
    whole,
)


async def test_another_tenants_dataset_is_as_absent_as_a_missing_one(datasets: Datasets) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    assert stored.dataset == "rows"
    for name in (stored.dataset, stored.digest, "missing"):
        with pytest.raises(Failure) as refused:
            await datasets.get("other", name)
        assert refused.value.reason is Reason.DATASET_NOT_FOUND
        assert await datasets.committed("other", INCOMING.sha256) == (0, False)


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
