"""Fixtures for tests that need the world: one Redis for a whole test process, one prefix for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness import World
from sandbox import CloudOptions
from sandbox.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis that no test stops or fills."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def make_world(redis: RedisServer) -> Iterator[Callable[..., World]]:
    """Makes worlds on the shared Redis, each with a prefix of its own, and takes them down."""
    with ExitStack() as stack:

        def make(cloud: CloudOptions | None = None, **settings: object) -> World:
            return stack.enter_context(World(redis, cloud=cloud, **settings))

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """One world with a quick cloud."""
    return make_world()
