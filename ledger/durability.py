"""How a Redis writes to its disk, and what could be lost: one table, for those who wait for it and those who tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

WAITAOF_SINCE: Final = (7, 2)
"""The version of Redis that brought WAITAOF. Valkey tells Redis' version beside its own."""


class Durability(Enum):
    """What a confirmed write means. Each value is for people: what is lost when the machine, not just Redis, goes down."""

    ALWAYS = "append-only file, written out at every change: nothing is lost"
    AWAITED = (
        "append-only file, written out about once a second, and waited for before any create call: the last second may be "
        "lost, but no call that was made. What was submitted in that second may have to be submitted again; set "
        "appendfsync always for the rest, and for speed"
    )
    LAGGING = (
        "append-only file, written out about once a second, and this Redis cannot be asked to wait for it: the last second "
        "is lost, and with it create calls that were made; they would be made again. Set appendfsync always, or use Redis "
        "7.2 or later"
    )
    NEVER = (
        "append-only file with appendfsync no: as many seconds as the kernel likes are lost, and with them create calls "
        "that were made; they would be made again. Set appendfsync always"
    )
    NONE = (
        "no append-only file: when Redis stops, everything since its last snapshot is lost, and create calls that were made "
        "would be made again. Set appendonly yes and appendfsync always"
    )
    UNKNOWN = (
        "append-only file, but this Redis does not let appendfsync be read, and is too old to be asked to wait: make sure "
        "that it is always"
    )

    @classmethod
    def of(cls, information: Mapping[str, Any], fsync: str | None) -> Durability:
        """By what INFO says and CONFIG GET appendfsync, None where that is refused."""
        version = tuple(int(part) for part in str(information.get("redis_version", "0")).split(".")[:2])
        if not information.get("aof_enabled"):
            return cls.NONE
        if fsync == "always":
            return cls.ALWAYS
        if fsync == "no":
            return cls.NEVER
        if version >= WAITAOF_SINCE:
            return cls.AWAITED
        return cls.UNKNOWN if fsync is None else cls.LAGGING
