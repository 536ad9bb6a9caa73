"""Of the files that a process may have open connections are half at most, and it takes all that it may have."""

import resource

import pytest

from gateway.http.descriptors import for_connections

NO_LIMIT = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "granted", "connections"),
    [
        (1024, 8192, True, 2048),
        (1024, 1024, True, 512),
        (8192, 8192, True, 2048),
        (1024, NO_LIMIT, True, 2048),
        (1024, NO_LIMIT, False, 512),
        (NO_LIMIT, NO_LIMIT, True, 2048),
        (1, 1, True, 1),
    ],
)
def test_connections_are_half_of_the_files_at_most(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, granted: bool, connections: int
) -> None:
    def grant(_: int, limits: tuple[int, int]) -> None:
        assert limits == (hard, hard)
        if not granted:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", grant)
    assert for_connections(2048) == connections
