"""Structured logs: events with fields, one JSON object a line, on standard error.

Invariant: no payload, prompt, key or token is written.  Fields are cut to 300
characters, bytes become their length, and fields whose name promises a secret or a
text are dropped by name, so a careless call site leaks nothing either.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from services.chassis.config import redact
from services.chassis.context import current_or_none

Log = FilteringBoundLogger

_PAYLOAD_NAME = re.compile(
    r"^(prompt|messages?_text|content|text|body|payload|request|response|answer|question|document|"
    r"authorization|assertion|bearer|api_key|vector|tokens)$",
    re.IGNORECASE,
)
_KEY_SHAPE = re.compile(r"\btv_[A-Za-z0-9]+_[A-Za-z0-9_\-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=Bearer )\S+")
_MAX_FIELD_CHARACTERS = 300


def configure(service: str, level: str = "INFO") -> Log:
    """Set up logging of the process and return the service's logger.  Called once, by ``run``."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    # Libraries log through the standard module: warnings and worse, as events of their own.
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog()]
    root.setLevel(logging.WARNING)
    return logger(service, number)


def logger(service: str, level: int = logging.INFO) -> Log:
    """A logger that names its service in every line.  Needs no global set-up, so it never leaks without."""
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_request,
            _frames_without_values,
            scrub,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        service=service,
    )
    return log


class _ToStructlog(logging.Handler):
    """Passes records of libraries on.  Their text may quote a payload, so it is scrubbed too."""

    def emit(self, record: logging.LogRecord) -> None:
        say = logger("library").bind(library=record.name)
        level = say.error if record.levelno >= logging.ERROR else say.warning
        level("library_message", message=record.getMessage(), exc_info=record.exc_info or None)


def _add_request(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request = current_or_none()
    if request is not None:
        event.setdefault("correlation_id", request.correlation_id)
        event.setdefault("tenant_id", request.tenant_id)
    return event


def _frames_without_values(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The stack as file, line and function: the message of an exception may quote a payload."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if not isinstance(error, BaseException):
        return event
    event.setdefault("exception", type(error).__name__)
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    event["stack"] = frames[-20:]
    event["detail"] = str(error)
    return event


def scrub(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop, redact and cut, by name and by shape."""
    for name, value in list(event.items()):
        if _PAYLOAD_NAME.match(name):
            event[name] = "[dropped]"
        elif isinstance(value, bytes | bytearray | memoryview):
            event[name] = f"[{len(value)} bytes]"
        elif isinstance(value, str):
            event[name] = _cut(_KEY_SHAPE.sub("[redacted]", str(redact(name, value))))
        elif not isinstance(value, bool | int | float | type(None) | list):
            event[name] = _cut(_KEY_SHAPE.sub("[redacted]", str(redact(name, str(value)))))
    return event


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_FIELD_CHARACTERS else text[:_MAX_FIELD_CHARACTERS] + "…"
