"""Requests made up from the document of the HTTP door, and what must hold of every answer to them.

The same each time: nothing is drawn that the test's own name does not determine.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

_CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
# No document tells of them.
_OF_HTTP = {"connection", "content-length", "content-type", "date", "transfer-encoding"}
_OF_LIMITS = "x-ratelimit-"
# Positive ones follow the document; negative ones break it in one place.
_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
_MOST_CHANGES = 2
_SECONDS = 60
_PLACE = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class Known:
    """What makes a request one that means something: ids by their places in paths, and bodies by their routes."""

    named: Mapping[str, str] = field(default_factory=dict)
    bodies: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


class Fuzzed:
    """A door at an address without its ``/v1``, asked by the holder of a key, by the document that it serves itself.

    A holder that is ``limited`` has limits of requests and of tokens: what they hold tells of both.
    """

    def __init__(self, address: str, key: str, *, limited: bool = False) -> None:
        load_all_checks()
        self._address = address
        self._limited = limited
        self._session = requests.Session()
        self._headers = {"authorization": f"Bearer {key}"}
        self._told = requests.get(f"{address}/openapi.json", timeout=_SECONDS).json()
        self._document: Any = schemathesis.openapi.from_dict(self._told)

    def close(self) -> None:
        """Ask no more."""
        self._session.close()

    def check(self, verb: str, path: str, known: Known, examples: int) -> None:
        """Fail where an answer is a fault of the door's, or none that the document tells: to the known bodies, and to others."""
        operation = self._document[path][verb]
        for body in known.bodies.get(path, ()):
            places = {name: known.named[name] for name in _PLACE.findall(path)}
            self._tell(operation.Case(path_parameters=places, body=dict(body), media_type="application/json"))

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def holds(data: st.DataObject) -> None:
            case = data.draw(operation.as_strategy(generation_mode=data.draw(st.sampled_from(_MODES))))
            if data.draw(st.booleans()):
                _mean(case, known, path, data)
            self._tell(case)

        holds()

    def _tell(self, case: Any) -> None:
        answer = case.call(base_url=self._address, session=self._session, headers=self._headers, timeout=_SECONDS)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=_CHECKS, headers=self._headers)
        self._require_told(case, answer)

    def _require_told(self, case: Any, answer: Any) -> None:
        """Fail for a header that the document does not tell of, and for one of limits that only the document has."""
        responses = self._told["paths"][case.path][case.method.lower()]["responses"]
        response = responses[str(answer.status_code)]
        if "$ref" in response:
            response = self._told["components"]["responses"][response["$ref"].rpartition("/")[2]]
        found = {name.lower() for name in answer.headers} - _OF_HTTP
        assert found <= response["headers"].keys(), found - response["headers"].keys()
        if self._limited and answer.status_code == 200:
            wanted = {name for name in response["headers"] if name.startswith(_OF_LIMITS)}
            assert wanted <= found, wanted - found


def _mean(case: Any, known: Known, path: str, data: st.DataObject) -> None:
    """Turn what was made up into a request about something that is there, with little of its own."""
    case.path_parameters = {name: known.named.get(name, it) for name, it in (case.path_parameters or {}).items()}
    bodies = known.bodies.get(path)
    if bodies and isinstance(case.body, dict) and case.body:
        body = data.draw(st.sampled_from(bodies))
        changed = data.draw(st.sets(st.sampled_from(sorted(case.body)), max_size=_MOST_CHANGES))
        case.body = {**body, **{name: case.body[name] for name in sorted(changed)}}
