"""Whether this worker is to stop: one byte that its main process and all its children share.

Celery tells only the main process to stop; a shift in a child would go on claiming until its time is up.
"""

from __future__ import annotations

import mmap
import os
import signal
from typing import Any

_flag = mmap.mmap(-1, 1)  # shared with every child that is forked after this
_parent: int | None = None


def ask(**_: Any) -> None:
    """Stop claiming, in every process of this worker."""
    _flag[0] = 1


def asked() -> bool:
    """Whether to stop. A child whose main process died has nobody to answer to, and stops too."""
    return _flag[0] == 1 or (_parent is not None and os.getppid() != _parent)


def settle_in(**_: Any) -> None:
    """In a new child: know the main process, and take a SIGTERM to the whole group as a wish, not as the end."""
    global _parent  # noqa: PLW0603 (one child is one process: its parent is a fact of the process)
    _parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: ask())
