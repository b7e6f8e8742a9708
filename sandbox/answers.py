"""What the cloud says: one answer is a status and a body, ready to be written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

NOT_LOGGED_IN = "未登录或登录已过期,请重新登录"
"""Verbatim from the API's page of the create call."""
SOLD_OUT = "库存不足,请稍后重试"
"""Our guess: the real text is not documented."""
NO_BALANCE = "账户余额不足"
"""Our guess: the real text is not documented."""
TOO_MANY_REQUESTS = "请求过于频繁,请稍后重试"
"""Our guess: the real text is not documented."""
WRONG_PASSWORD = "用户名或密码错误"  # noqa: S105  # a message
"""Our guess: the real text is not documented."""
NO_SUCH_INSTANCE = "ent: instance not found"
"""From the API's page of the stop call."""
BAD_JSON = "请求体不是合法的 JSON 对象"

JSON_TYPE = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer before it is written to a connection."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """The answer as aiohttp writes it."""
        return web.Response(
            status=self.status, body=self.body, headers={"Content-Type": self.content_type, **self.headers}
        )

    def raw(self) -> bytes:
        """The answer's bytes on the wire, for faults that break it."""
        head = (
            f"HTTP/1.1 {self.status} Status\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """An answer that carries ``value`` as JSON."""
    return Answer(status, json.dumps(value, ensure_ascii=False).encode(), headers=headers)


def html_error(status: int) -> Answer:
    """An error page as a proxy in front of the API would send it."""
    page = f"<html>\r\n<head><title>{status}</title></head>\r\n<body><center><h1>{status}</h1></center><hr></body>\r\n</html>\r\n"
    return Answer(status, page.encode(), content_type="text/html")
