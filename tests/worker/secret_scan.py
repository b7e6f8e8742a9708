"""Looks for secrets where none may be: in text, in everything that a Redis holds, and in what /proc tells of processes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import redis as redis_client


class Scan:
    """Knows the secrets by name, and in which disguises they may stand: as they are, URL-quoted, or inside base64."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._needles = {name: set(_disguises(secret)) for name, secret in secrets.items()}

    def found_in(self, text: str | bytes) -> set[str]:
        """The names of the secrets that stand in this text."""
        data = text.encode(errors="replace") if isinstance(text, str) else text
        return {name for name, needles in self._needles.items() if any(needle in data for needle in needles)}

    def found_in_redis(self, client: redis_client.Redis) -> dict[str, set[str]]:
        """Key -> secrets in its name or its value, for each key that holds one. `client` decodes nothing."""
        found = {}
        for key in client.scan_iter(count=1000):
            if names := self.found_in(b"\n".join((key, *_value(client, key)))):
                found[key.decode(errors="replace")] = names
        return found

    def found_in_processes(self, pids: Iterable[int], what: str) -> dict[int, set[str]]:
        """Process -> secrets in its `cmdline` or `environ`."""
        told = {pid: Path(f"/proc/{pid}/{what}").read_bytes() for pid in pids}
        assert all(told.values()), "a process that has ended tells nothing"
        return {pid: names for pid, text in told.items() if (names := self.found_in(text))}


def _disguises(secret: str) -> Iterable[bytes]:
    data = secret.encode()
    assert len(data) >= 12, "too short to be told from chance"
    yield data
    yield quote(secret, safe="").encode()
    for shift in range(3):
        # Inside longer base64, the first and the last characters depend on what stands around.
        coded = base64.b64encode(b"\0" * shift + data)
        inner = coded[(0, 2, 3)[shift] : len(coded) - (0, 3, 2)[(shift + len(data)) % 3]]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def _value(client: redis_client.Redis, key: bytes) -> list[bytes]:
    kind = client.type(key)
    if kind == b"hash":
        return [part for pair in client.hgetall(key).items() for part in pair]
    if kind == b"string":
        return [client.get(key) or b""]
    if kind == b"list":
        return list(client.lrange(key, 0, -1))
    if kind == b"set":
        return list(client.smembers(key))
    if kind == b"zset":
        return list(client.zrange(key, 0, -1))
    if kind == b"stream":
        return [part for _, fields in client.xrange(key) for pair in fields.items() for part in pair]
    assert kind == b"none", f"{key!r} is of a type that this does not read: {kind!r}"
    return []
