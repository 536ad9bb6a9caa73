"""A reader of the engine's queue naps while messages are frequent, then sleeps until it is told."""

import threading
import time

import pytest
import zmq

from services.generator.plugin.waiting import _napping, nap_seconds
from tests.harness.processor_time import least_seconds


@pytest.fixture
def condition_pair():
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
    from vllm.utils.network_utils import get_open_zmq_ipc_path

    context = zmq.Context()
    address = get_open_zmq_ipc_path()
    writer = SpinCondition(is_reader=False, context=context, notify_address=address)
    reader = SpinCondition(is_reader=True, context=context, notify_address=address)
    yield writer, reader, _napping(SpinCondition.wait)
    for condition in (writer, reader):
        for socket in (condition.local_notify_socket, condition.read_cancel_socket, condition.write_cancel_socket):
            if socket is not None:
                socket.close(linger=0)
    context.term()


def test_a_reader_whose_notification_was_lost_wakes_all_the_same(condition_pair):
    _, reader, wait = condition_pair
    reader.record_read()
    wait(reader)


@pytest.mark.parametrize("waited", [0.0, 1e-4, 1e-3, 1e-2, 1.0])
def test_a_nap_adds_little_to_what_was_waited(waited):
    assert nap_seconds(waited) <= max(20e-6, waited / 16)
    assert nap_seconds(waited) <= 300e-6


def test_a_reader_sleeps_while_it_waits(condition_pair):
    _, reader, wait = condition_pair

    def waited() -> float:
        reader.record_read()
        began, cpu = time.monotonic(), time.thread_time()
        while time.monotonic() < began + 0.5:
            wait(reader)
        return time.thread_time() - cpu

    assert least_seconds(0.25, waited) < 0.25


def test_an_idle_reader_is_woken_by_the_notification_alone(condition_pair):
    writer, reader, wait = condition_pair
    reader.last_read = float("-inf")
    woken = threading.Event()

    def read():
        wait(reader)
        woken.set()

    thread = threading.Thread(target=read)
    thread.start()
    # Whoever subscribes is heard of a moment later: what is said before is lost.
    while not woken.wait(timeout=0.05):
        writer.notify()
    thread.join()
