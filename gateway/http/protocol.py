"""HTTP/1.1 and nothing else: whoever offers to go on in another protocol is answered in this one, and its body is read.

Java's own client offers HTTP/2 with whatever it asks in clear text.  httptools ends such a request at its head, and of what
stands behind it uvicorn drops what has come and takes the rest for the next request.  An offer may be left (RFC 9110, 7.8).
Invariant: what stands behind a head is as long as that head says, whatever else it says.
"""

from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING = (b"content-length", b"transfer-encoding")


class OneProtocol(HttpToolsProtocol):
    """As uvicorn's, which hears of no offer."""

    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        # uvicorn lets it go with the connection.
        self.parser = _Parser(self)  # type: ignore[assignment]  # all that uvicorn calls of one

    def on_message_complete(self) -> None:
        """As the parser says it, but for the end of a head that is none of the message."""
        if not cast("_Parser", self.parser).at_offer:
            super().on_message_complete()


class _Parser:
    """A parser of requests that goes on behind the head of one with an offer."""

    def __init__(self, protocol: OneProtocol) -> None:
        self._protocol = protocol
        self._inner = _made(protocol)

    @property
    def at_offer(self) -> bool:
        """Whether it is about to stop behind a head, for what follows would be another protocol's."""
        return self._inner.should_upgrade()

    def feed_data(self, data: bytes) -> None:
        """Read on.  Raises HttpParserError."""
        rest = memoryview(data)
        while rest:
            try:
                self._inner.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                self._go_on()
            else:
                return

    def _go_on(self) -> None:
        """Take a parser that has read a head with the same framing, and no offer."""
        heard = _BehindHead(self._protocol)
        self._inner = _made(heard)
        framing = [name + b": " + value + b"\r\n" for name, value in self._protocol.headers if name in _FRAMING]
        self._inner.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *framing, b"\r\n")))
        heard.head_is_read = True

    def get_method(self) -> bytes:
        """As httptools."""
        return self._inner.get_method()

    def get_http_version(self) -> str:
        """As httptools."""
        return self._inner.get_http_version()

    def should_keep_alive(self) -> bool:
        """As httptools."""
        return self._inner.should_keep_alive()

    def should_upgrade(self) -> bool:
        """Never."""
        return False


class _BehindHead:
    """Passes on what a parser says, but for the head that was heard already."""

    def __init__(self, protocol: OneProtocol) -> None:
        self._protocol = protocol
        self.head_is_read = False
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        """As httptools."""
        if self.head_is_read:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """As httptools."""
        if self.head_is_read:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As httptools."""
        if self.head_is_read:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        """As httptools."""
        if self.head_is_read:
            self._protocol.on_headers_complete()


def _made(hears: object) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(hears)
    # As uvicorn's own: what is sent behind the last request of a connection is nobody's fault.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
