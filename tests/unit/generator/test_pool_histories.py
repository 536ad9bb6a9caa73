"""Whatever requests do in whatever order, the pool's budget holds and nobody's engine goes away under them."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.errors import Failure
from tests.unit.generator.engines import settled
from tests.unit.generator.pools import GIB, world

STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcd"), st.sampled_from("xyz"), st.sampled_from(["use", "end", "cancel", "die", "wait"])
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_the_budget_holds_and_no_engine_in_use_is_stopped(steps):
    asyncio.run(through(steps))


async def through(steps):
    async with world(cold=2, turn_seconds=5.0, patience_seconds=20.0, idle_seconds=30.0) as w:
        for name in "abcd":
            w.host(name)
        open_uses = []
        for name, tenant, step in steps:
            if step == "use":
                open_uses.append(w.use(name, tenant))
            elif step == "wait":
                await w.later(7)
            elif step == "die" and w.hosts[name].ready:
                w.hosts[name].engine.dead.set()
            elif step in ("end", "cancel") and open_uses:
                use = open_uses.pop(0)
                use.task.cancel() if step == "cancel" else use.may_end.set()
                await settled()
            await settled()
            assert w.occupied <= 3 * GIB
            assert w.hosts["base"].ready
        # All that are told to end do end: answered, or refused because everything was in use.
        for use in open_uses:
            use.may_end.set()
        for _ in range(20):
            await w.later(7)
        results = await asyncio.gather(*(use.task for use in open_uses), return_exceptions=True)
        assert all(result is None or isinstance(result, Failure) for result in results), results
        for _ in range(10):
            await w.later(7)
        assert w.occupied == GIB, "nobody uses them, so nothing but the default runs"
