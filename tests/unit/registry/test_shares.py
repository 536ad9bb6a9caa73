"""Shares of an alias's callers: each bucket has one owner, and a change moves no more than it must."""

from hypothesis import given
from hypothesis import strategies as some

from services.registry.shares import BUCKETS, bucket_of, resized

STEPS = some.lists(some.tuples(some.integers(0, 4), some.integers(0, BUCKETS)), max_size=30)


@given(STEPS)
def test_however_shares_change_nobody_moves_who_need_not(steps: list[tuple[int, int]]):
    owned: dict[int, list[int]] = {}
    for canary, wanted in steps:
        others = [bucket for other, buckets in owned.items() if other != canary for bucket in buckets]
        percent = min(wanted, BUCKETS - len(others))
        before = set(owned.get(canary, []))
        owned[canary] = resized(before, others, percent)
        now = set(owned[canary])
        assert len(owned[canary]) == len(now) == percent
        assert not now & set(others)
        assert now <= before or before <= now
        assert now <= set(range(BUCKETS))


def test_a_key_has_one_bucket_and_keys_are_spread():
    buckets = [bucket_of("t", "m", "prod", f"caller-{number}") for number in range(20_000)]
    assert buckets == [bucket_of("t", "m", "prod", f"caller-{number}") for number in range(20_000)]
    counts = [buckets.count(bucket) for bucket in range(BUCKETS)]
    # 200 each, six standard deviations around it.
    assert min(counts) > 115
    assert max(counts) < 285


def test_a_key_is_spread_anew_for_every_alias_model_and_tenant():
    def of(tenant: str, model: str, alias: str) -> tuple[int, ...]:
        return tuple(bucket_of(tenant, model, alias, f"caller-{number}") for number in range(50))

    names = [("t", "m", "prod"), ("t", "m", "stage"), ("t", "n", "prod"), ("u", "m", "prod"), ("tm", "", "prod")]
    assert len({of(*name) for name in names}) == len(names)
