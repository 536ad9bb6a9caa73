"""The checker takes every history that one copy could have given, and none that it could not."""

import random

import pytest

from tests.linearizability import Call, Kind, Outcome, violations

OK, UNKNOWN, MISMATCH, ABSENT, EXISTS = (
    Outcome.OK, Outcome.UNKNOWN, Outcome.MISMATCH, Outcome.ABSENT, Outcome.EXISTS,
)  # fmt: skip


def create(begin: int, end: int, value: str = "a", etag: str = "1", outcome: Outcome = OK) -> Call:
    return Call("k", Kind.CREATE, outcome, begin, end, value, etag)


def swap(begin: int, end: int, value: str, expected: str, etag: str = "", outcome: Outcome = OK) -> Call:
    return Call("k", Kind.SET, outcome, begin, end, value, etag, expected)


def put(begin: int, end: int, value: str, etag: str = "", outcome: Outcome = OK) -> Call:
    return Call("k", Kind.PUT, outcome, begin, end, value, etag)


def read(begin: int, end: int, value: str = "", etag: str = "", outcome: Outcome = OK) -> Call:
    return Call("k", Kind.READ, outcome, begin, end, value, etag)


SOUND = {
    "one after the other": [create(0, 1), read(2, 3, "a", "1"), swap(4, 5, "b", "1", "2"), read(6, 7, "b", "2")],
    "a read beside a write sees either": [create(0, 1), swap(2, 9, "b", "1", "2"), read(3, 4, "a", "1"), read(5, 6, "b", "2")],
    "of two swaps one is refused": [create(0, 1), swap(2, 9, "b", "1", "2"), swap(2, 9, "c", "1", "2", MISMATCH)],
    "an unknown write that was seen": [create(0, 1), swap(2, 3, "b", "1", outcome=UNKNOWN), read(4, 5, "b", "2")],
    "an unknown write that never happened": [create(0, 1), swap(2, 3, "b", "1", outcome=UNKNOWN), read(4, 5, "a", "1")],
    "an unknown write that came late": [
        create(0, 1), swap(2, 3, "b", "1", outcome=UNKNOWN), read(4, 5, "a", "1"), read(6, 7, "b", "2"),
    ],
    "an unknown creation by which another is refused": [create(0, 1, outcome=UNKNOWN), create(2, 3, "b", outcome=EXISTS)],
    "a refusal that tells the etag of an unknown write": [
        put(0, 1, "a", outcome=UNKNOWN), swap(2, 3, "b", "0", "7", MISMATCH), read(4, 5, "a", "7"),
    ],
    "absent, then made": [read(0, 1, outcome=ABSENT), create(2, 3), read(4, 5, "a", "1")],
}  # fmt: skip

VIOLATED = {
    "a stale read": [create(0, 1), swap(2, 3, "b", "1", "2"), read(4, 5, "a", "1")],
    "a lost update": [create(0, 1), swap(2, 5, "b", "1", "2"), swap(3, 6, "c", "1", "3")],
    "a value that nobody wrote": [create(0, 1), read(2, 3, "z", "1")],
    "an acknowledged write that is gone": [create(0, 1), read(2, 3, outcome=ABSENT)],
    "a creation twice": [create(0, 1, "a", "1"), create(2, 3, "b", "2")],
    "an unknown write that came and went": [
        create(0, 1), swap(2, 3, "b", "1", outcome=UNKNOWN), read(4, 5, "b", "2"), read(6, 7, "a", "1"),
    ],
    "an unknown write before it was made": [create(0, 1), read(2, 3, "b", "2"), swap(4, 5, "b", "1", outcome=UNKNOWN)],
    "two reads that disagree on the order": [
        create(0, 1), put(2, 20, "b", "2"), put(2, 20, "c", "3"),
        read(3, 4, "b", "2"), read(5, 6, "c", "3"), read(7, 8, "b", "2"),
    ],
    "a refusal of the etag that is there": [create(0, 1), swap(2, 3, "b", "1", "1", MISMATCH)],
    "an etag twice": [create(0, 1), swap(2, 3, "b", "1", "1")],
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_what_one_copy_could_have_answered_is_taken(name: str):
    assert not violations(SOUND[name])


@pytest.mark.parametrize("name", VIOLATED)
def test_what_no_copy_could_have_answered_is_found(name: str):
    assert violations(VIOLATED[name])


def simulated(source: random.Random, calls: int) -> list[Call]:
    """What sixteen clients of one honest copy hear: each call takes effect somewhere between its two times."""
    points = sorted(source.randrange(10_000) for _ in range(calls))
    free, history, state, etag = [0] * 16, [], ("", ""), 0
    for point in points:
        client = min(range(16), key=lambda number: free[number])
        begin = max(free[client], point - source.randrange(200))
        end = point + 1 + source.randrange(200)
        if begin > point:
            continue
        free[client] = end + 1
        lost = source.random() < 0.05
        if source.random() < 0.5 and state[1]:
            history.append(read(begin, end, *state))
        elif lost:
            history.append(put(begin, end, f"v{point}", outcome=UNKNOWN))
            if source.random() < 0.5:
                etag += 1
                state = (f"v{point}", str(etag))
        else:
            etag += 1
            state = (f"v{point}", str(etag))
            history.append(put(begin, end, *state))
    return history


def test_histories_of_an_honest_copy_are_taken_and_one_stale_read_in_them_is_found():
    for seed in range(20):
        history = simulated(random.Random(seed), 150)
        assert not violations(history), f"seed {seed}"
        written = [call for call in history if call.kind is Kind.PUT and call.outcome is OK]
        stale = read(30_000, 30_001, written[0].value, written[0].etag)
        assert violations([*history, stale]), f"seed {seed}"
