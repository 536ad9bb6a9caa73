"""A network cable between two processes, which a test may cut and mend."""

import contextlib
import socket
import threading
from typing import Self

from tests.harness.ports import bind_port, port_of


class Cable:
    """Forwards connections from a port of its own to ``address``.

    While it is cut, open connections end and new ones are refused, as when the peer dies.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._far = (host, int(port))
        # Held while the cable is cut, too: no other server gets the port.
        self._held = bind_port()
        self._near = ("127.0.0.1", port_of(self._held))
        self._open: set[socket.socket] = set()
        self._answering: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.mend()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._held.close()

    @property
    def address(self) -> str:
        """Where callers connect."""
        return f"{self._near[0]}:{self._near[1]}"

    @property
    def carries(self) -> bool:
        """Whether a connection is open over which the far end has spoken: one that is merely accepted carries no call."""
        with self._lock:
            return bool(self._open & self._answering)

    def mend(self) -> None:
        """Carry connections (again), at the same address."""
        self._listener = socket.create_server(self._near)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        with self._lock:
            ends, self._open, self._answering = [self._listener, *self._open], set(), set()
        for end in ends:
            # Closing alone would leave the threads that read from it waiting.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._far)
            except OSError:
                return
            with self._lock:
                self._open |= {near, far}
            for one, other, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._carry, args=(one, other, answers), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
                if answers:
                    with self._lock:
                        self._answering.add(one)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
