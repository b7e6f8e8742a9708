"""What is looked at in every URL that a setting holds. No error here quotes one: it may hold a password."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit


def split(url: str) -> SplitResult:
    """A URL in its parts; ValueError, which says what would be right, where it cannot be one."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its text quotes what may be a password
        raise ValueError("must be a URL, with brackets and the like in its password as %5B, %5D") from None
    try:
        possible = parts.port != 0  # asking is what checks it
    except ValueError:
        possible = False
    if not possible:
        raise ValueError("must have a port from 1 to 65535; a password's /, ?, # are %2F, %3F, %23")
    return parts


def is_local(host: str) -> bool:
    """Whether nobody but this machine can listen there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
