"""A fleet of a thousand, interrupted in every way half-way, ends with exactly a thousand instances."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable

from harness import World, body, wait_until
from sandbox import CloudOptions
from sandbox.catalogue import REGION_ID
from tasks.states import ENDS, State

TOTAL = 1000
REGIONS = [REGION_ID, "fce31a0c-0000-4000-8000-000000000001"]


def fleet() -> str:
    """1,000 instances: a matrix of two regions and two durations with 200 copies, one launch with changes of its own, and some."""
    return json.dumps(
        {
            "batch": "thousand",
            "defaults": body("x"),
            "launches": [
                {
                    "name": "m-{region}-{duration}-{index:03}",
                    "matrix": {"region": REGIONS, "billing.duration": [1, 2]},
                    "billing": {"chargeMode": "perDay"},
                    "count": 200,
                },
                {"name": "spot-{index}", "count": 150, "isSpotInstance": True, "retry": {"until": "1h"}},
                {
                    "name": "named",
                    "count": 50,
                    "uniqueNames": True,
                    "billing": {"chargeMode": "perDay", "duration": 3},
                },
            ],
        }
    )


class Counting(threading.Thread):
    """Reads the batch's counts over and over, from when it begins until it is stopped."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self._launcher = world.launcher
        self._over = threading.Event()
        self.sums: list[tuple[int, int]] = []

    def run(self) -> None:
        while not self._over.wait(0.02):
            batch = self._launcher.batch("thousand")
            self.sums.append((sum(batch.counts.values()), batch.total))

    def stop(self) -> None:
        self._over.set()
        self.join()


def test_it_ends_with_exactly_a_thousand(make_world: Callable[..., World]) -> None:
    world = make_world(CloudOptions(latency=0.03, list_delay=0.0), verify_delays="0.3,0.6", request_timeout=2)
    (world.folder / "fleet.json").write_text(fleet(), encoding="utf-8")
    assert len(world.run("plan", "fleet.json", "--json").document["jobs"]) == TOTAL
    first = world.worker(processes=1)
    entered = world.run("submit", "fleet.json", "--yes", "--json").document["jobs"]
    assert Counter(job["duplicate"] for job in entered) == {False: TOTAL}
    counting = Counting(world)
    counting.start()

    def ended() -> int:
        return sum(world.launcher.batch("thousand").counts[state] for state in ENDS)

    wait_until(lambda: ended() > 100, description="some have been launched")
    first.kill_all()
    again = world.run("submit", "fleet.json", "--yes", "--json").document["jobs"]
    assert Counter(job["duplicate"] for job in again) == {True: TOTAL}
    second = world.worker(processes=1)
    wait_until(lambda: ended() > 500, timeout=60, description="half of them have been launched")
    second.signal(signal.SIGTERM)
    second.wait(timeout=20)
    world.worker(processes=2)
    assert world.run("wait", "thousand", "--timeout", "100s", "--json").code == 0
    counting.stop()
    assert world.launcher.batch("thousand").counts[State.SUCCEEDED] == TOTAL
    created = world.names_created()
    assert len(created) == len(set(created)) == TOTAL
    assert len(counting.sums) > 20
    assert set(counting.sums) == {(TOTAL, TOTAL)}, "the counts add up at every moment"
