"""What a JWT says of itself. Unverified: only the cloud can verify it, and we only want to know when it ends."""

from __future__ import annotations

from typing import Any

import jwt


def read_claims(token: str) -> dict[str, Any]:
    """The claims of a JWT; empty for a token of another kind. `exp` and `iat` are numbers of seconds, or absent."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return {
        name: value
        for name, value in claims.items()
        if name not in {"exp", "iat"} or isinstance(value, int | float)
    }
