"""No other socket gets a reserved port, and a server that is given its number can listen there."""

import socket

import pytest

from tests.harness.ports import bind_port, reserved_address


def test_a_held_port_is_refused_to_others_and_listened_at_by_a_server_that_is_told_it() -> None:
    with reserved_address() as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            bind_port(port)
        with socket.create_server(("127.0.0.1", port)):
            socket.create_connection(("127.0.0.1", port)).close()
