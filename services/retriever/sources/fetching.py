"""Fetches one document over HTTP, from an address that was judged before it was connected to.

Invariants: a host is looked up once a hop, and the connection goes to the very address that was judged, under the
host's name for TLS and virtual hosts; every redirect is judged like the first URL; nothing is kept beyond the limit of
bytes, counted as they come and again as they are unpacked; proxies and credentials of the environment have no part.
"""

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin

import certifi
import httpx

from services.chassis.errors import Failure, Reason
from services.retriever.documents import media
from services.retriever.sources import addresses
from services.retriever.sources.addresses import Address, Policy, Target
from services.retriever.sources.reading import Fetched, Gone, Remembered, Unchanged

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_LATER = (408, 425, 429, 500, 502, 503, 504)
_PIECE_BYTES = 64 * 1024
# As a server says that it does not know; a name's ending may then say more.
_UNTOLD = ("", "application/octet-stream", "binary/octet-stream", "text/plain")


async def look_up(host: str, port: int) -> Sequence[Address]:
    """The addresses of a host, as the system knows them; none for a name that is not known."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    # An address with a zone is of one link alone, and parses to one that is refused.
    return tuple(dict.fromkeys(ipaddress.ip_address(str(place[0])) for *_, place in found))


def trusted() -> ssl.SSLContext:
    """The authorities of the system and of the certifi package."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most bytes of a document, seconds of a whole fetch, and of one connection."""

    bytes: int
    seconds: float
    connect_seconds: float


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches under a policy.  ``resolve`` names the addresses of a host and a port."""

    policy: Policy
    bounds: Bounds
    resolve: Resolve = look_up
    tls: ssl.SSLContext = field(default_factory=trusted)

    def require(self, uri: str) -> str:
        """The URL as it will be asked for.  Raises SOURCE_NOT_ALLOWED for one that this deployment never reads."""
        wanted = addresses.target(uri)
        self.policy.require(wanted)
        if wanted.address is not None:
            self.policy.require_addresses(wanted, [wanted.address])
        return wanted.uri

    async def fetch(self, uri: str, known: Remembered | None) -> Fetched | Unchanged | Gone:
        """The document behind a URL, unless it is as it was when it was fetched last.

        Raises SOURCE_NOT_ALLOWED, SOURCE_UNREADABLE, and SOURCE_AWAY where trying again can help.
        """
        headers = {"Accept": "*/*", "Accept-Encoding": "gzip", "User-Agent": "Trivium"}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.modified:
            headers["If-Modified-Since"] = known.modified
        try:
            async with asyncio.timeout(self.bounds.seconds):
                return await self._followed(addresses.target(uri), headers)
        except TimeoutError:
            problem = f"it did not come whole within {self.bounds.seconds:g} s"
            raise Failure(Reason.SOURCE_UNREADABLE, uri=uri, problem=problem) from None

    async def _followed(self, wanted: Target, headers: dict[str, str]) -> Fetched | Unchanged | Gone:
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._hop(wanted, headers)
            if not isinstance(answer, Target):
                return answer
            if wanted.scheme == "https" and answer.scheme != "https":
                raise unreadable(wanted.uri, "it redirects from https to http")
            wanted = answer
        raise unreadable(wanted.uri, f"it redirects more than {_MOST_REDIRECTS} times")

    async def _hop(self, wanted: Target, headers: dict[str, str]) -> Fetched | Unchanged | Gone | Target:
        """Ask one URL: its answer, or where it sends us."""
        self.policy.require(wanted)
        literal = wanted.address
        found = [literal] if literal is not None else list(await self.resolve(wanted.host, wanted.port))
        self.policy.require_addresses(wanted, found)
        last: Failure | None = None
        for address in found:
            try:
                return await self._asked(wanted, address, headers)
            except _NotConnected as error:
                last = error.failure
        assert last is not None, "there is an address, or it was refused"
        raise last

    async def _asked(
        self, wanted: Target, address: Address, headers: dict[str, str]
    ) -> Fetched | Unchanged | Gone | Target:
        place = f"[{address}]" if address.version == 6 else str(address)
        # A client for each hop: no cookie or connection of one host is there for the next.
        timeout = httpx.Timeout(self.bounds.seconds, connect=self.bounds.connect_seconds)
        async with httpx.AsyncClient(trust_env=False, verify=self.tls, timeout=timeout) as client:
            request = client.build_request(
                "GET",
                f"{wanted.scheme}://{place}:{wanted.port}{wanted.path}",
                headers={**headers, "Host": wanted.authority},
                extensions={} if wanted.address is not None else {"sni_hostname": wanted.host},
            )
            with _named(wanted.uri):
                response = await client.send(request, stream=True, follow_redirects=False)
                try:
                    return await self._answer(wanted, response)
                finally:
                    await response.aclose()

    async def _answer(self, wanted: Target, response: httpx.Response) -> Fetched | Unchanged | Gone | Target:
        status = response.status_code
        if status == 304:
            return Unchanged()
        if status in (404, 410):
            return Gone(f"it answers {status}")
        if status in _REDIRECTS and "location" in response.headers:
            return addresses.target(urldefrag(urljoin(wanted.uri, response.headers["location"])).url)
        if status in _LATER:
            raise away(wanted.uri, f"it answers {status}")
        if status != 200:
            raise unreadable(wanted.uri, f"it answers {status}")
        content = bytearray()
        async for piece in _unpacked(wanted.uri, response, self.bounds.bytes):
            content += piece
            if len(content) > self.bounds.bytes:
                raise too_large(wanted.uri, self.bounds.bytes)
        return Fetched(
            bytes(content),
            _media_type(response.headers.get("content-type", ""), wanted.path),
            Remembered(response.headers.get("etag", "")[:256], response.headers.get("last-modified", "")[:64]),
        )


class _NotConnected(Exception):
    """Nobody was reached; another address of the host may do."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Turn what goes wrong with a connection, inside the block, into what its owner can be told."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        if _certificate_refused(error):
            raise unreadable(uri, "its TLS certificate is not valid for it") from error
        raise _NotConnected(away(uri, "no connection could be made")) from error
    except httpx.TimeoutException as error:
        raise away(uri, "it did not answer in time") from error
    except httpx.InvalidURL as error:
        raise unreadable(uri, "it is not a URL") from error
    except httpx.RemoteProtocolError as error:
        raise away(uri, "its answer is not HTTP, or has too long a header, or broke off") from error
    except httpx.TransportError as error:
        raise away(uri, "the connection broke off") from error


def _certificate_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


async def _unpacked(uri: str, response: httpx.Response, limit_bytes: int) -> AsyncIterator[bytes]:
    """The body in pieces of bounded size, however small it was packed.  Raises SOURCE_UNREADABLE."""
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "", "gzip", "x-gzip"):
        raise unreadable(uri, "it is packed in a way that was not asked for")
    unpacker = zlib.decompressobj(wbits=31) if "gzip" in packing else None
    came = 0
    async for raw in response.aiter_raw():
        came += len(raw)
        if came > limit_bytes:
            raise too_large(uri, limit_bytes)
        if unpacker is None:
            yield raw
            continue
        try:
            packed = raw
            while packed and not unpacker.eof:
                yield unpacker.decompress(packed, _PIECE_BYTES)
                packed = unpacker.unconsumed_tail
        except zlib.error:
            raise unreadable(uri, "it is packed as gzip, and damaged") from None
    if unpacker is not None and came and not unpacker.eof:
        raise unreadable(uri, "it is packed as gzip, and damaged")


def _media_type(content_type: str, path: str) -> str:
    """What a server says, unless the name says more; with the charset in both cases."""
    kind, _, parameters = content_type.partition(";")
    named = media.by_ending(path.partition("?")[0])
    if kind.strip().lower() not in _UNTOLD or named is None:
        return content_type.strip()[:127]
    return f"{named};{parameters}"[:127] if parameters and named.startswith("text/") else named


def unreadable(uri: str, problem: str) -> Failure:
    """The failure of what is there and cannot be read as it is."""
    return Failure(Reason.SOURCE_UNREADABLE, uri=uri, problem=problem)


def away(uri: str, problem: str) -> Failure:
    """The failure of what may be there a little later."""
    return Failure(Reason.SOURCE_AWAY, uri=uri, problem=problem)


def too_large(uri: str, limit_bytes: int) -> Failure:
    """The failure of more bytes than a document may have."""
    problem = f"it has more than {limit_bytes} bytes, which the operator sets with TRIVIUM_RETRIEVER_MAX_DOCUMENT_BYTES"
    return unreadable(uri, problem)
