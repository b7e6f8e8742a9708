"""A ledger of its own for each test, on the test process' one Redis; what the test left behind is audited."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from ledger_box import Box
from sandbox.redis_server import RedisServer


@pytest.fixture
def box(redis: RedisServer) -> Iterator[Box]:
    """A ledger under a fresh prefix. After the test, everything in Redis must add up."""
    with Box(redis.url, f"t-{uuid.uuid4().hex}") as made:
        yield made
        made.audit()
