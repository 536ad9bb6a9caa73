"""How the command ends, for scripts: one number for each thing that a caller can do about it."""

from enum import IntEnum

from trivium_client import errors


class Exit(IntEnum):
    """Exit codes of every `trivium` command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    FORBIDDEN = 5
    UNAVAILABLE = 6
    OVERLOADED = 7
    INTERRUPTED = 130

    @property
    def about(self) -> str:
        """What the code means, in a few words."""
        return _ABOUT[self]


_ABOUT = {
    Exit.OK: "done",
    Exit.FAILURE: "failed, for a reason not below",
    Exit.USAGE: "the command line is wrong",
    Exit.NOT_FOUND: "no document, dataset, job, model, version, alias, gate or key of that name",
    Exit.REFUSED: "the input or the state does not allow it",
    Exit.FORBIDDEN: "no valid key, or a key that may not do this",
    Exit.UNAVAILABLE: "a service cannot be reached or is not ready",
    Exit.OVERLOADED: "over a limit, or out of time; trying later can help",
    Exit.INTERRUPTED: "interrupted from the keyboard",
}

# Shown under every --help.
EPILOG = "Exit codes: " + ", ".join(f"{int(code)} {code.about}" for code in Exit) + "."

_OF_ERROR: tuple[tuple[type[errors.TriviumError], Exit], ...] = (
    (errors.NotFoundError, Exit.NOT_FOUND),
    (errors.InvalidRequestError, Exit.REFUSED),
    (errors.ConflictError, Exit.REFUSED),
    (errors.PreconditionError, Exit.REFUSED),
    (errors.NotYetAvailableError, Exit.REFUSED),
    (errors.AuthenticationError, Exit.FORBIDDEN),
    (errors.PermissionDeniedError, Exit.FORBIDDEN),
    (errors.UnavailableError, Exit.UNAVAILABLE),
    (errors.OverloadedError, Exit.OVERLOADED),
    (errors.RequestTimeoutError, Exit.OVERLOADED),
)


def exit_of(error: errors.TriviumError) -> Exit:
    """The exit code for a failed call."""
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), Exit.FAILURE)
