"""Clear text stays on the loopback; elsewhere both sides show a certificate or nothing is said."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from trivium_client.connection import Connection

from services.chassis.channels import open_channel
from services.chassis.tls import InsecureListenError, is_loopback
from tests.contract.chassis.echo import AUTHORISED, served, settings_in

EVERYWHERE = "0.0.0.0:0"


@dataclass(frozen=True)
class Authority:
    """A certificate authority that lives for one test."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, folder: Path) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        folder.mkdir(parents=True)
        authority = cls(folder, key, certificate("authority", key, key, "authority", is_authority=True))
        (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    def files(self, name: str) -> dict[str, Any]:
        """A certificate for ``name``, as settings take it."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = certificate(name, key, self.key, "authority", is_authority=False)
        (self.folder / f"{name}.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return {
            "tls_cert_file": self.folder / f"{name}.pem",
            "tls_key_file": self.folder / f"{name}.key",
            "tls_ca_file": self.folder / "ca.pem",
        }


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: str,
    *,
    is_authority: bool,
) -> x509.Certificate:
    """A certificate for ``name`` and 127.0.0.1, valid for an hour."""
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


async def embed(channel: grpc.aio.Channel) -> str:
    stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
    request = embedder_pb2.EmbedRequest(texts=["a"])
    return str((await stub.Embed(request, metadata=AUTHORISED, timeout=5)).model)


@pytest.mark.parametrize("port", ["listen", "admin_listen", "metrics_listen"])
async def test_a_port_that_others_reach_is_refused_without_certificates(tmp_path: Path, port: str) -> None:
    settings: dict[str, Any] = {port: EVERYWHERE}
    with pytest.raises(InsecureListenError):
        async with served(tmp_path, **settings):
            pass


async def test_two_sides_with_certificates_talk_on_any_address(tmp_path: Path) -> None:
    authority = Authority.new(tmp_path / "ca")
    async with served(tmp_path / "data", listen=EVERYWHERE, **authority.files("server")) as server:
        address = server.listen.replace("0.0.0.0", "127.0.0.1")
        settings = settings_in(tmp_path / "client", **authority.files("client"))
        async with open_channel(address, settings) as channel:
            assert await embed(channel) == "acme"


async def test_a_client_without_or_with_a_foreign_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority.new(tmp_path / "ca")
    stranger = Authority.new(tmp_path / "stranger")
    async with served(tmp_path / "data", listen=EVERYWHERE, **authority.files("server")) as server:
        address = server.listen.replace("0.0.0.0", "127.0.0.1")
        root = (authority.folder / "ca.pem").read_bytes()
        files = stranger.files("client")
        foreign = grpc.ssl_channel_credentials(
            root, files["tls_key_file"].read_bytes(), files["tls_cert_file"].read_bytes()
        )
        for credentials in (grpc.ssl_channel_credentials(root), foreign):
            async with grpc.aio.secure_channel(address, credentials) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await embed(channel)
                assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await embed(channel)


async def test_the_clients_of_python_show_the_certificate_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.new(tmp_path / "ca")
    async with served(tmp_path / "data", listen=EVERYWHERE, **authority.files("server")) as server:
        addresses = {"embedder": server.listen.replace("0.0.0.0", "127.0.0.1")}
        for name, path in authority.files("somebody").items():
            monkeypatch.setenv(f"TRIVIUM_{name.upper()}", str(path))
        async with Connection.settled(addresses, data_dir=tmp_path).open("embedder") as channel:
            assert await embed(channel) == "acme"


def test_half_of_mutual_tls_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TRIVIUM_TLS"):
        settings_in(tmp_path, tls_cert_file=tmp_path / "a")


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/tmp/s", True),
        ("0.0.0.0:1", False),
        (":1", False),
        ("[::]:1", False),
        ("10.1.2.3:1", False),
        ("service.internal:1", False),
    ],
)
def test_only_this_machine_counts_as_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
