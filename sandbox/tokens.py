"""Who may call: accounts, access tokens and API keys."""

import math
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import jwt


@dataclass(frozen=True, slots=True)
class Token:
    """A login's answer: the JWT and its life in seconds (whole where it is whole)."""

    access_token: str
    access_expire: float

    def as_json(self) -> dict[str, str | float]:
        """The body of the login answer."""
        life = (
            int(self.access_expire) if self.access_expire == int(self.access_expire) else self.access_expire
        )
        return {"accessToken": self.access_token, "accessExpire": life}


class TokenOffice:
    """Issues tokens and remembers which of them are good.

    ``exp`` inside a JWT has whole seconds, which is too coarse for tokens that live three of them: what counts is this
    register, which ends a token exactly ``life`` seconds after its issue, by a clock that nobody sets.
    """

    def __init__(
        self,
        username: str,
        password: str,
        *,
        life: float,
        api_keys: Iterable[str] = (),
        single_session: bool = False,
    ) -> None:
        self.username = username
        self.password = password
        self.life = life
        self.api_keys = frozenset(api_keys)
        self.single_session = single_session
        self.logins_ok = 0
        self.logins_refused = 0
        self._ends: dict[str, float] = {}
        self._key = uuid.uuid4().hex

    def login(self, username: object, password: object) -> Token | None:
        """A new token, or None for a wrong name or password."""
        if (username, password) != (self.username, self.password):
            self.logins_refused += 1
            return None
        self.logins_ok += 1
        if self.single_session:
            self.revoke()
        return self.mint()

    def mint(self, life: float | None = None) -> Token:
        """A token as it would be pasted from the console; ``life`` in seconds, else that of every token."""
        life = self.life if life is None else life
        issued = int(time.time())
        claims = {
            "sub": self.username,
            "iat": issued,
            "exp": issued + max(1, math.ceil(life)),
            "jti": uuid.uuid4().hex,
        }
        access_token = jwt.encode(claims, self._key, algorithm="HS256")
        self._ends[access_token] = time.monotonic() + life
        return Token(access_token, life)

    def revoke(self) -> int:
        """End all tokens now; how many there were."""
        count = len(self._ends)
        self._ends.clear()
        return count

    def admits(self, cookie: str | None, api_key: str | None) -> bool:
        """Whether a request with these headers (``Cookie`` and ``X-API-Key``) is let in."""
        if api_key is not None and api_key in self.api_keys:
            return True
        token = _access_token(cookie)
        return token is not None and time.monotonic() < self._ends.get(token, 0.0)


def _access_token(cookie: str | None) -> str | None:
    for part in (cookie or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "AccessToken":
            return value
    return None
