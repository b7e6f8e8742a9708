"""What a token is fit for, and what a JWT says of itself: unverified, since only the cloud can verify it."""

from __future__ import annotations

import re
from typing import Any

import jwt

# What a cookie's value may hold, RFC 6265 4.1.1. A JWT and any sane key are within it; anything else could end the
# value, or the header, and begin another one.
_SAFE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")


def fits_a_header(value: str) -> bool:
    """Whether a token or key can travel in a header as it is."""
    return _SAFE.fullmatch(value) is not None


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
