"""What ghz reports is told in the terms of every source of load: by what became of the requests, in milliseconds."""

import math

from tests.load.gateway.grpc_loading import loaded


def detail(status: str, milliseconds: float) -> dict[str, object]:
    return {"status": status, "latency": round(milliseconds * 1e6), "error": "" if status == "OK" else "rpc error"}


def test_requests_are_served_shed_or_broken_and_each_has_its_own_times():
    details = [
        *(detail("OK", ms) for ms in (10, 20, 30, 400)),
        detail("ResourceExhausted", 2),
        detail("Unavailable", 4),
    ]
    report = {"details": [*details, detail("Internal", 5000)], "total": 2_500_000_000}
    told = loaded(report, count=7, good_ms=30)
    assert (told.begun, told.served, told.good, told.shed, told.broken, told.dropped) == (7, 4, 3, 2, 1, 0)
    assert told.hung == 0
    assert (told.seconds, told.served_ms["med"], told.served_ms["p(99)"]) == (2.5, 20, 400)
    assert (told.shed_ms["min"], told.shed_ms["max"]) == (2, 4)
    # ghz keeps no details of a status: whether RetryInfo came with it is not known, which is not the same as that none did.
    assert told.hinted is None


def test_where_nothing_was_shed_there_is_no_time_of_it():
    told = loaded({"details": [detail("OK", 1)], "total": 1}, count=1, good_ms=1e9)
    assert (told.shed, told.shed_ms) == (0, {})


def test_a_call_of_which_nothing_is_reported_hangs():
    told = loaded({"details": [detail("OK", 1)], "total": 1}, count=3, good_ms=1e9)
    assert (told.begun, told.served, told.hung) == (3, 1, 2)


def test_a_call_that_its_callers_deadline_ended_is_late_and_one_that_nobody_ended_in_time_hangs():
    report = {"details": [detail("DeadlineExceeded", ms) for ms in (499, 502, 60_000)], "total": 1}
    told = loaded(report, count=3, good_ms=500)
    assert (told.late, told.hung) == (2, 1)


def test_where_no_caller_has_a_deadline_what_ghz_gives_up_hangs_and_what_the_door_ends_is_late():
    report = {"details": [detail("DeadlineExceeded", ms) for ms in (30_000, 600_000)], "total": 1}
    told = loaded(report, count=2, good_ms=math.inf)
    assert (told.late, told.hung) == (1, 1)
