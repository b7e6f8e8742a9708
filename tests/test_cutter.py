"""The cut network of the tests does what it says."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import redis as redis_client

from cutter import Cutter
from harness import wait_until
from sandbox.redis_server import RedisServer


@pytest.fixture
def network(redis: RedisServer) -> Iterator[Cutter]:
    with Cutter(redis.url) as made:
        yield made


def client_of(network: Cutter, **options: object) -> redis_client.Redis:
    return redis_client.Redis.from_url(network.url, retry=None, socket_timeout=0.3, **options)


def test_it_passes_everything_on(network: Cutter) -> None:
    with client_of(network) as client:
        big = b"x" * 3_000_000
        assert client.echo(big) == big
        assert network.passed > 2 * len(big)


def test_cut_it_resets_and_refuses_and_healed_it_passes_again(network: Cutter) -> None:
    with client_of(network) as client, socket.create_connection(_address(network)) as raw:
        assert client.ping()
        network.cut()
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(_address(network))
        network.heal()
        assert client.ping()


def test_a_black_hole_holds_back_what_arrives_when_it_is_healed(network: Cutter) -> None:
    with socket.create_connection(_address(network), timeout=0.3) as old:
        old.sendall(b"PING\r\n")
        assert old.recv(16) == b"+PONG\r\n"
        network.black_hole()
        with socket.create_connection(_address(network), timeout=0.3) as new:
            for one in (old, new):
                one.sendall(b"PING\r\n")
                with pytest.raises(TimeoutError):
                    one.recv(1)
            network.heal()
            for one in (old, new):
                one.settimeout(5)
                assert one.recv(16) == b"+PONG\r\n"


def test_what_was_reset_in_a_black_hole_never_arrives(network: Cutter, redis: RedisServer) -> None:
    from cutter import _RESET_ON_CLOSE

    with client_of(network) as client, redis_client.Redis.from_url(redis.url) as direct:
        direct.delete("late", "later")
        assert client.ping()
        network.black_hole()
        for name in ("late", "later"):
            sock = socket.create_connection(_address(network))
            sock.sendall(f"SET {name} 1\r\n".encode())
            if name == "late":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            sock.close()
        network.heal()
        wait_until(lambda: direct.get("later"), description="what was closed in good order arrives")
        assert direct.get("late") is None


def _address(network: Cutter) -> tuple[str, int]:
    from urllib.parse import urlsplit

    parts = urlsplit(network.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
