"""A record is kept once; one that cannot be kept holds up no other and gives nothing back to the month."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from trivium.access.v1 import access_pb2 as pb
from trivium.common.v1 import receipt_pb2

from services.access import wire
from services.access.quotas import Limit, Price, Quota, checked, packed
from services.access.store import Base, QuotaRow, SpendingRow, TenantRow
from services.access.usage import Usage, UsageLedger
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason


@asynccontextmanager
async def of_ada(tmp_path: Path) -> AsyncIterator[Database]:
    """A database with a tenant."""
    async with open_database(f"sqlite:///{tmp_path / 'access.db'}", Base.metadata) as opened:
        row = TenantRow(tenant="ada", display_name="", created_at=0, disabled_at=None)
        await opened.write(lambda session: session.add(row))
        yield opened


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with of_ada(tmp_path) as opened:
        yield opened


def record(request_id: str, tokens: int = 7, **fields: Any) -> pb.UsageRecord:
    usage = receipt_pb2.Usage(prompt_tokens=tokens, completion_tokens=3)
    receipt = receipt_pb2.Receipt(request_id=request_id, usage=usage, **fields)
    return pb.UsageRecord(method="/m", tenant="ada", principal="k", receipt=receipt)


async def spent(database) -> dict[str, int]:
    """Tokens of the month by scope."""
    rows = await database.read(lambda session: list(session.scalars(select(SpendingRow))))
    return {row.scope: row.tokens for row in rows}


async def test_what_is_no_record_is_told_in_its_place_and_the_others_are_kept(database):
    ledger = UsageLedger(database, lambda: 1_796_000_000_000_000, wire.answer_of)
    asked = [record("r1"), record(""), record("r2", tokens=-5), record("x" * 129), record("r3")]
    refused = await ledger.record_all(wire.usages(asked))
    assert [failure and failure.reason for failure in refused] == [None, *[Reason.FIELD_INVALID] * 3, None]
    assert {usage.request_id for usage in await ledger.page("ada", None, 10)} == {"r1", "r3"}
    assert (await spent(database))[""] == 20


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"receipt": receipt_pb2.Receipt(usage=receipt_pb2.Usage(prompt_tokens=-1_000_000))}, "record.receipt.usage"),
        ({"tenant": ""}, "record.tenant"),
        ({"principal": ""}, "record.principal"),
    ],
)
def test_no_record_gives_tokens_back_to_the_month_or_is_nobodys(change, field):
    kept: dict[str, Any] = {"request_id": "r1", "tenant": "ada", "principal": "k"}
    with pytest.raises(Failure) as refused:
        wire.usage(pb.UsageRecord(**{**kept, **change}))
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, field)
    assert isinstance(wire.usage(pb.UsageRecord(**kept)), Usage)


async def reasons(database, *records: pb.UsageRecord) -> list[Reason | None]:
    """Why each was refused, None where it was not."""
    ledger = UsageLedger(database, lambda: 1_796_000_000_000_000, wire.answer_of)
    refused = await ledger.record_all(wire.usages(records))
    return [None if failure is None else failure.reason for failure in refused]


def computed(at_seconds: int, *, unattended: bool, principal: str = "k", **fields: Any) -> pb.UsageRecord:
    """A record of one answer, computed then."""
    digests: dict[str, Any] = {"prompt_tokens_digest": "sha256:p", "completion_digest": "sha256:c"}
    made = record("r1", **{**digests, **fields})
    made.receipt.complete_time.seconds = at_seconds
    made.unattended = unattended
    made.principal = principal
    return made


async def test_a_record_that_is_given_again_counts_once_and_an_answer_that_is_computed_again_is_another(database):
    first, later = computed(1, unattended=False), computed(2, unattended=False)
    assert await reasons(database, first, first) == [None, None]
    assert await reasons(database, first, later) == [None, Reason.REQUEST_ID_REUSED]
    assert (await spent(database))[""] == 10


async def test_where_nobody_waits_the_same_answer_computed_again_is_the_same_record_and_any_other_is_refused(database):
    later = computed(2, unattended=True, engine="another", engine_slot=3)
    later.receipt.usage.cached_prompt_tokens = 5
    assert await reasons(database, computed(1, unattended=True), later, later) == [None, None, None]
    others = [
        computed(2, unattended=True, completion_digest="sha256:d"),
        computed(2, unattended=True, prompt_tokens_digest="sha256:q"),
        computed(2, unattended=True, tokens=8),
        computed(2, unattended=True, principal="l"),
        # Whoever waits for it asked for it himself.
        computed(2, unattended=False),
    ]
    assert await reasons(database, *others) == [Reason.REQUEST_ID_REUSED] * 5
    assert (await spent(database))[""] == 10


async def test_where_a_receipt_does_not_say_what_was_asked_each_computing_is_one_of_its_own(database):
    untold = [computed(at, unattended=True, prompt_tokens_digest="") for at in (1, 2)]
    assert await reasons(database, *untold) == [None, Reason.REQUEST_ID_REUSED]


async def test_what_a_model_answers_is_its_own_by_whichever_name_it_was_asked(database):
    prices = (Price("desk", 1_000_000, 0), Price("", 5_000_000, 5_000_000))
    row = QuotaRow(tenant="ada", quota=packed(Quota(prices=prices)), updated_at=0)
    await database.write(lambda session: session.add(row))
    ledger = UsageLedger(database, lambda: 1_796_000_000_000_000, wire.answer_of)
    names = [(" desk@prod", "desk@sha256:a"), ("auto", "desk@sha256:a"), ("desk", ""), ("base:tiny", "base"), ("", "")]
    records = [
        record(f"r{number}", requested_model=asked, resolved_model=resolved)
        for number, (asked, resolved) in enumerate(names)
    ]
    assert await ledger.record_all(wire.usages(records)) == [None] * 5
    kept = sorted(await ledger.page("ada", None, 10), key=lambda usage: usage.request_id)
    assert [usage.model for usage in kept] == ["desk", "desk", "desk", "base", "base"]
    assert [usage.micros for usage in kept] == [7, 7, 7, 50, 50]
    of_models = {scope: tokens for scope, tokens in (await spent(database)).items() if scope.startswith("model:")}
    assert of_models == {"model:desk": 30, "model:auto": 10, "model:base": 20, "model:base:tiny": 10}


@pytest.mark.parametrize(
    ("quota", "field"),
    [
        (Quota((Limit(), Limit("model:desk@prod", requests_per_minute=1))), "quota.limits"),
        (Quota((Limit(), Limit("model: desk", requests_per_minute=1))), "quota.limits"),
        (Quota(prices=(Price("desk@3", 1, 1),)), "quota.prices"),
        (Quota(prices=(Price("auto", 1, 1),)), "quota.prices"),
    ],
)
def test_a_limit_or_price_of_a_name_that_no_model_has_is_refused(quota, field):
    with pytest.raises(Failure) as refused:
        checked(quota)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, field)
    fine = Quota((Limit(), Limit("model:auto", requests_per_minute=1)), (Price("", 1, 1), Price("base:tiny", 1, 1)))
    assert checked(fine) == fine
