"""The scenarios, one a file. Each has a `SCENARIO`."""

from __future__ import annotations

from importlib import import_module

from bench.scenario import Scenario

NAMES = (
    "throughput",
    "many_in_flight",
    "submitting",
    "pick_up",
    "redis_memory",
    "claim_cost",
    "idle_worker",
    "sold_out",
    "pollers",
    "commands",
    "worker_memory",
    "scaling",
    "where_time_goes",
)


def scenario(name: str) -> Scenario:
    """The scenario of this name."""
    found: Scenario = import_module(f"bench.scenarios.{name}").SCENARIO
    return found
