"""The webhooks of five services: what is sent to each, and what its answer means.

Formats as the services document them:

- Feishu, custom bot: https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot. The signature stands in the body:
  HMAC-SHA256 of nothing, under `timestamp + "\\n" + secret`, in base64; seconds. `code` 0 is success. 100 messages a minute
  and 5 a second, 20 KB.
- DingTalk, custom robot: https://open.dingtalk.com/document/robots/custom-robot-access. The signature stands in the query:
  HMAC-SHA256 of `timestamp + "\\n" + secret` under the secret, in base64; milliseconds. `errcode` 0 is success. 20
  messages a minute, else none for ten minutes.
- WeCom, group robot: https://developer.work.weixin.qq.com/document/path/91770. No signature. `errcode` 0 is success. 20
  messages a minute, 2048 bytes of text.
- Slack, incoming webhook: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks. No signature; HTTP 200 is
  success, and its text is `ok`. One message a second. `&`, `<` and `>` are written as entities.
- Plain JSON: signed as https://www.standardwebhooks.com says; HTTP 2xx is success.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlencode

from tasks.jobs import rfc3339
from tasks.notices import Language, Notice, cut, text_of

LANGUAGES: Final[Mapping[str, Language]] = {
    "feishu": "zh",
    "dingtalk": "zh",
    "wecom": "zh",
    "slack": "en",
    "json": "en",
}
"""Service -> the language of our words in it."""

TEXT_LIMITS: Final = {"feishu": 10_000, "dingtalk": 10_000, "wecom": 2000, "slack": 3500}
"""Service -> bytes of text in one message, well within what it takes."""

PASSING: Final = {
    "feishu": {11232, 230020, 99991400},  # too many messages: of the bot, of the group, of the gateway
    "dingtalk": {-1, 130101, 90030},  # busy; too fast; too many
    "wecom": {-1, 45009, 45033},  # busy; too many; too many at once
}
"""Service -> codes in its answers that say "not now"."""


@dataclass(frozen=True)
class Post:
    """One HTTP POST, ready to be sent. The URL and the content are secret."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What came of a post: sent, to be tried later, or refused for good. `text` says why, in words that hold no address."""

    what: Literal["sent", "later", "refused"]
    text: str = ""
    retry_after: float | None = None


def post_for(
    service: str,
    url: str,
    secret: str,
    notices: Sequence[Notice],
    *,
    message_id: str,
    now: float,
    prefix: str,
) -> Post:
    """The POST that tells these notices. `now`: seconds since 1970, for the signature; the services want it within minutes."""
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if service == "json":
        content = _encoded(_plain_document(notices, prefix))
        if secret:
            headers |= standard_headers(secret, message_id, int(now), content)
        return Post(url, headers, content)
    text = text_of(notices, LANGUAGES[service], prefix=prefix, limit=TEXT_LIMITS[service])
    body: dict[str, Any]
    if service == "slack":
        body = {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    elif service == "feishu":
        body = {"msg_type": "text", "content": {"text": _without_mentions(text)}}
        if secret:
            body = {
                "timestamp": str(int(now)),
                "sign": feishu_signature(secret, int(now)),
                **body,
            }
    else:
        body = {"msgtype": "text", "text": {"content": _without_mentions(text)}}
        if service == "dingtalk" and secret:
            milliseconds = int(now * 1000)
            query = urlencode({"timestamp": milliseconds, "sign": dingtalk_signature(secret, milliseconds)})
            url += ("&" if "?" in url else "?") + query
    return Post(url, headers, _encoded(body))


def feishu_signature(secret: str, seconds: int) -> str:
    """The `sign` of a Feishu custom bot."""
    return _base64_hmac(f"{seconds}\n{secret}".encode(), b"")


def dingtalk_signature(secret: str, milliseconds: int) -> str:
    """The `sign` of a DingTalk custom robot, not yet quoted for a query."""
    return _base64_hmac(secret.encode(), f"{milliseconds}\n{secret}".encode())


def standard_headers(secret: str, message_id: str, seconds: int, content: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks. `secret` is `whsec_` and the key in base64."""
    signed = f"{message_id}.{seconds}.".encode() + content
    signature = _base64_hmac(base64.b64decode(secret.removeprefix("whsec_")), signed)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{signature}",
    }


def judge(service: str, status: int, body: bytes, retry_after: float | None) -> Outcome:
    """What an answer means. Whoever shows `text` takes the address out of it first: a service may quote it."""
    if status in (408, 425, 429) or status >= 500:
        return Outcome("later", f"HTTP {status}", retry_after)
    if not 200 <= status < 300:
        said = _said(body) if service in ("slack", *PASSING) else ""
        code = _code(service, body)
        if code is not None and code in PASSING.get(service, ()):
            return Outcome("later", f"HTTP {status}{said}", retry_after)
        hint = ", a redirect, which is not followed" if 300 <= status < 400 else said
        return Outcome("refused", f"HTTP {status}{hint}")
    if service not in PASSING:
        return Outcome("sent")
    code = _code(service, body)
    if code == 0:
        return Outcome("sent")
    if code is None:
        return Outcome("refused", f"HTTP {status} with an answer that is not {service}'s")
    return Outcome("later" if code in PASSING[service] else "refused", f"code {code}{_said(body)}")


def _code(service: str, body: bytes) -> int | None:
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    # Feishu's older bots answer with StatusCode.
    names = ("code", "StatusCode") if service == "feishu" else ("errcode",)
    return next((answer[name] for name in names if isinstance(answer.get(name), int)), None)


def _said(body: bytes) -> str:
    """The service's own words, of an answer that is not a success."""
    text = body.decode(errors="replace")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        text = str(answer.get("msg") or answer.get("errmsg") or answer.get("StatusMessage") or "")
    text = cut(" ".join(text.split()), 200)
    return f": {text}" if text else ""


def _plain_document(notices: Sequence[Notice], prefix: str) -> dict[str, Any]:
    return {
        "type": "launchq.notices",
        "timestamp": rfc3339(max(notice.last_at for notice in notices)),
        "data": {"prefix": prefix, "notices": [notice.document() for notice in notices]},
    }


def _without_mentions(text: str) -> str:
    """A name or a message that looks like a mention must not call a whole group to the scene."""
    return re.sub(r"<(?=\s*(?:at\b|@))", "< ", text, flags=re.IGNORECASE)


def _encoded(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _base64_hmac(key: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
