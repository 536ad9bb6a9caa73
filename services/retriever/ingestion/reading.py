"""The process that reads documents: limited and confined, it answers one request after another until it is ended.

Requests come from the service and are trusted; what is answered is not, on the other side
(``answers``), for a document may have taken this process over.  What libraries print goes
nowhere, and so does what it could be told by the environment.
"""

import json
import math
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from services.chassis.processes import die_with_parent
from services.retriever.documents.media import MediaType
from services.retriever.formats import convert
from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted
from services.retriever.ingestion import answers
from services.retriever.ingestion.answers import Answer, Kind
from services.retriever.ingestion.confinement import confine
from services.retriever.text.blocks import outline

# A token that the answer begins with, the bytes of the description, as JSON, and of the content.
REQUEST = struct.Struct("<16sQQ")
# Of processor time, after which a library that never comes back to Python is killed.
_GRACE_SECONDS = 2


def serve(memory_bytes: int, parent: int) -> None:
    """Answer until nobody asks any more.  Never called in the service's own process."""
    die_with_parent(parent)
    asked, answering = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    _limit(memory_bytes)
    while header := asked.read(REQUEST.size):
        token, *lengths = REQUEST.unpack(header)
        description, content = (asked.read(length) for length in lengths)
        _send(answering, token, _answer(json.loads(description), content))


def _send(answering: BinaryIO, token: bytes, answer: Answer) -> None:
    answering.writelines((token, answer.header, *answers.parts(answer)))
    answering.flush()


def _answer(request: dict[str, Any], content: bytes) -> Answer:
    try:
        return answers.of_converted(_timed(request["seconds"], lambda: _read(request, content)))
    except Unreadable as error:
        return answers.of_unreadable(error)
    except TimeoutError:
        return Answer(Kind.OUT_OF_TIME)
    except (MemoryError, RecursionError):
        return Answer(Kind.OUT_OF_MEMORY)


def _read(request: dict[str, Any], content: bytes) -> Converted:
    if request["outline"]:
        # The service has the text and does not want it back.
        return Converted("", outline(content.decode(), markdown=request["markdown"]), (), "")
    kind, charset, most = MediaType(request["media_type"]), request["charset"], request["most_characters"]
    return convert.convert(convert.Raw(content, kind, charset, most))


def _limit(memory_bytes: int) -> None:
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    confine()


def _timed(seconds: float, work: Callable[[], Converted]) -> Converted:
    """Processor time is limited, not wall time: a busy machine must not fail a document."""
    signal.signal(signal.SIGXCPU, _out_of_time)
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    # A library that never comes back to Python sees no handler: this signal has none, and kills.
    signal.setitimer(signal.ITIMER_PROF, seconds + _GRACE_SECONDS)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _out_of_time(*_: object) -> None:
    raise TimeoutError
