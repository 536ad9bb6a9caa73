"""One row an HTTP route: which verb on which path is which exchange."""

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from pydantic import BaseModel

from gateway.http.answers import Error
from gateway.http.transport import Exchange
from gateway.servicers import Servicers


@dataclass(frozen=True, slots=True)
class Route:
    """A route.  ``path`` is a template: ``{name}`` is one segment, ``{name:path}`` all that is left.

    ``rpc`` is what it calls, and has its places and its time; where the request says which, ``other_rpcs`` are the others,
    of the same kind and with the same time.  Who may ask is told by the contract of the RPC whose request the exchange
    parses, and by that of ``rpc`` where there is no request before the body has come.

    Of a ``streamed`` one the body is read while it is answered, and has no limit of ours here.  ``media_type`` is that
    of an answer which is no stream of events.

    The rest is what the document says of it: a sentence, the models of its body (a form's where it is ``streamed``), of
    its query, of its answer (None where that is no JSON), and of an event where the answer may be a stream of them;
    ``last_data`` is the data of an event that is none of these and ends them, ``broken`` the event that ends one that fails.
    """

    verb: str
    path: str
    exchange: Callable[[Servicers, str], Exchange]
    rpc: MethodDescriptor
    other_rpcs: tuple[MethodDescriptor, ...] = ()
    streamed: bool = False
    media_type: str = "application/json"
    # They go with every answer that is no refusal.
    headers: tuple[tuple[str, str], ...] = ()
    # Whether limits hold it: then its answers tell what is left of them.
    limited: bool = False
    summary: str = ""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    events: type[BaseModel] | None = None
    last_data: str = ""
    broken: type[BaseModel] = Error
