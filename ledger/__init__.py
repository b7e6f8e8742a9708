"""What is remembered: every Redis key, the scripts that change them, and the one door to both."""

from ledger.door import AsyncLedger, Ledger

__all__ = ["AsyncLedger", "Ledger"]
