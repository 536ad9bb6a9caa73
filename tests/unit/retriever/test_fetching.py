"""What is fetched, and what never is: a server on the loopback counts who reaches it."""

import asyncio
import datetime
import gzip
import ipaddress
import ssl
import tracemalloc
import zlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.chassis.errors import Failure, Reason
from services.retriever.sources import addresses
from services.retriever.sources.addresses import Policy
from services.retriever.sources.fetching import Bounds, Fetcher, look_up, trusted
from services.retriever.sources.reading import Fetched, Gone, Remembered, Unchanged
from tests.harness.wording import missing
from tests.unit.retriever.web import always, response, serving

BOUNDS = Bounds(bytes=100_000, seconds=5.0, connect_seconds=2.0)
LOOPBACK = addresses.networks("127.0.0.0/8")
TRUSTED = trusted()


def fetcher(web, *, hosts=("public",), networks=LOOPBACK, resolve=look_up, bounds=BOUNDS, ports=(), tls=TRUSTED):
    return Fetcher(Policy(hosts, networks, frozenset({80, 443, web.port, *ports})), bounds, resolve, tls)


def resolving(*answers):
    """A resolver that gives one answer after another, the last one for ever, and counts."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        answer = answers[min(len(asked), len(answers)) - 1]
        return tuple(ipaddress.ip_address(item) for item in answer)

    return resolve, asked


async def refused_with(reason, work):
    with pytest.raises(Failure) as caught:
        await work
    assert caught.value.reason is reason, caught.value
    return caught.value.sentence


HOSTILE = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://127.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://localhost.:{port}/",
    "http://127.0.0.01:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://[fd00:ec2::254]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://[::1]evil:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://user@127.0.0.1:{port}/",
    "http://docs.example@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@docs.example/",
    "http://127.0.0.1:{port}\\@docs.example/",
    "http://docs.example\t:{port}/",
    "http://docs.example\r\nHost: x:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://ⓛocalhost:{port}/",
    "http:///127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http://127.0.0.1:22/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:{port}:80/",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "dict://127.0.0.1:{port}/",
    "HTTP+UNIX://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http://" + "a" * 3000 + "/",
    "http://%31%32%37.0.0.1:{port}/",
]


@pytest.mark.parametrize("uri", HOSTILE)
async def test_a_hostile_url_makes_no_connection(uri):
    async with serving(always(response(b"secret"))) as web:
        closed = fetcher(web, networks=())
        sentence = await refused_with(Reason.SOURCE_NOT_ALLOWED, closed.fetch(uri.format(port=web.port), None))
        assert web.connections == 0
        assert "secret" not in sentence


@pytest.mark.parametrize("uri", [uri for uri in HOSTILE if "localhost" not in uri and ":{port}#" not in uri])
async def test_it_is_refused_before_anything_is_looked_up(uri):
    async with serving(always(response())) as web:
        resolve, asked = resolving(["127.0.0.1"])
        with pytest.raises(Failure):
            fetcher(web, networks=(), resolve=resolve).require(uri.format(port=web.port))
        assert (asked, web.connections) == ([], 0)


@pytest.mark.parametrize("mode", ["nothing", "other hosts"])
async def test_hosts_are_closed_until_they_are_named(mode):
    hosts = {"nothing": (), "other hosts": ("*.docs.example", "docs.example")}[mode]
    async with serving(always(response())) as web:
        sentence = await refused_with(Reason.SOURCE_NOT_ALLOWED, fetcher(web, hosts=hosts).fetch(web.url(), None))
        assert "TRIVIUM_RETRIEVER_SOURCE_HOSTS" in sentence
        assert web.connections == 0


async def test_a_port_that_is_not_named_is_closed():
    async with serving(always(response())) as web:
        narrow = Fetcher(Policy(("public",), LOOPBACK), BOUNDS, look_up, TRUSTED)
        assert "SOURCE_PORTS" in await refused_with(Reason.SOURCE_NOT_ALLOWED, narrow.fetch(web.url(), None))
        assert web.connections == 0


async def test_a_name_is_refused_if_any_of_its_addresses_is_closed_and_an_unknown_one_says_the_same():
    said = set()
    async with serving(always(response())) as web:
        for answer in (["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:10.0.0.1"], ["169.254.169.254"], []):
            resolve, _ = resolving(answer)
            failing = fetcher(web, networks=(), resolve=resolve).fetch(web.url(host="docs.example"), None)
            said.add(await refused_with(Reason.SOURCE_NOT_ALLOWED, failing))
            assert web.connections == 0, answer
        # One sentence for all: it does not tell which names there are.
        (sentence,) = said
        assert not missing(sentence, f"http://docs.example:{web.port}/", "TRIVIUM_RETRIEVER_SOURCE_NETWORKS")


async def test_a_name_is_looked_up_once_and_the_address_that_was_judged_is_the_one_that_is_asked():
    async with serving(always(response(b"ours"))) as web:
        resolve, asked = resolving(["127.0.0.1"], ["127.0.0.2"])
        narrow = fetcher(web, networks=addresses.networks("127.0.0.1/32"), resolve=resolve)
        answer = await narrow.fetch(web.url("/a?b=c", host="docs.example"), None)
        assert isinstance(answer, Fetched)
        assert (answer.content, asked) == (b"ours", ["docs.example"])
        ((path, headers),) = web.requests
        assert (path, headers["host"]) == ("/a?b=c", f"docs.example:{web.port}")
        # The second time the name leads elsewhere, and nobody goes there.
        await refused_with(Reason.SOURCE_NOT_ALLOWED, narrow.fetch(web.url(host="docs.example"), None))
        assert web.connections == 1


@pytest.mark.parametrize(
    "to",
    ["http://127.0.0.1:{inner}/", "//127.0.0.1:{inner}/", "http://inner.example:{inner}/", "http://0x7f.1:{inner}/",
     "ftp://127.0.0.1:{inner}/", "http://x@127.0.0.1:{inner}/", "http://[::ffff:127.0.0.1]:{inner}/"],
)  # fmt: skip
async def test_a_redirect_is_judged_like_the_first_url(to):
    async with serving(always(response(b"secret"))) as inner:
        moved = response(status="302 Found", Location=to.format(inner=inner.port))
        async with serving(always(moved), listen="127.0.0.2") as web:
            names = {"docs.example": "127.0.0.2", "inner.example": "127.0.0.1"}

            async def resolve(host, port):
                return [ipaddress.ip_address(names[host])]

            outer = addresses.networks("127.0.0.2/32")
            careful = fetcher(web, networks=outer, resolve=resolve, ports=(inner.port,))
            await refused_with(Reason.SOURCE_NOT_ALLOWED, careful.fetch(web.url(host="docs.example"), None))
            assert (web.connections, inner.connections) == (1, 0)


async def test_a_redirect_is_followed_where_it_may_be_and_gets_no_cookie():
    async with serving(always(response(b"# There"))) as inner:
        moved = response(status="301 Moved", Location=inner.url("/b.md#part"), Set_Cookie="a=b")
        async with serving(always(moved)) as web:
            answer = await fetcher(web, ports=(inner.port,)).fetch(web.url(), None)
            assert isinstance(answer, Fetched)
            assert answer.content == b"# There"
            ((path, headers),) = inner.requests
            assert path == "/b.md"
            assert "cookie" not in headers


async def test_redirects_in_a_circle_end():
    async with serving(always(response(status="302 Found", Location="/again"))) as web:
        sentence = await refused_with(Reason.SOURCE_UNREADABLE, fetcher(web).fetch(web.url(), None))
        assert not missing(sentence, "redirects", "5")
        assert web.connections == 6


async def test_a_gzip_bomb_is_stopped_at_the_limit():
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(bytes(64 * 1024 * 1024)) + packer.flush()
    assert len(bomb) < BOUNDS.bytes
    async with serving(always(response(bomb, Content_Encoding="gzip"))) as web:
        tracemalloc.start()
        sentence = await refused_with(Reason.SOURCE_UNREADABLE, fetcher(web).fetch(web.url(), None))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # The bomb never stood in memory.
        assert peak_bytes < 8 * 1024 * 1024
        assert "more than 100000 bytes" in sentence
        assert "TRIVIUM_RETRIEVER_MAX_DOCUMENT_BYTES" in sentence


async def test_what_is_packed_is_unpacked_and_what_is_damaged_or_packed_otherwise_is_refused():
    whole = gzip.compress(b"text " * 1000)
    async with serving(always(response(whole, Content_Encoding="gzip"))) as web:
        answer = await fetcher(web).fetch(web.url(), None)
        assert isinstance(answer, Fetched)
        assert answer.content == b"text " * 1000
    for body, packing in ((whole[:-9], "gzip"), (b"not gzip", "gzip"), (b"text", "br"), (whole, "gzip, gzip")):
        async with serving(always(response(body, Content_Encoding=packing))) as web:
            await refused_with(Reason.SOURCE_UNREADABLE, fetcher(web).fetch(web.url(), None))


async def test_an_endless_body_is_stopped_at_the_limit():
    async def endless(path, headers, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(64 * 1024))
            await writer.drain()

    async with serving(endless) as web:
        assert "more than 100000" in await refused_with(Reason.SOURCE_UNREADABLE, fetcher(web).fetch(web.url(), None))


async def test_a_server_that_drips_is_given_up():
    async def drip(path, headers, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serving(drip) as web:
        hurried = fetcher(web, bounds=Bounds(100_000, 0.5, 0.5))
        assert "within 0.5 s" in await refused_with(Reason.SOURCE_UNREADABLE, hurried.fetch(web.url(), None))


async def test_endless_headers_and_what_is_not_http_are_given_up():
    async def headers_only(path, headers, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Name: " + b"v" * 1000 + b"\r\n")
            await writer.drain()

    for answer in (headers_only, always(b"SSH-2.0-OpenSSH_9.6\r\n" * 20), always(b""), always(b"HTTP/1.1 200 OK\r\nA")):
        async with serving(answer) as web:
            await refused_with(Reason.SOURCE_AWAY, fetcher(web).fetch(web.url(), None))


@pytest.mark.parametrize("status", ["401 No", "403 No", "500 Oh", "429 Later", "204 Empty"])
async def test_other_answers_are_told_by_their_number(status):
    async with serving(always(response(b"internals", status=status))) as web:
        with pytest.raises(Failure) as caught:
            await fetcher(web).fetch(web.url(), None)
        assert f"it answers {status[:3]}" in caught.value.sentence
        assert "internals" not in caught.value.sentence


async def test_nobody_there_is_told_as_that():
    async with serving(always(response())) as web:
        closed = web.url()
    await refused_with(Reason.SOURCE_AWAY, fetcher(web).fetch(closed, None))


async def test_what_has_not_changed_is_not_sent_again():
    async def answer(path, headers, writer):
        same = (
            headers.get("if-none-match") == '"1"' or headers.get("if-modified-since") == "Mon, 01 Jan 2024 00:00:00 GMT"
        )
        writer.write(
            response(status="304 Not Modified")
            if same
            else response(b"text", ETag='"1"', Content_Type="text/html; charset=utf-8")
        )

    async with serving(answer) as web:
        first = await fetcher(web).fetch(web.url(), None)
        assert first == Fetched(b"text", "text/html; charset=utf-8", Remembered('"1"'))
        assert await fetcher(web).fetch(web.url(), first.remembered) == Unchanged()
        assert await fetcher(web).fetch(web.url(), Remembered("", "Mon, 01 Jan 2024 00:00:00 GMT")) == Unchanged()


async def test_what_is_gone_is_told_from_what_fails():
    async with serving(always(response(status="404 Not Found"))) as web:
        assert await fetcher(web).fetch(web.url(), None) == Gone("it answers 404")


@pytest.mark.parametrize(
    ("said", "path", "kind"),
    [
        ("text/plain; charset=utf-8", "/a.md", "text/markdown; charset=utf-8"),
        ("application/octet-stream", "/a.pdf?version=2", "application/pdf"),
        ("text/html", "/a.md", "text/html"),
        ("", "/readme", ""),
        ("text/plain", "/a.txt", "text/plain"),
    ],
)
async def test_a_name_says_what_its_server_does_not(said, path, kind):
    async with serving(always(response(b"x", Content_Type=said))) as web:
        answer = await fetcher(web).fetch(web.url(path), None)
        assert isinstance(answer, Fetched)
        assert answer.media_type == kind


async def test_proxies_of_the_environment_have_no_part(monkeypatch):
    async with serving(always(response(b"proxied"))) as proxy, serving(always(response(b"direct"))) as web:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        answer = await fetcher(web).fetch(web.url(), None)
        assert isinstance(answer, Fetched)
        assert (answer.content, proxy.connections) == (b"direct", 0)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """TLS for docs.example: a server's side, and the side of who trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "docs.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("docs.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return serves, ssl.create_default_context(cafile=str(folder / "certificate.pem"))


async def test_a_certificate_is_of_the_name_though_the_address_is_asked(certified):
    serves, trusts = certified
    names = []
    serves.sni_callback = lambda socket, name, context: names.append(name)
    resolve, _ = resolving(["127.0.0.1"])
    async with serving(always(response(b"safe")), tls=serves) as web:
        asking = fetcher(web, resolve=resolve, tls=trusts)
        answer = await asking.fetch(web.url(host="docs.example", scheme="https"), None)
        assert isinstance(answer, Fetched)
        assert (answer.content, names) == (b"safe", ["docs.example"])
        other = asking.fetch(web.url(host="other.example", scheme="https"), None)
        assert "certificate is not valid" in await refused_with(Reason.SOURCE_UNREADABLE, other)
        strict = fetcher(web, resolve=resolve).fetch(web.url(host="docs.example", scheme="https"), None)
        assert "certificate is not valid" in await refused_with(Reason.SOURCE_UNREADABLE, strict)


async def test_what_is_encrypted_does_not_lead_to_what_is_not(certified):
    serves, trusts = certified
    async with serving(always(response(b"plain"))) as plain:
        moved = response(status="302 Found", Location=plain.url(host="docs.example"))
        async with serving(always(moved), tls=serves) as web:
            resolve, _ = resolving(["127.0.0.1"])
            asking = fetcher(web, resolve=resolve, tls=trusts, ports=(plain.port,))
            failing = asking.fetch(web.url(host="docs.example", scheme="https"), None)
            assert "from https to http" in await refused_with(Reason.SOURCE_UNREADABLE, failing)
            assert plain.connections == 0
