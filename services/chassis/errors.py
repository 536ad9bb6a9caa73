"""Failures as the domain raises them: a reason of the catalogue and its variables, no transport.

Invariant: a Failure that leaves a service always renders; a variable that its
sentence wants and the raiser forgot shows as ``?`` instead of hiding the failure
behind a KeyError.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from services.chassis.catalogue import Code, Reason

__all__ = ["Code", "Failure", "Reason", "Unstartable", "Violation"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: the path of the field in the request and what is wrong with it."""

    field: str
    description: str


class Unstartable(Exception):
    """A service cannot run as it was set up; the message says what to do, to the person who started it."""


class Failure(Exception):
    """A failure from the catalogue.

    ``field`` names the request field at fault (it becomes a BadRequest violation),
    ``violations`` names several; ``retry_after_seconds`` is a hint that a client
    honours before it retries.  All other keyword arguments are the variables of
    the sentence, and travel as ErrorInfo metadata.
    """

    def __init__(
        self,
        reason: Reason,
        *,
        field: str | None = None,
        retry_after_seconds: float | None = None,
        violations: Iterable[Violation] = (),
        **variables: object,
    ) -> None:
        self.reason = reason
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.violations = tuple(violations)
        self.variables = {name: str(value) for name, value in variables.items()}
        if field is not None:
            self.variables.setdefault("field", field)
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.reason.name}: {self.sentence}"

    @property
    def code(self) -> Code:
        """The status code that the catalogue gives this reason."""
        return self.reason.value.code

    @property
    def sentence(self) -> str:
        """The sentence of the catalogue with its variables filled in."""
        return self.reason.value.sentence.format_map(_Forgiving(self.variables))

    def __reduce__(self) -> tuple[Callable[..., "Failure"], tuple[Any, ...]]:
        """Survive pickling: failures cross from child processes."""
        return _rebuild, (self.reason, self.field, self.retry_after_seconds, self.violations, self.variables)


class _Forgiving(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def _rebuild(
    reason: Reason,
    field: str | None,
    retry_after_seconds: float | None,
    violations: tuple[Violation, ...],
    variables: dict[str, str],
) -> Failure:
    failure = Failure(reason, field=field, retry_after_seconds=retry_after_seconds, violations=violations)
    failure.variables.update(variables)
    return failure
