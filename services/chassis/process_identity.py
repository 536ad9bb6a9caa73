"""Which process it is, among those of every machine and of every time."""

import os
import socket

import psutil


def own() -> str:
    """The identity of this process: machine, process id, and when it began."""
    return f"{_machine()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def is_here(identity: str) -> bool:
    """Whether it is of this machine, alive or not."""
    return identity.rsplit("/", 2)[0] == _machine()


def pid_of(identity: str) -> int:
    """The process id on its machine.  Raises ValueError for what is no identity."""
    return int(identity.rsplit("/", 2)[1])


def is_alive_here(identity: str) -> bool:
    """Whether it is a process of this machine that runs.  Raises ValueError for what is no identity."""
    _, pid, began = identity.rsplit("/", 2)
    try:
        return is_here(identity) and f"{psutil.Process(int(pid)).create_time():.2f}" == began
    except psutil.NoSuchProcess:
        return False


def _machine() -> str:
    return socket.gethostname()[:64]
