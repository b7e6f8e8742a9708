"""Secrets at rest: request bodies and tokens are sealed on their way into Redis, and opened on their way out.

Sealed text is a Fernet token behind a prefix, so that a ledger may hold sealed and plain records side by side. Without
keys nothing is sealed, and cryptography is not even loaded.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tasks.errors import SealedError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

SEALED = "sealed:"
"""What sealed text begins with. Neither a request body nor a token that any cloud would make does."""


class Vault:
    """Seals with the newest key (the first), opens with any. `keys` are Fernet keys; their form was checked with the settings.

    Safe to share between threads. The keys are not in `repr`.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._keys = tuple(keys)
        # Derived keys: nothing that a digest gives away is worth anything for opening.
        self._marks = [hmac.digest(key.encode(), b"launchq: digest of a request", "sha256") for key in keys]

    @property
    def seals(self) -> bool:
        """Whether there is a key."""
        return bool(self._keys)

    @cached_property
    def _fernet(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self._keys])

    def seal(self, text: str) -> str:
        """The text as it goes into Redis."""
        return SEALED + self._fernet.encrypt(text.encode()).decode() if self._keys else text

    def open(self, text: str) -> str:
        """What was sealed; text that is not sealed, unchanged. SealedError where no key fits."""
        if not text.startswith(SEALED):
            return text
        if not self._keys:
            raise SealedError("this is sealed, and no LAUNCHQ_SECRET_KEY is set here")
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(text.removeprefix(SEALED)).decode()
        except (InvalidToken, ValueError):  # ValueError: no ASCII before, or no UTF-8 after
            raise SealedError("this is sealed with a key that is not in LAUNCHQ_SECRET_KEY here") from None

    def open_or_none(self, text: str) -> str | None:
        """As `open`; None where no key fits."""
        try:
            return self.open(text)
        except SealedError:
            return None

    def mark(self, text: str) -> str:
        """A short name for a text, which gives nothing away of it where there are keys; it changes with the newest key."""
        data = text.encode()
        digest = hmac.digest(self._marks[0], data, "sha256") if self._keys else hashlib.sha256(data).digest()
        return digest[:12].hex()

    def digests(self, text: str) -> tuple[str, ...]:
        """What tells a sealed text from another without opening either; empty without keys, when the texts can be compared.

        One under each key, the newest first, and last the one of the plain text. The first belongs beside the sealed text. Any
        of them says that it is the same text: sealing the same one twice does not give the same, and keys change.
        """
        if not self._keys:
            return ()
        data = text.encode()
        keyed = tuple(hmac.digest(mark, data, "sha256").hex() for mark in self._marks)
        # SHA-1 because Lua in Redis has no other: it makes this one of a record that was never sealed.
        return (*keyed, hashlib.sha1(data, usedforsecurity=False).hexdigest())


PLAIN = Vault()
"""Seals nothing."""
