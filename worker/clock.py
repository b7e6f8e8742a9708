"""Time that passes while the machine sleeps, too: a lease does not wait for it."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds. Only differences count."""
    return time.clock_gettime(_CLOCK)
