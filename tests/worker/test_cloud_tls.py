"""TLS: a handshake that fails has sent nothing of the request; a connection that breaks after it may have."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.addresses import Address
from tasks.answers import Answer, NoAnswer, Reply
from tasks.notices import trial
from tests.worker import misbehaving as bad
from worker import transport
from worker.cloud import Cloud, Credential
from worker.notices import Sender

TOKEN = Credential.token("secret-token")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file, made by the `openssl` command."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "2", "-subj", "/CN=launchq test", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(folder / "key"), "-out", str(folder / "cert"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    pem = folder / "both.pem"
    pem.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return pem


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The way of every company with an authority of its own: SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    transport.tls_context.cache_clear()
    yield
    transport.tls_context.cache_clear()


async def create(url: str, **options: float) -> Reply:
    async with Cloud(url, timeout=10, **options) as cloud:
        return await cloud.create(b"{}", TOKEN)


async def test_self_signed_certificate_is_not_sent(server_tls: ssl.SSLContext) -> None:
    with bad.serve(bad.answers, tls=server_tls) as server:
        reply = await create(server.url)
    assert isinstance(reply, NoAnswer)
    assert not reply.sent
    assert reply.reason.startswith(f"the certificate of {server.peer} is not trusted: self")
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
async def test_certificate_for_another_name_is_not_sent(server_tls: ssl.SSLContext) -> None:
    with bad.serve(bad.answers, tls=server_tls) as server:
        reply = await create(f"https://localhost:{server.port}/api")
    assert isinstance(reply, NoAnswer)
    assert not reply.sent
    assert reply.reason.startswith(
        f"the certificate of localhost:{server.port} is not trusted: Hostname mismatch"
    )
    assert server.requests == []


def answers_in_plain_http(peer: bad.Peer) -> None:
    peer.sock.recv(1 << 16)
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def closes_at_once(peer: bad.Peer) -> None:
    peer.sock.recv(1 << 16)


def resets_at_once(peer: bad.Peer) -> None:
    peer.sock.recv(1 << 16)
    peer.reset()


@pytest.mark.parametrize("behaviour", [answers_in_plain_http, closes_at_once, resets_at_once])
async def test_https_on_a_plain_port_is_not_sent(behaviour: bad.Behaviour) -> None:
    with bad.serve(behaviour) as server:
        reply = await create(f"https://{server.peer}/api")
    assert isinstance(reply, NoAnswer)
    assert not reply.sent
    assert server.peer in reply.reason
    assert server.connections == 1


async def test_handshake_that_never_ends_is_not_sent() -> None:
    with bad.serve(bad.accepts_and_never_reads) as server:
        reply = await create(f"https://{server.peer}/api", connect_timeout=0.3)
    assert reply == NoAnswer(False, f"no connection to {server.peer} within 0.3 s")


async def test_plain_http_on_a_tls_port_is_sent(server_tls: ssl.SSLContext) -> None:
    # The request left, in clear text: whoever reads it there could obey it.
    with bad.serve(bad.answers, tls=server_tls) as server:
        reply = await create(f"http://{server.peer}/api")
    assert isinstance(reply, NoAnswer)
    assert reply.sent


@pytest.mark.usefixtures("trusted")
async def test_good_answer_over_tls_and_the_connection_is_used_again(server_tls: ssl.SSLContext) -> None:
    with bad.serve(bad.answers, tls=server_tls) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            for _ in range(3):
                assert await cloud.create(b"{}", TOKEN) == Answer(200, bad.CREATED)
    assert len(server.requests) == 3
    assert server.connections == 1


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "behaviour",
    [
        bad.closes_after_reading,
        bad.resets_after_reading,
        bad.stops_half_way_through_the_answer,
        bad.answers_garbage,
        bad.answers_a_heap,
    ],
)
async def test_end_after_the_request_arrived_over_tls_is_sent(
    behaviour: bad.Behaviour, server_tls: ssl.SSLContext
) -> None:
    with bad.serve(behaviour, tls=server_tls) as server:
        reply = await create(server.url)
    assert isinstance(reply, NoAnswer)
    assert reply.sent
    assert len(server.requests) == server.connections == 1


@pytest.mark.usefixtures("trusted")
async def test_deadline_over_tls_is_sent(server_tls: ssl.SSLContext) -> None:
    with bad.serve(bad.never_answers, tls=server_tls) as server:
        async with Cloud(server.url, timeout=0.5) as cloud:
            reply = await cloud.create(b"{}", TOKEN)
    assert reply == NoAnswer(True, f"no answer from {server.peer} within 0.5 s")


@pytest.mark.usefixtures("trusted")
async def test_nothing_more_leaves_over_tls_once_a_call_has_ended(server_tls: ssl.SSLContext) -> None:
    arrived: list[int] = []

    def sleeps_then_reads_on(peer: bad.Peer) -> None:
        peer.read_half_a_request()
        peer.server.go_on.wait()
        arrived.append(len(peer.wait_for_the_end()))

    body = b"x" * 1_000_000
    with bad.serve(sleeps_then_reads_on, tls=server_tls, receive_buffer=4096) as server:
        async with Cloud(server.url, timeout=0.5) as cloud:
            reply = await cloud.create(body, TOKEN)
        server.go_on.set()
        await asyncio.to_thread(server.wait, lambda: server.ended == 1)
    assert reply == NoAnswer(True, f"no answer from {server.peer} within 0.5 s")
    assert arrived
    assert arrived[0] < len(body)


async def test_tls_settings_are_made_once_verify_and_are_not_made_for_plain_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport.tls_context.cache_clear()
    for _ in range(3):
        async with Cloud("http://127.0.0.1:9", timeout=1):
            await asyncio.sleep(0)  # its client is made in the loop's next turn
    assert transport.tls_context.cache_info().misses == 0
    for _ in range(3):
        async with Cloud("https://127.0.0.1:9", timeout=1):
            await asyncio.sleep(0)
    assert transport.tls_context.cache_info().misses == 1
    context = transport.tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_no_notice_goes_to_a_receiver_whose_certificate_nobody_vouches_for(
    server_tls: ssl.SSLContext,
) -> None:
    """It is tried again, since certificates are renewed; what is said of it names no address."""
    with bad.serve(bad.answers, tls=server_tls) as server:
        address = Address("json", f"{server.url}/hook")
        async with Sender("launchq") as sender:
            outcome = await sender.send(address, [trial(datetime.now(UTC))], "id")
    assert outcome.what == "later"
    assert outcome.text.startswith("the certificate of the receiver is not trusted: self")
    assert server.requests == []
