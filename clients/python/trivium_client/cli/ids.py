"""Ids of jobs, sweeps and sources, which people may say in part."""

import re
from collections.abc import Callable, Mapping, Sequence

import typer

from trivium_client import NotFoundError, Trivium

_WHOLE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Fewer would name the only job of a new tenant by a slip of the finger.
_LEAST_CHARACTERS = 4


def job_id(client: Trivium, given: str) -> str:
    """The id of the job that is meant.  Raises as `_meant`."""
    return _meant("job", given, lambda part: {job.job: job.model for job in client.jobs.like(part)})


def sweep_id(client: Trivium, given: str) -> str:
    """The id of the sweep that is meant.  Raises as `_meant`."""
    return _meant("sweep", given, lambda part: {sweep.sweep: sweep.state for sweep in client.sweeps.like(part)})


def source_id(client: Trivium, given: str, collection: str) -> str:
    """The id of the collection's source that is meant, by its URI or by a part of its id.  Raises as `_meant`."""

    def like(part: str) -> Mapping[str, str]:
        found = {source.source: source.uri for source in client.sources.list(collection)}
        by_uri = {source: uri for source, uri in found.items() if uri.rstrip("/") == part.rstrip("/")}
        return by_uri or {
            source: uri for source, uri in found.items() if source.startswith(part) or source.endswith(part)
        }

    return _meant("source", given, like)


def _meant(noun: str, given: str, like: Callable[[str], Mapping[str, str]]) -> str:
    """The id that is meant; what none begins or ends with stays as it is, for the server to refuse by its own name.

    Raises NotFoundError for fewer characters than name one, BadParameter with the candidates where there are several.
    """
    if _WHOLE.fullmatch(given):
        return given
    if len(given) < _LEAST_CHARACTERS:
        least = f"say at least {_LEAST_CHARACTERS} characters of its id"
        raise NotFoundError(f"No {noun} is named by so few characters as {given!r}; {least}")
    found = like(given)
    if len(found) > 1:
        raise typer.BadParameter(
            "\n".join([f"{given} may be any of these; say more of it:", *_lines(found)]), param_hint=noun
        )
    return next(iter(found), given)


def _lines(found: Mapping[str, str]) -> Sequence[str]:
    return [f"  {whole}  {about}" for whole, about in found.items()]
