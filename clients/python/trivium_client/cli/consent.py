"""Whoever has much destroyed at once is asked first; where nobody can be asked, they say so beforehand.

Invariant: what goes for good beyond what was named one by one goes only after a yes, typed at a terminal or `--yes`.
"""

import sys
from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]


def require_consent(question: str, option: str, *, yes: bool) -> None:
    """Ask, unless it was said before.  Raises typer.Abort for a no, typer.BadParameter as `require_somebody`."""
    require_somebody(option, yes=yes)
    if not yes:
        typer.confirm(question, abort=True, err=True)


def require_somebody(option: str, *, yes: bool) -> None:
    """Raises typer.BadParameter where a yes is wanted, for `option`, and nobody is there to give it."""
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here; say --yes as well", param_hint=option)
