"""The queue is fair in tokens: the bound of arXiv 2401.00588 over random loads, and what it means for a few."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.admission import NEW_TOKEN_WEIGHT, FairQueue, Ticket, Urgency
from services.generator.forecast import Wanted
from tests.unit.generator.engines import stored


def ticket(
    tenant: str, prompt_tokens: int = 1, version: str = "", urgency: Urgency = Urgency.NOW, weight: int = 1
) -> Ticket:
    place = asyncio.get_running_loop().create_future()
    adapter = stored(version, tenant) if version else None
    return Ticket(tenant, adapter, Wanted(prompt_tokens, weight=weight), 0.0, place, urgency=urgency)


@dataclass
class Server:
    """A machine that runs ``places`` requests and gives each a token a step."""

    places: int
    queue: FairQueue = field(default_factory=lambda: FairQueue(10_000))
    running: list[tuple[Ticket, int]] = field(default_factory=list)
    # Weighted tokens by tenant, and by tenant and version.
    served: Counter[str] = field(default_factory=Counter)
    lanes: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: dict[Ticket, int] = field(default_factory=dict)

    def ask(self, asked: Ticket, new_tokens: int) -> None:
        self.queue.push(asked)
        self.answers[asked] = new_tokens

    def step(self) -> None:
        while len(self.running) < self.places and len(self.queue):
            asked = next(self.queue.heads())
            self.queue.serve(asked)
            self._count(asked, asked.wanted.prompt_tokens)
            self.running.append((asked, self.answers.pop(asked)))
        for asked, _ in self.running:
            self.queue.charge(asked.tenant, asked.version, NEW_TOKEN_WEIGHT, asked.wanted.weight)
            self._count(asked, NEW_TOKEN_WEIGHT)
        self.running = [(asked, left - 1) for asked, left in self.running if left > 1]

    def _count(self, asked: Ticket, weighted_tokens: int) -> None:
        self.served[asked.tenant] += weighted_tokens
        self.lanes[asked.tenant, asked.version] += weighted_tokens


@pytest.mark.sampled(every=5)
@pytest.mark.parametrize("seed", range(20))
async def test_of_two_that_wait_without_a_pause_neither_is_served_more_than_the_bound(seed: int) -> None:
    draw = random.Random(seed)
    server, longest_prompt, longest_answer = Server(places=draw.randint(1, 8)), 64, 40
    bound = 2 * max(longest_prompt, NEW_TOKEN_WEIGHT * longest_answer * server.places)
    # Each tenant has its own habits; whoever else comes and goes must not matter to those who always wait.
    habits = {name: (draw.randint(1, longest_prompt), draw.randint(1, longest_answer)) for name in "abc"}
    for _ in range(3000):
        for name, (prompt, answer) in habits.items():
            while len(server.queue.waiting_for(name)) <= server.places:
                server.ask(ticket(name, draw.randint(1, prompt), version=name), draw.randint(1, answer))
        if draw.random() < 0.1:
            guest = f"guest-{draw.randint(0, 3)}"
            server.ask(ticket(guest, draw.randint(1, longest_prompt)), draw.randint(1, longest_answer))
        server.step()
        always = [server.served[name] for name in habits]
        assert max(always) - min(always) <= bound


@pytest.mark.sampled(every=5)
@pytest.mark.parametrize("seed", range(20))
async def test_of_two_that_wait_without_a_pause_each_is_served_for_its_weight_to_the_bound(seed: int) -> None:
    draw = random.Random(seed)
    server, longest_prompt, longest_answer = Server(places=draw.randint(1, 8)), 64, 40
    # One whose part of a token is no whole number, one that is the most that a quota takes, and whatever comes.
    weights = {"a": draw.randint(1, 5), "b": 7 * draw.randint(1, 20) + 3, "c": draw.choice([2, 999, 1000])}
    charged = max(longest_prompt, NEW_TOKEN_WEIGHT * longest_answer * server.places)
    bound = 2 * charged / min(weights.values())
    for _ in range(3000):
        for name, weight in weights.items():
            while len(server.queue.waiting_for(name)) <= server.places:
                asked = ticket(name, draw.randint(1, longest_prompt), version=name, weight=weight)
                server.ask(asked, draw.randint(1, longest_answer))
        server.step()
        always = [server.served[name] / weight for name, weight in weights.items()]
        assert max(always) - min(always) <= bound


@pytest.mark.parametrize("places", [1, 32])
async def test_two_that_wait_without_a_pause_share_the_tokens_by_their_weights(places: int) -> None:
    server, draw = Server(places=places), random.Random(places)
    for _ in range(8000):
        for name, weight in {"light": 1, "heavy": 3}.items():
            # Each with habits of its own: it is tokens that are shared, not requests.
            while len(server.queue.waiting_for(name)) <= places:
                longest = 60 if name == "heavy" else 15
                server.ask(ticket(name, draw.randint(1, 64), version=name, weight=weight), draw.randint(1, longest))
        server.step()
    assert server.served["heavy"] / server.served["light"] == pytest.approx(3, rel=0.02)


async def test_a_weight_that_changes_counts_from_then_on_and_makes_good_nothing() -> None:
    server = Server(places=1)
    for weight in (1, 3):
        before = Counter(server.served)
        for _ in range(1200):
            for name, its in {"same": 1, "other": weight}.items():
                while len(server.queue.waiting_for(name)) <= 1:
                    server.ask(ticket(name, version=name, weight=its), 4)
            server.step()
        gained = server.served - before
        assert gained["other"] / gained["same"] == pytest.approx(weight, rel=0.05)


async def test_who_was_away_has_saved_nothing_up_whatever_its_weight() -> None:
    server = Server(places=1)
    for _ in range(600):
        server.ask(ticket("busy", weight=1), 4)
    for _ in range(500):
        server.step()
    before = server.served["busy"]
    for _ in range(600):
        server.ask(ticket("late", weight=3), 4)
    for _ in range(400):
        server.step()
    assert server.served["late"] == pytest.approx(3 * (server.served["busy"] - before), rel=0.1)


async def test_how_many_go_ahead_of_a_newcomer_is_told_by_the_weights() -> None:
    queue = FairQueue(1000)
    for _ in range(20):
        queue.push(ticket("busy", weight=3))
    for tenant, weight in (("light", 1), ("equal", 3), ("heavy", 9)):
        told, newcomer = queue.ahead_of(tenant, weight), ticket(tenant, weight=weight)
        queue.push(newcomer)
        assert told == {"light": 3, "equal": 1, "heavy": 1}[tenant]
        queue.discard(newcomer)


async def test_no_weight_lets_what_nobody_waits_for_go_before_what_somebody_waits_for() -> None:
    queue = FairQueue(1000)
    for _ in range(5):
        queue.push(ticket("batches", urgency=Urgency.BACKGROUND, weight=1000))
        queue.push(ticket("light"))
    served = []
    while len(queue):
        head = next(queue.heads())
        queue.serve(head)
        served.append(head.tenant)
    assert served == ["light"] * 5 + ["batches"] * 5


async def test_a_tenant_of_long_answers_gets_as_many_tokens_and_not_as_many_requests() -> None:
    server = Server(places=2)
    for _ in range(400):
        server.ask(ticket("long"), 40)
        server.ask(ticket("short"), 4)
    for _ in range(800):
        server.step()
    assert server.served["short"] == pytest.approx(server.served["long"], rel=0.1)


async def test_who_was_away_has_saved_nothing_up() -> None:
    server = Server(places=1)
    for _ in range(300):
        server.ask(ticket("busy"), 4)
    for _ in range(500):
        server.step()
    before = server.served["busy"]
    for _ in range(100):
        server.ask(ticket("late"), 4)
    for _ in range(200):
        server.step()
    assert server.served["late"] == pytest.approx(server.served["busy"] - before, rel=0.2)


async def test_the_versions_of_a_tenant_share_its_part_and_not_the_others() -> None:
    server = Server(places=1)
    for _ in range(300):
        server.ask(ticket("one", version="x"), 4)
        for version in "abcd":
            server.ask(ticket("many", version=version), 4)
    for _ in range(1000):
        server.step()
    assert server.served["one"] == pytest.approx(server.served["many"], rel=0.05)
    shares = [server.lanes["many", version] for version in "abcd"]
    assert max(shares) - min(shares) <= 4 * NEW_TOKEN_WEIGHT * 2


async def test_what_is_counted_of_strangers_is_bounded() -> None:
    queue = FairQueue(10)
    for number in range(20_000):
        asked = ticket(f"t{number}")
        queue.push(asked)
        queue.serve(asked)
    assert len(queue._tenants._served) <= 5000
    assert len(queue._versions) <= 5000


async def test_a_full_queue_takes_nobody() -> None:
    queue = FairQueue(1)
    queue.push(ticket("a"))
    with pytest.raises(Failure) as refused:
        queue.push(ticket("b"))
    assert refused.value.reason is Reason.OVERLOADED
    assert [asked.tenant for asked in queue.heads()] == ["a"]


@pytest.mark.parametrize("seed", range(10))
async def test_what_nobody_waits_for_goes_last_whoever_was_served_how_much(seed: int) -> None:
    draw = random.Random(seed)
    queue = FairQueue(1000)
    for _ in range(60):
        urgency = draw.choice(list(Urgency))
        queue.push(ticket(draw.choice("abc"), draw.randint(1, 50), draw.choice(["", "v", "w"]), urgency))
    served = []
    while len(queue):
        head = next(queue.heads())
        queue.serve(head)
        served.append(head.urgency)
    assert served == sorted(served)


async def test_a_full_queue_lets_go_first_of_what_nobody_waits_for() -> None:
    queue = FairQueue(3)
    mine, theirs = ticket("a"), ticket("b", urgency=Urgency.BACKGROUND)
    for asked in (mine, theirs, ticket("a", urgency=Urgency.BACKGROUND)):
        queue.push(asked)
    with pytest.raises(Failure) as refused:
        queue.push(ticket("c", urgency=Urgency.BACKGROUND))
    assert refused.value.reason is Reason.OVERLOADED
    shed = {queue.push(ticket("a")), queue.push(ticket("a"))}
    assert {asked.tenant for asked in shed if asked is not None} == {"a", "b"}
    with pytest.raises(Failure):
        queue.push(ticket("a"))
    assert {asked.urgency for asked in queue.all()} == {Urgency.NOW}
    assert mine in queue.all()
