"""The pulse's own rhythm: what it does at which beat."""

from __future__ import annotations

import pytest

from harness import World, body, wait_until
from worker import pulse as pulse_module
from worker.pulse import Pulse


def test_what_is_to_be_forgotten_is_forgotten_a_lot_a_beat_until_nothing_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse_module, "TIDY_AT_ONCE", 2)
    world.set(retention="1s")
    ids = [world.launcher.submit(body(f"a-{number}")).id for number in range(5)]
    world.launcher.cancel(ids)
    ledger = world.launcher.ledger
    ended = world.launcher.account().now
    wait_until(
        lambda: (world.launcher.account().now - ended).total_seconds() > 1.1,
        description="the retention is over",
    )
    pulse = Pulse(world.settings, wake_up=lambda: None)
    left = []
    for _ in range(4):
        pulse._beat()
        left.append(len(ledger.list_jobs(limit=0)))
    pulse._ledger.close()
    assert left == [3, 1, 0, 0]
