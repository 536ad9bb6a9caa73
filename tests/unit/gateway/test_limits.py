"""What a gateway leases, reserves and settles: never over a limit, nothing counted twice or not at all."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.generation import Receipt, Usage
from gateway.limits.accounts import Accounts
from gateway.limits.fair_share import FairShare
from gateway.limits.gate import Gate, used
from gateway.limits.meters import Meter
from gateway.limits.terms import RATES, Demand, Grant, Limit, Price, Terms, Unit, Wish
from gateway.policy import in_force
from gateway.policy.nouns import ContentPolicy
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from tests.harness.clock import OffsetClock
from tests.harness.timeouts import HANG_SECONDS

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["begin", "end", "lease"]), st.integers(1, 40), st.integers(0, 60)), max_size=80
)


@given(limit=st.integers(1, 200), operations=OPERATIONS)
def test_what_is_reserved_was_leased_and_what_is_settled_is_what_was_used(limit, operations):
    meter = Meter(Limit("", Unit.TOKENS, limit))
    running: list[int] = []
    leased = spent = returned = 0
    for now, (operation, amount, truth) in enumerate(operations):
        wanted = min(amount, limit)
        if operation == "begin":
            if meter.has(wanted, now):
                meter.reserve(wanted, now)
                running.append(wanted)
                assert meter.held >= 0
            else:
                meter.need(wanted)
        elif operation == "end" and running:
            meter.settle(running.pop(0), truth)
            spent += truth
        elif operation == "lease":
            wish = meter.wish(now)
            assert wish.wanted >= 0
            granted = min(wish.wanted, amount)
            meter.given(wish, Grant("", Unit.TOKENS, granted, 0, 0.0), now)
            leased, returned = leased + granted, returned + wish.returned
        assert meter.reserved == sum(running)
        assert leased == meter.held + meter.reserved + spent + returned


class Access:
    """Access in this process: one bucket a limit, as much as it is filled with; what several gateways share."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.free = {(limit.scope, limit.unit): limit.amount for limit in terms.limits}
        self.reachable = True
        self.calls = 0

    async def lease(self, asked: Sequence[tuple[str, Sequence[Wish]]]) -> list[tuple[Terms, list[Grant]]]:
        self.calls += 1
        await asyncio.sleep(0)
        if not self.reachable:
            raise Failure(Reason.PEER_UNAVAILABLE, service="access")
        return [(self.terms, [self._grant(wish) for wish in wishes]) for _, wishes in asked]

    def _grant(self, wish: Wish) -> Grant:
        key = (wish.limit.scope, wish.limit.unit)
        granted = min(wish.wanted, self.free[key] + wish.returned)
        self.free[key] += wish.returned - granted
        return Grant(*key, granted, self.free[key], 30.0)


def asking(tenant: str = "ada", principal: str = "k1", project: str = "") -> RequestContext:
    return RequestContext(
        tenant, principal, frozenset({Role.DEVELOPER}), Bearer(), "id", None, "/Chat", project=project
    )


def loop_clock() -> OffsetClock:
    """Return the time of the running loop, which a test may move forward."""
    return OffsetClock(lambda: asyncio.get_running_loop().time())


class OpenGate(Gate):
    """A gate whose accounts a test reads."""

    def __init__(self, accounts: Accounts, shares: FairShare, clock: Callable[[], float]) -> None:
        super().__init__(accounts, shares, clock)
        self.accounts = accounts


@asynccontextmanager
async def gate_over(access: Access, places: int = 1000, clock: OffsetClock | None = None):
    clock = clock or loop_clock()
    accounts = Accounts(access, logger("test"), clock)
    keeping = asyncio.create_task(accounts.run())
    yield OpenGate(accounts, FairShare(places), clock)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


DEMAND = Demand("m", 10, 10)
HEADERS: list[dict[str, str]] = []


async def tell(headers):
    HEADERS.append(dict(headers))


async def ask(gate: Gate, demand: Demand = DEMAND, *, uses: Usage | None = None, caller: RequestContext | None = None):
    """One request; the reason why it was refused, None where it passed."""
    try:
        with serving(caller or asking()):
            async with gate.passing(demand, tell):
                if uses is not None:
                    used(Receipt("r1", requested_model=demand.model, usage=uses))
    except Failure as failure:
        return failure.reason if failure.retry_after_seconds else f"{failure.reason} without a hint"
    return None


@pytest.mark.parametrize("gateways", [1, 2, 3])
async def test_gateways_together_let_in_what_the_limit_says_and_no_more(gateways):
    access, clock = Access(Terms((Limit("", Unit.REQUESTS, 40),))), loop_clock()
    async with AsyncExitStack() as stack:
        gates = [await stack.enter_async_context(gate_over(access, clock=clock)) for _ in range(gateways)]
        passed = 0
        async with asyncio.timeout(HANG_SECONDS):
            # A gateway may hold some that another asks for; whoever comes back gets them.
            for number in range(400):
                passed += await ask(gates[number % gateways]) is None
                if number % 40 == 39:
                    # Longer than a gateway that was given nothing leaves access alone.
                    clock.advance(0.12)
                    await asyncio.sleep(0.03)
        held = sum(meter.held for gate in gates for meter in gate.accounts.of("ada").meters.values())
        assert passed + held == 40
        assert held < gateways * 2


async def test_what_is_used_is_settled_and_headers_say_what_is_left():
    access = Access(Terms((Limit("", Unit.TOKENS, 1000), Limit("", Unit.REQUESTS, 100))))
    async with gate_over(access) as gate:
        HEADERS.clear()
        assert await ask(gate, uses=Usage(30, 40)) is None
        assert HEADERS[-1]["x-ratelimit-limit-tokens"] == "1000"
        assert HEADERS[-1]["x-ratelimit-remaining-tokens"] == "980"
        assert HEADERS[-1]["x-ratelimit-remaining-requests"] == "99"
        assert HEADERS[-1]["x-ratelimit-reset-requests"] == "0.6s"
        assert await ask(gate) is None
        assert HEADERS[-1]["x-ratelimit-remaining-tokens"] == "910"


async def test_a_limit_of_a_project_holds_all_its_keys_and_no_other():
    async with gate_over(Access(Terms((Limit("project:p", Unit.REQUESTS, 1),)))) as gate:
        assert await ask(gate, caller=asking(principal="k1", project="p")) is None
        assert await ask(gate, caller=asking(principal="k2", project="p")) is Reason.RATE_LIMIT_EXCEEDED
        assert await ask(gate, caller=asking(principal="k3", project="q")) is None


async def test_limits_of_a_key_and_of_a_model_hold_those_only():
    limits = (Limit("key:k1", Unit.REQUESTS, 1), Limit("model:small", Unit.REQUESTS, 1))
    async with gate_over(Access(Terms(limits))) as gate:
        assert await ask(gate) is None
        assert await ask(gate) is Reason.RATE_LIMIT_EXCEEDED
        other = asking(principal="k2")
        assert await ask(gate, caller=other) is None
        assert await ask(gate, Demand("small", 1, 1), caller=other) is None
        assert await ask(gate, Demand("small", 1, 1), caller=other) is Reason.RATE_LIMIT_EXCEEDED
        assert await ask(gate, caller=other) is None


@pytest.mark.parametrize("how", ["its caller leaves", "its caller cannot be told"])
async def test_a_request_that_ends_while_it_is_told_what_is_left_keeps_nothing_reserved(how):
    told = asyncio.Event()

    async def stall(_):
        told.set()
        if how == "its caller leaves":
            await asyncio.Event().wait()
        raise ConnectionError

    async def enter(gate: Gate) -> None:
        with serving(asking()):
            async with gate.passing(DEMAND, stall):
                raise AssertionError("it is not inside")

    limits = (Limit("", Unit.PLACES, 1), Limit("", Unit.TOKENS, 1000))
    async with gate_over(Access(Terms(limits)), places=1) as gate:
        entering = asyncio.create_task(enter(gate))
        await told.wait()
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        assert [meter.reserved for meter in gate.accounts.of("ada").meters.values()] == [0, 0]
        assert await ask(gate) is None


async def test_places_come_back_when_their_requests_end():
    async with gate_over(Access(Terms((Limit("", Unit.PLACES, 2),)))) as gate:
        async with AsyncExitStack() as stack:
            stack.enter_context(serving(asking()))
            for _ in range(2):
                await stack.enter_async_context(gate.passing(DEMAND, tell))
            assert await ask(gate) is Reason.RATE_LIMIT_EXCEEDED
        assert await ask(gate) is None


async def test_a_spent_budget_says_so_and_counts_money_where_there_are_prices():
    terms = Terms((Limit("", Unit.MONTH_MICROS, 50),), (Price("m", 1_000_000, 1_000_000),))
    async with gate_over(Access(terms)) as gate:
        for _ in range(2):
            assert await ask(gate, uses=Usage(10, 15)) is None
        assert await ask(gate) is Reason.INSUFFICIENT_QUOTA
        assert await ask(gate, Demand("free", 10, 10)) is None


async def test_a_refusal_takes_nothing_of_the_other_limits():
    access = Access(Terms((Limit("", Unit.REQUESTS, 50), Limit("", Unit.PLACES, 1))))
    async with gate_over(access) as gate, AsyncExitStack() as stack:
        stack.enter_context(serving(asking()))
        await stack.enter_async_context(gate.passing(DEMAND, tell))
        meter = gate.accounts.of("ada").meters["", Unit.REQUESTS]
        before = meter.held + access.free["", Unit.REQUESTS]
        assert await ask(gate) is Reason.RATE_LIMIT_EXCEEDED
        assert meter.held + access.free["", Unit.REQUESTS] == before


async def test_no_request_waits_for_access_while_what_is_held_suffices():
    access = Access(Terms((Limit("", Unit.REQUESTS, 1_000_000), Limit("", Unit.TOKENS, 10**9))))
    async with gate_over(access) as gate:
        assert await ask(gate) is None
        access.calls = 0
        for _ in range(1000):
            assert await ask(gate) is None
        assert access.calls <= 1


async def test_with_access_away_known_limits_hold_and_strangers_pass():
    access = Access(Terms((Limit("", Unit.REQUESTS, 60), Limit("", Unit.PLACES, 1))))
    async with gate_over(access) as gate:
        assert await ask(gate) is None
        access.reachable = False
        answers = [await ask(gate) for _ in range(100)]
        assert answers.count(None) <= 60
        assert answers[-1] is Reason.RATE_LIMIT_EXCEEDED
        assert await ask(gate, caller=asking("stranger")) is None


async def test_who_waits_for_access_while_it_turns_out_to_be_away_is_held_by_the_known_limits():
    async with gate_over(access := Access(Terms((Limit("", Unit.PLACES, 5),)))) as gate, AsyncExitStack() as stack:
        assert await ask(gate) is None
        access.reachable = False
        stack.enter_context(serving(asking()))
        for _ in range(5):
            await stack.enter_async_context(gate.passing(DEMAND, tell))
        assert await ask(gate) is Reason.RATE_LIMIT_EXCEEDED


async def test_a_tenant_that_was_away_is_judged_by_the_policy_that_it_has_now():
    access, clock = Access(Terms()), loop_clock()
    first, second = ContentPolicy("judge:1", 1.0), ContentPolicy("judge:2", 1.0)
    async with gate_over(access, clock=clock) as gate:

        async def judged_by() -> ContentPolicy | None:
            with serving(asking()):
                async with gate.passing(DEMAND, tell):
                    force = in_force.now()
            assert in_force.now() is None
            return None if force is None else force.policy

        assert await judged_by() is None
        access.terms = Terms(policy=first)
        assert await judged_by() is None
        clock.advance(11)
        assert await judged_by() == first
        access.terms, access.reachable = Terms(policy=second), False
        clock.advance(3600)
        # With access away the one that is known counts, however long nobody asked.
        gate.accounts.stir()
        await asyncio.sleep(0.1)
        assert await judged_by() == first
        access.reachable = True
        clock.advance(3600)
        assert await judged_by() == second


def test_a_tenant_alone_gets_nearly_all_places_and_leaves_room_for_others():
    shares = FairShare(90)
    assert filled(shares, {"a": 1}) == {"a": 80}
    assert filled(shares, {"a": 1, "quiet": 1})["quiet"] > 0


def test_places_under_overload_go_by_weight():
    shares, weights, draw = FairShare(900), {"a": 1, "b": 3}, random.Random(7)
    held = filled(shares, weights)
    for _ in range(20_000):
        # One of all that run ends, and both ask for more than there is.
        ended = draw.choices(list(held), list(held.values()))[0]
        shares.leave(ended)
        held[ended] -= 1
        for tenant, more in filled(shares, weights).items():
            held[tenant] += more
        assert sum(held.values()) <= 900
    assert held["b"] / held["a"] == pytest.approx(3, rel=0.05)


def test_what_nobody_waits_for_grows_where_nobody_asks_and_is_the_first_to_be_refused():
    shares = FairShare(100)
    batches = background(shares, "a")
    assert batches == 20
    # Those who wait get what they would have had, in the same tenant too, and batches end as they are.
    assert sum(filled(shares, {"a": 1, "b": 1, "d": 1}).values()) > 70
    assert background(shares, "c") == 0
    for _ in range(batches):
        shares.leave("a", background=True)
    assert background(shares, "c") > 0


def background(shares: FairShare, tenant: str) -> int:
    """How many places a batch gets."""
    for held in range(1000):
        try:
            shares.enter(tenant, 1, background=True)
        except Failure:
            return held
    raise AssertionError("there was no end of places")


async def test_what_a_service_does_for_somebody_later_has_the_share_of_what_nobody_waits_for():
    access = Access(Terms(()))
    async with gate_over(access, places=3) as gate:
        # Of three places none is for a batch, and all are for who waits.
        assert await ask(gate, caller=replace(asking(), actor="services/files")) is Reason.OVERLOADED
        assert await ask(gate) is None


def filled(shares: FairShare, weights: dict[str, int]) -> dict[str, int]:
    """How many places each gets that asks for one in turn, until all are refused."""
    held = dict.fromkeys(weights, 0)
    refused: set[str] = set()
    while refused < set(weights):
        for tenant, weight in weights.items():
            try:
                shares.enter(tenant, weight)
            except Failure:
                refused.add(tenant)
            else:
                held[tenant] += 1
    return held


def test_only_rates_fill_by_themselves():
    for unit in Unit:
        meter = Meter(Limit("", unit, 60))
        meter.alone(0.0)
        assert meter.has(1, 1.5) == (unit in RATES or unit is Unit.PLACES)
