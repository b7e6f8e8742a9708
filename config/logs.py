"""How much other libraries may say in our workers' logs."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """A line for every HTTP call would bury what matters: httpx speaks up only when something is wrong."""
    for name in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
