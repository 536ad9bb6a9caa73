import pytest

from gateway.generation import NO_BASIS, Basis, CollectionVersion, Receipt, Sampling, SourceSpan
from gateway.receipts import attested, seeded
from gateway.routing import ModelKind, Route
from services.chassis.errors import Code, Failure, Reason

VERSION, OTHER, BASE = "sha256:" + "a" * 64, "sha256:" + "b" * 64, "sha256:" + "c" * 64
ROUTE = Route("support@prod", f"support@{VERSION}", ModelKind.ADAPTER, VERSION, base_digest=BASE)
BASIS = Basis((SourceSpan("c", "d", "v", 0, 5, "k", 1),), (CollectionVersion("c", "e"),))


def test_a_receipt_of_the_routed_version_is_completed_with_what_the_gateway_knows():
    receipt = attested(Receipt("", version_digest=VERSION, base_digest=BASE), ROUTE, "r1", BASIS)
    assert receipt.request_id == "r1"
    assert receipt.requested_model == "support@prod"
    assert receipt.resolved_model == f"support@{VERSION}"
    assert Basis(receipt.sources, receipt.collections) == BASIS


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt("", version_digest=OTHER, base_digest=BASE),
        Receipt("", version_digest="", base_digest=BASE),
        Receipt("", version_digest=VERSION, base_digest=OTHER),
    ],
    ids=["another version", "the base alone", "another base"],
)
def test_an_answer_by_other_weights_is_a_failure_of_ours(receipt):
    with pytest.raises(Failure) as refused:
        attested(receipt, ROUTE, "r1", NO_BASIS)
    assert refused.value.reason is Reason.VERSION_MISMATCH
    assert refused.value.code is Code.INTERNAL


def test_an_adapter_that_touched_a_request_for_the_base_is_a_failure_too():
    with pytest.raises(Failure):
        attested(Receipt("", version_digest=VERSION), Route("base", "base", ModelKind.BASE), "r1", NO_BASIS)


def test_the_callers_seed_stays_and_a_missing_one_follows_from_the_request_id():
    assert seeded(Sampling(seed=7), "r1").seed == 7
    assert seeded(Sampling(seed=0), "r1").seed == 0
    drawn = seeded(Sampling(temperature=1.0), "r1")
    assert drawn == seeded(Sampling(temperature=1.0), "r1")
    assert drawn.seed != seeded(Sampling(), "r2").seed
    assert drawn.seed is not None
    assert 0 <= drawn.seed < 2**31
