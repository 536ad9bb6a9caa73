"""The contracts as text: the RPCs of each service, read from the comments in `protos/`.

The stubs carry no comments, and the comments are what promises a failure or a
later release, so the tests of the reference read the sources themselves.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROTOS = Path(__file__).parents[2] / "protos"
_RPC = re.compile(
    r"(?P<comment>(?:  //[^\n]*\n)+)  rpc (?P<method>\w+)\((?:stream )?\w+\) returns \((?:stream )?\w+\)[; ]"
)
_SERVICE = re.compile(r"^service (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_PACKAGE = re.compile(r"^package ([\w.]+);", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC: its full service name, its method, and its comment on one line."""

    service: str
    method: str
    comment: str

    @property
    def path(self) -> str:
        """The name as grpcurl takes it, PACKAGE.SERVICE/METHOD."""
        return f"{self.service}/{self.method}"


@cache
def rpcs() -> tuple[Rpc, ...]:
    """Every RPC of every contract, in the order of the files."""
    found = []
    for proto in sorted(PROTOS.glob("trivium/*/v1/*.proto")):
        text = proto.read_text()
        package = _PACKAGE.search(text)
        assert package, f"{proto} names no package"
        for service, body in _SERVICE.findall(text):
            for match in _RPC.finditer(body):
                comment = " ".join(line.strip().removeprefix("//").strip() for line in match["comment"].splitlines())
                found.append(Rpc(f"{package[1]}.{service}", match["method"], comment))
    return tuple(found)
