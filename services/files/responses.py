"""Stored responses: opaque payloads by id, each with the one that it goes on from.

Invariants: a response never changes once it is stored; a conversation is read whole or not at all, for what is
missing from it would change what the next answer means.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.files.store import InputItemRow, ResponseRow, hold

KIND = "responses"
KEPT_SECONDS = 30 * 24 * 3600.0
LONGEST_CONVERSATION = 1000


@dataclass(frozen=True, slots=True)
class InputItem:
    """One input item; ``payload`` is its writer's."""

    item: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response; ``payload`` is its writer's.  Times are Unix seconds."""

    response: str
    previous: str
    model: str
    payload: bytes
    created_at: float = 0.0
    # None before it is stored takes :data:`KEPT_SECONDS` from then.
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A response with its input items, in their order."""

    response: Response
    items: tuple[InputItem, ...]


class Responses:
    """The verbs of responses, each for one tenant."""

    def __init__(self, database: Database, max_bytes: int, now: Callable[[], float]) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._now = now

    async def put(self, tenant: str, turn: Turn) -> Response:
        """Store a response; a repeat changes nothing.

        Raises FIELD_INVALID, RESPONSE_EXISTS, RESPONSE_NOT_FOUND for the previous one, RESPONSES_EXHAUSTED.
        """
        names = [item.item for item in turn.items]
        if len(set(names)) != len(names):
            raise Failure(Reason.FIELD_INVALID, field="input_items", problem="two of them have the same id")
        expires_at = turn.response.expires_at
        if expires_at is not None and expires_at <= self._now():
            raise Failure(Reason.FIELD_INVALID, field="response.expire_time", problem="is over already")
        return await self._database.write(lambda session: self._put(session, tenant, turn))

    def _put(self, session: Session, tenant: str, turn: Turn) -> Response:
        response, fingerprint = turn.response, _fingerprint(turn)
        row = session.get(ResponseRow, (tenant, response.response))
        if row is not None and row.expires_at > self._now():
            if row.fingerprint != fingerprint:
                raise Failure(Reason.RESPONSE_EXISTS, field="response.response", name=response.response)
            return _shown(row)
        if row is not None:
            drop(session, row)
            session.flush()
        if response.previous:
            self._row(session, tenant, response.previous)
        size_bytes = len(response.payload) + sum(len(item.payload) for item in turn.items)
        held = hold(session, tenant, KIND, 1, size_bytes)
        if held.size_bytes > self._max_bytes:
            held_bytes = held.size_bytes - size_bytes
            raise Failure(
                Reason.RESPONSES_EXHAUSTED, held_bytes=held_bytes, size_bytes=size_bytes, limit_bytes=self._max_bytes
            )
        now = self._now()
        row = ResponseRow(
            tenant=tenant,
            response=response.response,
            previous=response.previous,
            model=response.model,
            payload=response.payload,
            fingerprint=fingerprint,
            size_bytes=size_bytes,
            created_at=now,
            expires_at=now + KEPT_SECONDS if response.expires_at is None else response.expires_at,
        )
        session.add(row)
        session.flush()
        for position, item in enumerate(turn.items):
            session.add(
                InputItemRow(
                    tenant=tenant,
                    response=response.response,
                    position=position,
                    item=item.item,
                    payload=item.payload,
                )
            )
        return _shown(row)

    async def get(self, tenant: str, response: str) -> Response:
        """One response.  Raises RESPONSE_NOT_FOUND."""
        return await self._database.read(lambda session: _shown(self._row(session, tenant, response)))

    async def conversation(self, tenant: str, response: str) -> list[str]:
        """The ids of a response and of all that it goes on from, oldest first.

        Raises RESPONSE_NOT_FOUND for the first that is missing, CONVERSATION_TOO_LONG.
        """

        def query(session: Session) -> list[str]:
            found: list[str] = []
            wanted = response
            while wanted:
                if len(found) == LONGEST_CONVERSATION:
                    raise Failure(Reason.CONVERSATION_TOO_LONG, name=response, limit=LONGEST_CONVERSATION)
                found.append(wanted)
                wanted = self._row(session, tenant, wanted).previous
            return found[::-1]

        return await self._database.read(query)

    async def turn(self, tenant: str, response: str) -> Turn:
        """One response with its input items.  Raises RESPONSE_NOT_FOUND."""

        def query(session: Session) -> Turn:
            found = _shown(self._row(session, tenant, response))
            return Turn(found, tuple(_items(session, tenant, response)))

        return await self._database.read(query)

    async def items(self, tenant: str, response: str) -> list[InputItem]:
        """The input items of one response, in their order.  Raises RESPONSE_NOT_FOUND."""
        return list((await self.turn(tenant, response)).items)

    async def delete(self, tenant: str, response: str) -> None:
        """Remove a response.  Raises RESPONSE_NOT_FOUND."""
        await self._database.write(lambda session: drop(session, self._row(session, tenant, response)))

    def _row(self, session: Session, tenant: str, response: str) -> ResponseRow:
        row = session.get(ResponseRow, (tenant, response))
        if row is None or row.expires_at <= self._now():
            raise Failure(Reason.RESPONSE_NOT_FOUND, name=response)
        return row


def drop(session: Session, row: ResponseRow) -> None:
    """Remove a response and its items, and take it from what its tenant keeps."""
    hold(session, row.tenant, KIND, -1, -row.size_bytes)
    own = (InputItemRow.tenant == row.tenant) & (InputItemRow.response == row.response)
    session.execute(delete(InputItemRow).where(own))
    session.delete(row)


def _items(session: Session, tenant: str, response: str) -> list[InputItem]:
    rows = select(InputItemRow).where(InputItemRow.tenant == tenant, InputItemRow.response == response)
    return [InputItem(row.item, row.payload) for row in session.scalars(rows.order_by(InputItemRow.position))]


def _fingerprint(turn: Turn) -> bytes:
    response, digest = turn.response, hashlib.sha256()
    parts = [response.previous.encode(), response.model.encode(), response.payload, repr(response.expires_at).encode()]
    for part in parts + [part for item in turn.items for part in (item.item.encode(), item.payload)]:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _shown(row: ResponseRow) -> Response:
    return Response(row.response, row.previous, row.model, row.payload, row.created_at, row.expires_at)
