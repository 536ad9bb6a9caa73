"""No other socket gets a reserved port, and a server that is given its number can listen there, also once it was killed."""

import socket
from pathlib import Path

import pytest

from tests.harness.ports import bind_port, reserved_address
from tests.stack import Process


def test_a_held_port_is_refused_to_others_and_listened_at_by_a_server_that_is_told_it() -> None:
    with reserved_address() as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            bind_port(port)
        with socket.create_server(("127.0.0.1", port)):
            socket.create_connection(("127.0.0.1", port)).close()


def test_no_other_server_gets_the_port_of_a_service_that_was_killed(tmp_path: Path) -> None:
    service = Process("access", tmp_path, {"TRIVIUM_DRAIN_SECONDS": "0"}).start()
    service.keep_port()
    address = service.address
    with service.killed(), pytest.raises(OSError, match="in use"):
        bind_port(int(address.rpartition(":")[2]))
    assert service.address == address
    service.stop()
