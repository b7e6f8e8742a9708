"""Where notifications go: the addresses in `LAUNCHQ_NOTIFY`.

An address is a credential: whoever has it can write into the group behind it. So nothing here quotes one, and what may be
shown of it is its `mark`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from config.urls import is_local, split

SERVICES: Final = ("feishu", "dingtalk", "wecom", "slack", "json")

KINDS: Final = ("batchDone", "jobFailed", "needsPerson", "capacityArrived")
"""What can be told. The same names as in `tasks/notices.py`."""

_SIGNING: Final = {
    "feishu": "as the bot's page shows it",
    "dingtalk": "SEC..., as the robot's page shows it",
    "json": "whsec_ and 24 to 64 bytes in base64",
}
"""Service that checks a signature -> what its secret looks like."""


@dataclass(frozen=True)
class Address:
    """One address. `secret` signs what is sent to it; "" is unsigned."""

    service: str
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)

    @property
    def mark(self) -> str:
        """What stands for the address in Redis, logs and commands: nothing can be read back from it."""
        return f"{self.service}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"


def addresses_in(text: str) -> tuple[Address, ...]:
    """The addresses of a setting, separated by commas or white space. ValueError says which one is wrong, and quotes none."""
    found: list[Address] = []
    for number, part in enumerate(_parts(text), 1):
        try:
            address = _address(part)
        except ValueError as error:
            raise ValueError(f"address {number} {error}") from None
        if any(address.mark == other.mark for other in found):
            raise ValueError(f"address {number} is there twice")
        found.append(address)
    if not found:
        raise ValueError("must hold an address such as feishu:https://...")
    return tuple(found)


def kinds_in(text: str) -> tuple[str, ...]:
    """The kinds of notices that a setting names."""
    kinds = tuple(dict.fromkeys(_parts(text)))
    if not kinds or set(kinds) - set(KINDS):
        raise ValueError(f"must be one or several of {', '.join(KINDS)}, separated by commas")
    return kinds


def _parts(text: str) -> list[str]:
    return re.findall(r"[^\s,]+", text)


def _address(text: str) -> Address:
    service, _, rest = text.partition(":")
    if service not in SERVICES:
        raise ValueError(
            f"must begin with {', '.join(f'{one}:' for one in SERVICES[:-1])} or {SERVICES[-1]}:"
        )
    url, _, fragment = rest.partition("#")
    parts = split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"must go on with a URL: {service}:https://...")
    if parts.username or parts.password:
        raise ValueError("must hold no user name or password")
    if parts.scheme == "http" and not is_local(parts.hostname):
        raise ValueError(
            "must be https, since it is a secret and so is what is told; http is for localhost only"
        )
    return Address(service, url, _secret(service, fragment))


def _secret(service: str, fragment: str) -> str:
    if not fragment:
        return ""
    name, _, secret = fragment.partition("=")
    looks = _SIGNING.get(service)
    if looks is None:
        raise ValueError(f"must have nothing behind a #: {service} checks no signature")
    if name != "secret" or not secret or not (secret.isascii() and secret.isprintable()):
        raise ValueError(f"must have nothing behind its # but secret= and the secret, {looks}")
    if service == "json":
        _check_standard_secret(secret, looks)
    return secret


def _check_standard_secret(secret: str, looks: str) -> None:
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except binascii.Error:
        size = 0
    if not secret.startswith("whsec_") or not 24 <= size <= 64:
        raise ValueError(
            f"must have a secret like this: {looks}; `openssl rand -base64 32` makes what follows whsec_"
        )
