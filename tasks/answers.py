"""How one call to the cloud's API came back, before anybody judges it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that was read to its end.

    `retry_after` is the `Retry-After` header in seconds, None where it is absent or not understood.
    The body is left out of `repr`: a login's answer carries a token.
    """

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None = None

    def document(self) -> dict[str, Any]:
        """The body, where it is a JSON object; empty where it is anything else."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}


@dataclass(frozen=True)
class NoAnswer:
    """No answer that can be read. `sent` is False only where it is certain that no byte of the request left.

    `reason` is for people, with no secret in it: `connection refused by 127.0.0.1:9`.
    """

    sent: bool
    reason: str


Reply = Answer | NoAnswer
