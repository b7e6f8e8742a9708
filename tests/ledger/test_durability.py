"""How a Redis writes to its disk, told from what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.durability import Durability


@pytest.mark.parametrize(
    ("version", "aof", "fsync", "expected"),
    [
        ("7.4.1", 0, "always", Durability.NONE),
        ("6.2.14", 1, "always", Durability.ALWAYS),
        ("7.4.1", 1, "always", Durability.ALWAYS),
        ("7.2.4", 1, "everysec", Durability.AWAITED),
        ("8.0", 1, "everysec", Durability.AWAITED),
        ("10.0.1", 1, "everysec", Durability.AWAITED),
        ("7.0.15", 1, "everysec", Durability.LAGGING),
        ("6.2.14", 1, "everysec", Durability.LAGGING),
        ("7.4.1", 1, "no", Durability.NEVER),
        ("7.4.1", 1, None, Durability.AWAITED),
        ("7.0.15", 1, None, Durability.UNKNOWN),
    ],
)
def test_the_table(version: str, aof: int, fsync: str | None, expected: Durability) -> None:
    information: dict[str, Any] = {"redis_version": version, "aof_enabled": aof}
    assert Durability.of(information, fsync) is expected


def test_whatever_may_lose_a_call_says_so_and_what_to_set() -> None:
    for durability in (Durability.LAGGING, Durability.NEVER, Durability.NONE):
        assert "create calls that were made" in durability.value
        assert "appendfsync always" in durability.value
