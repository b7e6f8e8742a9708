"""Who may use the board: named tokens, and the sessions of browsers that showed one.

Neither is kept: what is kept is its SHA-256. Both are 256 random bits, which no guessing finds, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

PASS_MARK = "lqb_"  # noqa: S105 (what all begin with)
"""What every token of a board begins with, so that whoever finds one knows what it is."""

SESSION_SECONDS = 12 * 3600
"""How long a browser stays logged in."""


@dataclass(frozen=True)
class Pass:
    """A token's name, and what it may do. `digest` tells it, and gives nothing away."""

    name: str
    full: bool
    created_at: datetime
    digest: str = field(repr=False)

    @classmethod
    def of(cls, name: str, kept: str) -> Pass:
        """As it is kept in Redis."""
        fields = json.loads(kept)
        created = datetime.fromtimestamp(fields["createdAt"] / 1000, UTC)
        return cls(name, bool(fields["full"]), created, fields["digest"])

    def kept(self) -> str:
        """As Redis keeps it."""
        created = round(self.created_at.timestamp() * 1000)
        return json.dumps({"full": self.full, "createdAt": created, "digest": self.digest})


def new_secret(mark: str = "") -> str:
    """A new token, or the id of a session."""
    return mark + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is kept of it."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def matching(kept: Mapping[str, str], digest: str) -> Pass | None:
    """The pass with this digest. Looks at all of them, whichever it is: how long that takes tells nothing."""
    found = None
    for name, text in kept.items():
        one = Pass.of(name, text)
        if hmac.compare_digest(one.digest, digest):
            found = one
    return found
