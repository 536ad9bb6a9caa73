"""From axes to members: the whole grid, or points drawn from it.

Invariant: the members depend on the axes, the number wanted and the seed alone, and no two of them are the same.
"""

import itertools
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.trainer.sweeping.searchable import Kind, Searchable, invalid, searchable

MAX_MEMBERS = 1024
# Draws for one member that nobody drew before, of ranges; after as many there are hardly any left.
_DRAWS = 1000
# Digits of what is drawn from a range: enough to tell rates apart, and short enough to be read and written again.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Range:
    """An interval to draw from, both ends included; logarithmic: evenly in the logarithm."""

    low: float
    high: float
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting with the values to try, as texts, or the range to draw them from."""

    setting: str
    values: tuple[str, ...] = ()
    range: Range | None = None


# What a member differs in: the names of settings as a request writes them, and their values as text.
Point = tuple[tuple[str, str], ...]


def expand(axes: Sequence[Axis], random_members: int, seed: int) -> list[Point]:
    """Return the members' points: the grid in the axes' order, the last axis fastest, or `random_members` of them.

    Raises FIELD_INVALID: an axis that is no setting or whose values do not parse, a range in a grid, too many members,
    more random members than there are different ones.
    """
    if not axes:
        raise invalid("axes", "give at least one setting with values to try, or write the members out")
    checked = [_checked(axis, f"axes[{index}]") for index, axis in enumerate(axes)]
    if repeated := _first_repeated([axis.setting for axis in axes]):
        raise invalid("axes", f"{repeated} stands in two axes; give it all its values in one")
    if random_members > MAX_MEMBERS:
        raise invalid("random_members", f"at most {MAX_MEMBERS} members make a sweep, these are {random_members}")
    if not random_members:
        return _grid(axes)
    return _drawn(axes, checked, random_members, random.Random(seed))


def _grid(axes: Sequence[Axis]) -> list[Point]:
    for index, axis in enumerate(axes):
        if axis.range is not None:
            problem = "a range has no grid: give values, or random_members to draw from the range"
            raise invalid(f"axes[{index}].range", problem)
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_MEMBERS:
        problem = (
            f"the grid has {count} members, at most {MAX_MEMBERS} make a sweep: give fewer values, or draw some of them "
            "with random_members"
        )
        raise invalid("axes", problem)
    columns = [[(axis.setting, value.strip()) for value in axis.values] for axis in axes]
    return [tuple(point) for point in itertools.product(*columns)]


def _drawn(axes: Sequence[Axis], kinds: Sequence[Searchable], count: int, chance: random.Random) -> list[Point]:
    sizes = [_size(axis, kind) for axis, kind in zip(axes, kinds, strict=True)]
    different = math.prod(sizes)
    if different < count:
        problem = (
            f"the axes have {different:.0f} different members, {count} are asked for: ask for fewer, or widen an axis"
        )
        raise invalid("random_members", problem)
    if all(axis.range is None for axis in axes):
        return [_at(axes, place) for place in _places(int(different), count, chance)]
    points: dict[Point, None] = {}
    for point in itertools.islice(_points(axes, kinds, chance), count * _DRAWS):
        points[point] = None
        if len(points) == count:
            return list(points)
    problem = f"{count} members that differ could not be drawn from these ranges: ask for fewer, or widen an axis"
    raise invalid("random_members", problem)


def _places(different: int, count: int, chance: random.Random) -> list[int]:
    """So many places of a grid that differ."""
    if different <= sys.maxsize:
        return chance.sample(range(different), count)
    # `range` does not count so far.  Hardly any place of so many is drawn twice.
    places: dict[int, None] = {}
    while len(places) < count:
        places[chance.randrange(different)] = None
    return list(places)


def _points(axes: Sequence[Axis], kinds: Sequence[Searchable], chance: random.Random) -> Iterator[Point]:
    while True:
        yield tuple((axis.setting, _draw(axis, kind, chance)) for axis, kind in zip(axes, kinds, strict=True))


def _draw(axis: Axis, kind: Searchable, chance: random.Random) -> str:
    if axis.range is None:
        return chance.choice(axis.values).strip()
    low, high = axis.range.low, axis.range.high
    share = chance.random()
    value = low * (high / low) ** share if axis.range.logarithmic else low + (high - low) * share
    if kind.kind is Kind.INTEGER:
        return str(min(math.floor(high), max(math.ceil(low), round(value))))
    # Rounding must not leave the range.
    return f"{min(high, max(low, float(f'{value:.{_DIGITS}g}'))):g}"


def _at(axes: Sequence[Axis], place: int) -> Point:
    """The point at a place of the grid."""
    point: list[tuple[str, str]] = []
    for axis in reversed(axes):
        place, index = divmod(place, len(axis.values))
        point.append((axis.setting, axis.values[index].strip()))
    return tuple(reversed(point))


def _size(axis: Axis, kind: Searchable) -> float:
    """How many different values an axis has; a range of numbers has no end of them."""
    if axis.range is None:
        return len(axis.values)
    if kind.kind is Kind.INTEGER:
        return math.floor(axis.range.high) - math.ceil(axis.range.low) + 1
    return math.inf if axis.range.high > axis.range.low else 1


def _checked(axis: Axis, where: str) -> Searchable:
    try:
        found = searchable(axis.setting)
    except ValueError as error:
        raise invalid(f"{where}.setting", str(error)) from None
    if bool(axis.values) == (axis.range is not None):
        raise invalid(where, f"give {axis.setting} either values or a range")
    if axis.range is not None:
        _check_range(axis.range, found, f"{where}.range")
    try:
        values = [found.parse(value) for value in axis.values]
    except ValueError as error:
        raise invalid(f"{where}.values", str(error)) from None
    if repeated := _first_repeated([repr(value) for value in values]):
        raise invalid(f"{where}.values", f"{axis.setting} has the value {repeated} twice; drop one")
    return found


def _check_range(given: Range, found: Searchable, where: str) -> None:
    if found.kind not in (Kind.INTEGER, Kind.NUMBER):
        raise invalid(where, f"{found.name} takes {found.kind.value}: give values instead of a range")
    if not (math.isfinite(given.low) and math.isfinite(given.high) and given.low <= given.high):
        raise invalid(where, f"low must not be above high, these are {given.low:g} and {given.high:g}")
    if given.logarithmic and given.low <= 0:
        raise invalid(where, f"a logarithmic range begins above 0, this one at {given.low:g}")
    if found.kind is Kind.INTEGER and math.ceil(given.low) > math.floor(given.high):
        raise invalid(
            where, f"{found.name} takes {found.kind.value}, and none lies from {given.low:g} to {given.high:g}"
        )


def _first_repeated(values: Sequence[str]) -> str | None:
    return next((value for index, value in enumerate(values) if value in values[:index]), None)
