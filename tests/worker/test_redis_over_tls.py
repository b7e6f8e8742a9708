"""Redis over TLS, ledger and broker: through a proxy that ends TLS in front of a real Redis."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness import World, body, wait_until
from launchq import LedgerError
from sandbox.redis_server import RedisServer
from worker.app import make_app, send_wake_up

HOST = "127.0.0.1"


def throwaway_authority(folder: Path, name: str) -> tuple[Path, Path]:
    """An authority's certificate, and a file with a server's key and certificate for 127.0.0.1 that it has signed."""
    now = datetime.now(UTC)
    own, servers = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def certificate(
        subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=True)
        )
        return builder.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, server = folder / f"{name}.pem", folder / f"{name}-server.pem"
    authority.write_bytes(certificate(issuer, own, x509.BasicConstraints(ca=True, path_length=None)))
    key = servers.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    server.write_bytes(key + certificate(subject, servers, names))
    return authority, server


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The right authority, a wrong one, and the server's file."""
    folder = tmp_path_factory.mktemp("tls")
    right, server = throwaway_authority(folder, "right")
    wrong, _ = throwaway_authority(folder, "wrong")
    return right, wrong, server


@pytest.fixture
def tls_port(redis: RedisServer, authorities: tuple[Path, Path, Path]) -> Iterator[int]:
    """Where the Redis of the tests is reached over TLS."""
    proxy = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("tls_proxy.py")), str(redis.port), str(authorities[2])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # every refused handshake is a traceback there
    )
    assert proxy.stdout is not None
    with proxy.stdout:
        yield int(proxy.stdout.readline())
        proxy.kill()
        proxy.wait()


def test_one_url_leads_ledger_and_broker_over_tls(
    make_world: Callable[..., World], tls_port: int, authorities: tuple[Path, Path, Path]
) -> None:
    world = make_world(redis_url=f"rediss://{HOST}:{tls_port}/0?ssl_ca_certs={authorities[0]}")
    world.worker()
    job = world.launcher.submit(body("by-python"))
    [job] = world.launcher.wait([job.id], timeout=30)
    ran = world.run(
        "submit", "-", "--batch", "b", "--wait", "--timeout", "30s", stdin=json.dumps(body("by-file"))
    )
    assert (job.instance_id is not None, ran.code) == (True, 0), ran
    with make_app(world.settings) as app:
        task = app.send_task("launchq.submit", [body("by-celery")], queue=world.prefix)
    wait_until(
        lambda: "by-celery" in world.names_created(), description="the job of the Celery door is launched"
    )
    assert world.job(task.id).name == "by-celery"
    assert world.run("doctor").code == 0
    assert "insecure" not in world.logs()


@pytest.mark.parametrize("authority", ["wrong", "none"])
def test_a_certificate_of_another_authority_is_refused_by_ledger_and_broker(
    make_world: Callable[..., World], tls_port: int, authorities: tuple[Path, Path, Path], authority: str
) -> None:
    query = f"?ssl_ca_certs={authorities[1]}" if authority == "wrong" else ""
    url = f"rediss://:sentinel-c0ffee@{HOST}:{tls_port}/0{query}"
    world = make_world(redis_url=url)
    with pytest.raises(LedgerError, match="certificate verify failed"):
        world.launcher.account()
    ran = world.run("list")
    assert (ran.code, "certificate verify failed" in ran.err) == (1, True), ran
    # The broker too, which is another library: a wake-up through it must not leave.
    with make_app(world.settings) as app, pytest.raises(Exception, match="certificate verify failed"):
        send_wake_up(app, world.settings)
    worker = world.worker(ready=False)
    wait_until(lambda: "certificate verify failed" in worker.log(), description="the worker says why")
    assert "ready." not in worker.log()
    assert "sentinel" not in worker.log() + ran.out + ran.err


def test_a_certificate_for_another_host_is_refused(
    make_world: Callable[..., World], tls_port: int, authorities: tuple[Path, Path, Path]
) -> None:
    world = make_world(redis_url=f"rediss://localhost:{tls_port}/0?ssl_ca_certs={authorities[0]}")
    with pytest.raises(LedgerError, match="certificate verify failed"):
        world.launcher.account()
    with make_app(world.settings) as app, pytest.raises(Exception, match="certificate verify failed"):
        send_wake_up(app, world.settings)
