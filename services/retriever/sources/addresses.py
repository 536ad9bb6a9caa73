"""Which addresses of the network a tenant's text may make this service speak to: none, unless settings open some.

Invariant: a URL is taken apart once, by rules narrower than any library's, and what is connected to is made of these
parts; an address is judged by what it reaches, also where one family embeds another.  A refusal says what to change,
and nothing of what lies behind the address.
"""

import fnmatch
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.chassis.errors import Failure, Reason

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOSTS_SETTING = "TRIVIUM_RETRIEVER_SOURCE_HOSTS"
NETWORKS_SETTING = "TRIVIUM_RETRIEVER_SOURCE_NETWORKS"
PORTS_SETTING = "TRIVIUM_RETRIEVER_SOURCE_PORTS"
# In the list of hosts: any that has public addresses only.
PUBLIC = "public"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# Without a zone: an address of one link alone.
_LITERAL = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?")
_NUMBER_LAST = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_MOST_URI = 2048

# Unicast that is routed everywhere (RFC 4291); the rest of IPv6 is local, multicast, embedded or not assigned.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Protocol assignments, of which some count as global; anycast to 6to4 relays; a cloud's own server at a public address.
_NEVER = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))


@dataclass(frozen=True, slots=True)
class Target:
    """What to ask whom.  ``host`` is a name in ASCII or an address as text, without brackets; ``path`` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def address(self) -> Address | None:
        """The host where it is an address itself."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def uri(self) -> str:
        """The target as it is written."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the deployment opens: globs of hosts (or ``public``), networks beyond the public ones, ports."""

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({80, 443})

    def require(self, target: Target) -> None:
        """Raises SOURCE_NOT_ALLOWED unless host and port are open.  Looks nothing up."""
        if not self.hosts:
            remedy = (
                f"this deployment fetches nothing from the network until its operator names hosts, or {PUBLIC!r}, in"
            )
            raise refused(target.uri, f"{remedy} {HOSTS_SETTING}")
        if not any(glob == PUBLIC or fnmatch.fnmatchcase(target.host, glob.lower()) for glob in self.hosts):
            raise refused(target.uri, f"its host is none of those that the operator names in {HOSTS_SETTING}")
        if target.port not in self.ports:
            raise refused(target.uri, f"its port is none of those that the operator names in {PORTS_SETTING}")

    def require_addresses(self, target: Target, addresses: Iterable[Address]) -> None:
        """Raises SOURCE_NOT_ALLOWED unless there are addresses, and all of them may be connected to."""
        held = list(addresses)
        if not held or not all(self._open(address) for address in held):
            # A name that is not known says the same: nobody learns which names are known inside.
            problem = (
                "its host has no address that may be read from here; the operator opens networks beyond the public"
            )
            raise refused(target.uri, f"{problem} ones in {NETWORKS_SETTING}")

    def _open(self, address: Address) -> bool:
        return any(address in network for network in self.networks) or _is_public(address, self)

    def opens_embedded(self, address: ipaddress.IPv4Address) -> bool:
        """Whether an address inside of another one is open."""
        return self._open(address)


def _is_public(address: Address, policy: Policy) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        unfit = address.is_multicast or address.is_reserved or any(address in network for network in _NEVER)
        return address.is_global and not unfit
    embedded = address.ipv4_mapped or address.sixtofour
    if embedded is None and address in _NAT64:
        embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if embedded is not None:
        return policy.opens_embedded(embedded)
    return address in _GLOBAL_UNICAST and address.is_global and address.teredo is None


def target(uri: str) -> Target:
    """The parts of an http or https URL.  Raises SOURCE_NOT_ALLOWED for one that is not written plainly."""
    if len(uri) > _MOST_URI or not _PRINTABLE.fullmatch(uri) or "\\" in uri:
        raise refused(_shown(uri), "it is too long, or holds a character that no URL has; percent-encode it")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise refused(_shown(uri), "it is not a URL") from None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise refused(_shown(uri), "only http://, https:// and s3:// are read")
    if "@" in parts.netloc:
        raise refused(f"{scheme}://…", "it holds a user name or password, which a URL is no place for; leave it out")
    host = _host(uri, parts.netloc)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port, path)


def _host(uri: str, netloc: str) -> str:
    if netloc.startswith("["):
        literal = _LITERAL.fullmatch(netloc)
        try:
            return str(ipaddress.IPv6Address(literal[1] if literal else ""))
        except ValueError:
            raise refused(_shown(uri), "its host is not an address") from None
    host = netloc.partition(":")[0].lower()
    if host.endswith("."):
        raise refused(_shown(uri), "its host ends with a dot; leave it out")
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise refused(_shown(uri), "its host is not a name; write one with other letters as xn--…")
    if _NUMBER_LAST.fullmatch(host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise refused(_shown(uri), "its host is a number in an unusual spelling; write four decimal ones") from None
    return host


def _shown(uri: str) -> str:
    """A URI as a message may repeat it: short, printable, and without what could be a password."""
    scheme, colon, rest = "".join(it if it.isprintable() else "?" for it in uri[:200]).partition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}"


def refused(uri: str, problem: str) -> Failure:
    """The failure of what this deployment does not read."""
    return Failure(Reason.SOURCE_NOT_ALLOWED, uri=uri, problem=problem, field="uri")


def networks(text: str) -> tuple[Network, ...]:
    """Networks with commas between, as a setting has them.  Raises ValueError."""
    return tuple(ipaddress.ip_network(item.strip()) for item in text.split(",") if item.strip())
