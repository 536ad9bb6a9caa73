"""Transport security, closed by default: clear text on the loopback only, mutual TLS elsewhere.

Invariant: a server never listens on an address that another machine can reach
without checking the certificate of whoever connects.
"""

import ipaddress

import grpc

from services.chassis.config import ServiceSettings, split_address
from services.chassis.errors import Unstartable


class InsecureListenError(Unstartable, ValueError):
    """A port that other machines can reach was asked for without certificates."""


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach ``address`` (host:port)."""
    if address.startswith("unix:"):
        return True
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name may resolve to anything, so it counts as reachable.
        return False


def require_secure(settings: ServiceSettings, *addresses: str) -> None:
    """Refuse to start rather than listen in clear text.  Raises InsecureListenError."""
    for address in addresses:
        if not is_loopback(address) and settings.tls_cert_file is None:
            raise InsecureListenError(
                f"{address} is not a loopback address: set TRIVIUM_TLS_CERT_FILE, TRIVIUM_TLS_KEY_FILE and "
                "TRIVIUM_TLS_CA_FILE, or listen on 127.0.0.1"
            )


def bind(server: grpc.aio.Server, address: str, settings: ServiceSettings) -> str:
    """Open a port, with mutual TLS where certificates are set.  Returns the real host:port."""
    require_secure(settings, address)
    credentials = server_credentials(settings)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    host = address.rpartition(":")[0]
    return f"{host}:{port}"


def server_credentials(settings: ServiceSettings) -> grpc.ServerCredentials | None:
    """Mutual TLS from the configured files, or None without them.  Raises OSError if one is unreadable."""
    if settings.tls_cert_file is None or settings.tls_key_file is None or settings.tls_ca_file is None:
        return None
    pair = (settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())
    return grpc.ssl_server_credentials([pair], settings.tls_ca_file.read_bytes(), require_client_auth=True)


def channel_credentials(settings: ServiceSettings) -> grpc.ChannelCredentials | None:
    """The client side of the same: our certificate towards peers, or None without certificates."""
    if settings.tls_cert_file is None or settings.tls_key_file is None or settings.tls_ca_file is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=settings.tls_ca_file.read_bytes(),
        private_key=settings.tls_key_file.read_bytes(),
        certificate_chain=settings.tls_cert_file.read_bytes(),
    )
