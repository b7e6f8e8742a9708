"""Whether this worker is to stop: one byte that its main process and all its children share.

Celery tells only the main process to stop; a shift in a child would go on claiming until its time is up.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_flag = mmap.mmap(-1, 1)  # shared with every child that is forked after this
_parent: int | None = None


def ask(**_: Any) -> None:
    """Stop claiming, in every process of this worker."""
    _flag[0] = 1


def asked() -> bool:
    """Whether to stop. A child whose main process died has nobody to answer to, and stops too."""
    return _flag[0] == 1 or (_parent is not None and os.getppid() != _parent)


def note_parent(**_: Any) -> None:
    """In a new child: know the main process."""
    global _parent  # noqa: PLW0603 (one child is one process: its parent is a fact of the process)
    _parent = os.getppid()


@contextmanager
def patience() -> Iterator[None]:
    """While calls are in flight, a SIGTERM is a wish to stop, not the end: some tools send it to the whole group."""
    before = signal.signal(signal.SIGTERM, lambda *_: ask())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
