"""Keeps one good token for all workers: made once, renewed before it ends, made again when the API refuses it.

Which worker logs in, and how soon after the last time, is decided in the ledger (lua/login.lua): at most one at a
time, and ever fewer while logins bring nothing. While there is no token, claiming stops and no job fails for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from functools import cache
from typing import Protocol

from config import Settings
from ledger import AsyncLedger, calls
from ledger.calls import HeldToken
from tasks.answers import Answer, Reply
from tasks.verdicts import message_of
from worker.claims import read_claims
from worker.cloud import Credential
from worker.turns import TURN_SECONDS, kept

logger = logging.getLogger("launchq.tokens")

RENEW_AT = 0.1
"""A token is renewed when this part of its life is left, but not earlier than RENEW_SECONDS before its end."""
RENEW_SECONDS = 300.0

PATIENCE = 1.0
"""A turn that comes within this many seconds is waited for; a later one shows in `status` and is waited for there."""


class LoginClient(Protocol):
    """What this module needs of the cloud."""

    async def login(self, username: str, password: str) -> Reply:
        """One call to the login API."""


class TokenKeeper:
    """Gets tokens for one shift."""

    def __init__(self, settings: Settings, ledger: AsyncLedger, cloud: LoginClient) -> None:
        self._settings = settings
        self._ledger = ledger
        self._cloud = cloud

    def wants_renewal(self, held: HeldToken) -> bool:
        """Whether a good token ends so soon that the next one should be made now."""
        if held.left is None or held.life is None or not self._settings.can_log_in:
            return False
        return held.left <= min(RENEW_SECONDS, held.life * RENEW_AT)

    async def renew(self, held: HeldToken | None = None) -> bool:
        """Have another token than `held` in the ledger, by a login of this or another worker.

        False where there is none to be had now; the ledger then holds why. LedgerError where Redis is out of reach.
        """
        if not self._settings.can_log_in:
            await self._ledger.run(calls.block(_ADVICE))
            return False
        asker, credentials = uuid.uuid4().hex, fingerprint_of(self._settings)
        ask = calls.login_turn(
            asker, lasts=TURN_SECONDS, held_version=held.version if held else "", credentials=credentials
        )
        while True:
            turn, wait = await self._ledger.run(ask)
            if turn == "fresh":
                return True
            if turn == "go":
                async with kept(self._ledger, "login", asker):
                    return await self._log_in(asker, credentials)
            if wait > PATIENCE:
                if held is None:
                    message = "the last login brought no token that works"
                    await self._ledger.run(calls.block(message, credentials=credentials))
                return False
            await asyncio.sleep(wait)

    async def _log_in(self, asker: str, credentials: str) -> bool:
        password = self._settings.password.get_secret_value() if self._settings.password else ""
        reply = await self._cloud.login(self._settings.username, password)
        token, life = read_login(reply)
        if token:
            kept = calls.store_token(
                token,
                source="login",
                vault=self._ledger.vault,
                life=life,
                asker=asker,
                credentials=credentials,
            )
            await self._ledger.run(kept)
            logger.info("logged in as %s", self._settings.username)
            return True
        refused = isinstance(reply, Answer) and reply.status < 500
        message = (
            f"the login was refused: {message_of(reply)}" if refused else f"no login: {message_of(reply)}"
        )
        logger.error("%s", message)
        await self._ledger.run(calls.block(message, asker=asker, credentials=credentials, refused=True))
        return False


_ADVICE = (
    "there is no token that the API takes: run `launchq auth set-token`, or give the workers LAUNCHQ_USERNAME and "
    "LAUNCHQ_PASSWORD"
)


def read_login(reply: Reply) -> tuple[str, float | None]:
    """The token out of a login's answer and its life in seconds; an empty token where the answer has none."""
    if not isinstance(reply, Answer):
        return "", None
    try:
        document = json.loads(reply.body)
        token = document["accessToken"]
        Credential.token(token)  # refuses what cannot travel in a header
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", None
    expire = document.get("accessExpire")
    lives = (
        [float(expire)]
        if isinstance(expire, int | float) and not isinstance(expire, bool) and expire > 0
        else []
    )
    claims = read_claims(token)
    if claims.get("exp") and claims.get("iat"):
        lives.append(float(claims["exp"]) - float(claims["iat"]))
    return token, min((life for life in lives if life > 0), default=None)


@cache
def fingerprint_of(settings: Settings) -> str:
    """Tells one set of credentials from another without giving them away: slow to compute on purpose, so kept.

    Empty where there are none; an API key goes before a password, as it does in the calls.
    """
    secret = settings.api_key or settings.password
    if secret is None:
        return ""
    salt = f"launchq:{settings.username}".encode()
    return hashlib.scrypt(secret.get_secret_value().encode(), salt=salt, n=2**14, r=8, p=1, dklen=12).hex()
