"""What the end of an attempt means: one table, and the one function that reads an answer by it.

The API's document gives no HTTP status for any answer, so the body is judged before the status. Where neither
settles the matter, the verdict is `unknown`: an instance may have been bought.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tasks.answers import Answer, NoAnswer, Reply


class Verdict(StrEnum):
    """What the end of one attempt means."""

    CREATED = "created"
    """An `instanceId` came back."""
    REJECTED = "rejected"
    """The API said no, in a `message` that is none of the below."""
    AUTH_EXPIRED = "auth"
    """`code` -1, or HTTP 401: the token is not taken (any more)."""
    THROTTLED = "throttled"
    """HTTP 429: too many calls."""
    NO_CAPACITY = "capacity"
    """The message matches the capacity rules."""
    BLOCKED = "balance"
    """The message matches the balance rules: no call of this account can succeed for now."""
    NOT_SENT = "transient"
    """No byte of the request left."""
    UNKNOWN = "unknown"
    """Everything else once the first byte may have left."""


CAPACITY_RULES: Final = (
    r"库存不足|资源不足|已售罄|售罄|暂无(可用)?(资源|库存)|无可用(资源|库存)|无库存",
    r"sold[ -]?out|out of (stock|capacity)|no (available )?(stock|capacity)|insufficient (stock|capacity|resources?)",
)
"""What a sold-out answer may look like. The real texts are not documented, so users can add to these."""

BALANCE_RULES: Final = (
    r"余额不足|账户欠费|已欠费|请.{0,4}充值",
    r"insufficient (account )?(balance|funds|credits?)|(account|balance) (is )?(in arrears|overdrawn)",
)
"""What an answer may look like that says that the account cannot pay. Users can add to these too."""


@dataclass(frozen=True)
class MessageRules:
    """Which messages mean "sold out" and which mean "the account cannot pay"; case does not count."""

    capacity: tuple[re.Pattern[str], ...]
    balance: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, capacity: Iterable[str] = (), balance: Iterable[str] = ()) -> MessageRules:
        """The default rules and, beside them, these regular expressions (re.error where one is not valid)."""
        return cls(_compiled((*CAPACITY_RULES, *capacity)), _compiled((*BALANCE_RULES, *balance)))


def _compiled(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    # Not joined into one: flags, groups and references of one would be errors, or mean something else, beside others.
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


def _any_matches(patterns: Iterable[re.Pattern[str]], message: str) -> bool:
    # A rule that matches the empty text must not make an answer without a message a harmless one.
    return bool(message) and any(pattern.search(message) for pattern in patterns)


DEFAULT_RULES: Final = MessageRules.of()


@dataclass(frozen=True)
class Judgement:
    """A verdict and what goes with it.

    `message` is the API's own text, unchanged, wherever there is one; `retry_after` is in seconds.
    """

    verdict: Verdict
    message: str = ""
    instance_id: str = ""
    retry_after: float | None = field(default=None)


def judge(reply: Reply, rules: MessageRules = DEFAULT_RULES) -> Judgement:
    """What this reply to a create call means. Total: every reply has a verdict."""
    if isinstance(reply, NoAnswer):
        return Judgement(Verdict.UNKNOWN if reply.sent else Verdict.NOT_SENT, reply.reason)
    document = reply.document()
    if instance_id := _text(document, "instanceId"):
        return Judgement(Verdict.CREATED, instance_id=instance_id)
    message = _text(document, "message")
    verdict = _verdict(reply.status, is_login_error(reply.status, document), message, rules)
    if verdict is Verdict.UNKNOWN:
        message = f"{_description(reply)}: {message}" if message else _description(reply)
    return Judgement(
        verdict, message or f"HTTP {reply.status} without a message", retry_after=reply.retry_after
    )


def is_login_error(status: int, document: dict[str, Any]) -> bool:
    """Whether an answer says that the token is not taken."""
    code = document.get("code")
    return status == 401 or (code == -1 and not isinstance(code, bool))


def _verdict(status: int, login_error: bool, message: str, rules: MessageRules) -> Verdict:
    if login_error:
        return Verdict.AUTH_EXPIRED
    if status == 429:
        return Verdict.THROTTLED
    if _any_matches(rules.capacity, message):
        return Verdict.NO_CAPACITY
    if _any_matches(rules.balance, message):
        return Verdict.BLOCKED
    if message and status < 500:
        return Verdict.REJECTED
    return Verdict.UNKNOWN


def _text(document: dict[str, Any], name: str) -> str:
    """A field's text; empty where it is absent, blank or no text."""
    value = document.get(name)
    if not isinstance(value, str) or not value.strip():
        return ""
    # JSON may escape half a character, which nothing can store or show: that half stays as it was spelled.
    return value.encode(errors="backslashreplace").decode()


def _description(answer: Answer) -> str:
    if answer.status >= 500:
        return f"the API answered HTTP {answer.status}"
    return f"the API's answer cannot be read (HTTP {answer.status}, {len(answer.body)} bytes)"


def message_of(reply: Reply) -> str:
    """What a reply says, in words, for calls that have no verdict (a login, a probe)."""
    if isinstance(reply, NoAnswer):
        return reply.reason
    return _text(reply.document(), "message") or _description(reply)
