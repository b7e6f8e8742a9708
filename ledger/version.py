"""The version mark: which reading of the ledger this code has.

Several versions of launchq may run on one ledger, while workers are replaced one by one. Every script carries its
version (scripts.py), and the ledger keeps the highest that has used it. A worker of a lower one then claims, expires
and forgets nothing more: it only writes down how its own calls in flight ended.
"""

from __future__ import annotations

LEDGER_VERSION = 3
"""Raise it by one when an older worker could misread what a newer one writes: a new state, a field that must be heeded.

No need for a field, a key or a script that an older worker does well without."""
