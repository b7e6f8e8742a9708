"""One open board and one that takes tokens, for a whole test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from board_world import Served, served

from sandbox.redis_server import RedisServer


@pytest.fixture(scope="module")
def board(redis: RedisServer) -> Iterator[Served]:
    """For this machine alone, without tokens."""
    with served(redis) as made:
        yield made


@pytest.fixture(scope="module")
def closed(redis: RedisServer) -> Iterator[Served]:
    """Every request needs a token."""
    with served(redis, is_open=False) as made:
        yield made
