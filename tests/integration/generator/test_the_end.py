"""Death: of the engine, which is rebuilt, and of the generator, which leaves no process behind.

The last file of this folder that asks the generator they share: its second test ends it for good.
"""

import os
import signal
from pathlib import Path

import grpc
import pytest
from trivium.generator.v1 import generator_pb2

from services.chassis.status import from_rpc_error
from tests.generating import QUESTIONS, alive, collect, descendants
from tests.stack import eventually


def title(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def running(generator):
    (engine,) = generator.api.ListEngines(generator_pb2.ListEnginesRequest()).engines
    return engine.running


def test_a_dead_engine_is_rebuilt_and_answers_who_had_heard_nothing_and_tells_the_others_to_retry(served, marks):
    generator, version = marks.tenant.generator, marks.versions[0]
    generator.answer("Hello", version, max_tokens=2)
    call = generator.start("Write a very long story.", version, max_tokens=1500)
    next(call)
    below = descendants(served.pid)
    core = [pid for pid in below if "EngineCor" in title(pid)]
    # Stopped, it can give the second request nothing.
    os.kill(core[0], signal.SIGSTOP)
    unheard = generator.start(QUESTIONS[1], version)
    eventually(lambda: running(generator) == 2, "both requests run")
    os.kill(core[0], signal.SIGKILL)
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            pass
    failure = from_rpc_error(caught.value)
    assert (failure.reason, bool(failure.retry_after_seconds)) == ("NOT_READY", True)
    answer = collect(unheard)
    assert set(answer.token_ids) == {marks.mark_of(version)}
    assert answer.receipt.version_digest == version
    served.wait_until_ready(restarts=1)
    listed = generator.api.ListAdapters(generator_pb2.ListAdaptersRequest()).adapters
    assert version in {adapter.version for adapter in listed}
    answer = generator.answer(QUESTIONS[0], version)
    assert set(answer.token_ids) == {marks.mark_of(version)}
    assert not alive(core)


def kill_and_count(served):
    below = descendants(served.pid)
    served.generator.kill()
    # An engine arms its parent-death signal once it has imported vLLM: on a busy machine that alone takes half a minute.
    eventually(lambda: not alive(below), f"{below} end", 90)
    return below


def test_a_killed_generator_leaves_no_process_behind(served):
    assert len(kill_and_count(served)) >= 2


def test_a_generator_killed_while_its_engine_starts_leaves_none_either(served):
    served.generator.start()
    eventually(lambda: [pid for pid in descendants(served.pid) if title(pid).startswith("python")], "the engine begins")
    assert kill_and_count(served)
