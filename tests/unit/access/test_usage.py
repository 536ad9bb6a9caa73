"""Records are kept once for an id; one that cannot be kept holds up no other and gives nothing back to the month."""

from typing import Any

import pytest
from sqlalchemy import select
from trivium.access.v1 import access_pb2 as pb
from trivium.common.v1 import receipt_pb2

from services.access import wire
from services.access.quotas import Limit, Price, Quota, checked, packed
from services.access.store import Base, QuotaRow, SpendingRow, TenantRow
from services.access.usage import Usage, UsageLedger
from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason

GATEWAY = RequestContext("_system", "gateway", frozenset({Role.SERVICE}), Bearer(), "id", None, "/RecordUsages")


@pytest.fixture
async def database(tmp_path):
    async with open_database(f"sqlite:///{tmp_path / 'access.db'}", Base.metadata) as opened:
        row = TenantRow(tenant="ada", display_name="", created_at=0, disabled_at=None)
        await opened.write(lambda session: session.add(row))
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
    refused = await ledger.record_all(wire.usages(GATEWAY, asked))
    assert [failure and failure.reason for failure in refused] == [None, *[Reason.FIELD_INVALID] * 3, None]
    assert {usage.request_id for usage in await ledger.page("ada", None, 10)} == {"r1", "r3"}
    assert (await spent(database))[""] == 20


def test_nobody_gives_tokens_back_to_the_month():
    own = RequestContext("ada", "k", frozenset({Role.VIEWER}), Bearer(), "id", None, "/RecordUsage")
    with pytest.raises(Failure) as refused:
        wire.usage(own, record("r1", tokens=-1_000_000))
    assert refused.value.reason is Reason.FIELD_INVALID
    assert isinstance(wire.usage(own, record("r1", tokens=0)), Usage)


async def test_the_same_answer_computed_again_is_the_same_record_and_any_other_is_refused(database):
    ledger = UsageLedger(database, lambda: 1_796_000_000_000_000, wire.answer_of)
    digests: dict[str, Any] = {"prompt_tokens_digest": "sha256:p", "completion_digest": "sha256:c"}

    async def reasons(*records: pb.UsageRecord):
        return [failure and failure.reason for failure in await ledger.record_all(wire.usages(GATEWAY, records))]

    first = record("r1", **digests)
    first.receipt.complete_time.seconds = 1
    later = record("r1", **digests, engine="another")
    later.receipt.complete_time.seconds = 2
    later.receipt.usage.cached_prompt_tokens = 5
    assert await reasons(first, later) == [None, None]
    other_key = record("r1", **digests)
    other_key.principal = "l"
    others = [
        record("r1", **{**digests, "completion_digest": "sha256:d"}),
        record("r1", **{**digests, "prompt_tokens_digest": "sha256:q"}),
        record("r1", **digests, tokens=8),
        other_key,
    ]
    assert await reasons(*others) == [Reason.REQUEST_ID_REUSED] * 4
    # Vectors have no digest of what was said: each computing is one of its own.
    vectors, again = record("r2"), record("r2")
    again.receipt.complete_time.seconds = 2
    assert await reasons(vectors, again) == [None, Reason.REQUEST_ID_REUSED]
    assert (await spent(database))[""] == 20


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
    assert await ledger.record_all(wire.usages(GATEWAY, records)) == [None] * 5
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
