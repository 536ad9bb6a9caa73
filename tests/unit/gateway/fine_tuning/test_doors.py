"""What the door lets through of a query: the names that the route's row describes, and keys of the caller's where it has some."""

from typing import Any

import pytest

from gateway.http.app import is_bodiless, known_parameters
from gateway.http.fine_tuning import ROUTES
from gateway.http.transport import Asked, Door
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.dispatch import Dispatcher


class Passing:
    """An exchange that is glad of anything."""

    def parse(self, asked: Asked) -> str:
        return "passed"

    def answer(self, message: Any, context: Any) -> Any:
        raise AssertionError("nothing is answered here")


def parsed(name: str) -> object:
    (route,) = [found for found in ROUTES if (found.verb, found.path) == ("GET", "/v1/fine_tuning/jobs")]
    exchange: Any = Passing()
    door = Door(
        route.path, lambda _: exchange, Dispatcher(()), query=known_parameters(route), bodiless=is_bodiless(route)
    )
    return door.parsed(exchange, Asked(query={name: "x"}))


@pytest.mark.parametrize("name", ["after", "limit", "metadata", "metadata[team]", "metadata[a b.c]"])
def test_a_described_parameter_passes_and_under_any_key_where_there_are_keys(name: str) -> None:
    assert parsed(name) == "passed"


@pytest.mark.parametrize("name", ["order", "limit[x]", "metadata[]", "metadata[a][b]", "entry"])
def test_what_is_not_described_is_refused_by_name(name: str) -> None:
    with pytest.raises(Failure) as refused:
        parsed(name)
    assert (refused.value.reason, refused.value.field) == (Reason.PARAMETER_UNSUPPORTED, name)
