"""An HTTP server in the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_POLL_SECONDS = 0.01  # how often it looks whether it is to end


class Handler(BaseHTTPRequestHandler):
    """One request.  Subclasses have ``do_GET`` and the like, which ``http.server`` calls."""

    def answer(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"", *, length: int | None = None
    ) -> None:
        """Send an answer, unless the client has gone away; ``length`` replaces the length of the body in its header."""
        told = {**(headers or {}), "Content-Length": str(len(body) if length is None else length)}
        try:
            self.send_response(status)
            for name, value in told.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Write nothing among what the tests write."""


@contextmanager
def serve_http(handler: type[Handler]) -> Iterator[str]:
    """Serve on a port of the system's choice inside the block; yield the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
