"""Pages of collections and documents between protobuf and the domain."""

from collections.abc import Iterable
from typing import Protocol

from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis import paging
from services.retriever.listing import Asked, Order, Page

_ORDERS = {
    pb.LIST_ORDER_UNSPECIFIED: Order.ID,
    pb.LIST_ORDER_OLDEST_FIRST: Order.OLDEST_FIRST,
    pb.LIST_ORDER_NEWEST_FIRST: Order.NEWEST_FIRST,
}


class Listing(Protocol):
    """What every request for a page has."""

    @property
    def page_size(self) -> int:
        """Most entries."""

    @property
    def page_token(self) -> str:
        """Where an earlier page ended."""

    @property
    def order(self) -> "pb.ListOrder.ValueType":
        """By what the list is sorted."""

    @property
    def after(self) -> str:
        """Id of an entry."""

    @property
    def before(self) -> str:
        """Id of an entry."""


def asked(request: Listing, *filters: str, of_a_batch: bool = False) -> Asked:
    """Which page is wanted.  Raises PAGE_TOKEN_INVALID."""
    order = _ORDERS[request.order]
    shape = str if order is Order.ID and not of_a_batch else int
    (position,) = paging.decode(request.page_token, [shape], *_binding(request, filters)) or (None,)
    return Asked(paging.size_of(request.page_size), order, request.after, request.before, position)


def token(request: Listing, page: "Page[object]", *filters: str) -> str:
    """The token of the next page; empty on the last."""
    return "" if page.next is None else paging.encode([page.next], *_binding(request, filters))


def holding(request: pb.ListCollectionsRequest) -> list[str]:
    """What a page token of collections is bound to: the document that they hold, where one is named."""
    return [request.document] if request.document else []


def _binding(request: Listing, filters: Iterable[str]) -> list[str]:
    # Of a plain list nothing is bound that was not before there were orders: tokens outlive an upgrade.
    stated = [str(request.order), request.after, request.before] if request.order or request.before else []
    return [*filters, *stated]
