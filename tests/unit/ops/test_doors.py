"""Addresses of a suite: from the environment, the defaults, or free; and who holds one that is taken."""

import os
import socket

from services.ops.supervisor.doors import conflicts, settled


def test_addresses_come_from_the_environment_before_the_defaults() -> None:
    doors = settled(["access", "gateway"], free=False, environment={"TRIVIUM_ACCESS_LISTEN": "127.0.0.1:7001"})
    assert doors["access"].listen == "127.0.0.1:7001"
    assert doors["access"].admin_listen == "127.0.0.1:51051"
    assert doors["gateway"].http_listen == "127.0.0.1:8080"


def test_port_nought_becomes_a_port_that_is_free_and_used_once() -> None:
    doors = settled(["access", "registry", "gateway"], free=True, environment={})
    addresses = [address for own in doors.values() for _, address in own.named()]
    assert len(set(addresses)) == len(addresses) == 10
    assert not any(address.endswith(":0") for address in addresses)
    assert conflicts(doors) == []


def test_a_port_in_use_is_reported_with_the_variable_that_moves_it_and_the_process_that_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        doors = settled(["access"], free=False, environment={"TRIVIUM_ACCESS_LISTEN": address})
        [conflict] = [found for found in conflicts(doors) if found.address == address]
    assert str(conflict).startswith(f"{address} (access, TRIVIUM_ACCESS_LISTEN) is in use by pid {os.getpid()} (")
