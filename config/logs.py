"""How much other libraries may say in our workers' logs."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """A line for every HTTP call would bury what matters: httpx speaks up only when something is wrong.

    At level debug Celery's pool logs every message with all that is in it, which may be secret: it never does here.
    """
    for name in ("httpx", "httpcore", "asyncio", "celery.pool"):
        logging.getLogger(name).setLevel(logging.WARNING)
