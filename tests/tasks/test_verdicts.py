"""What the end of an attempt means: a row for each case, and what holds for every answer there can be."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.answers import Answer, NoAnswer
from tasks.verdicts import MessageRules, Verdict, is_login_error, judge, message_of

NO_FIELD = '字段 "instanceConfiguration.enableDocker" 未设置'
EXPIRED = "未登录或登录已过期,请重新登录"
INSTANCE = "notebook-78d36d6a-3c5c-4a9a-9d0f-0d5d8b2d8f4e"
ANY_STATUS = [200, 201, 202, 301, 400, 401, 402, 403, 404, 409, 422, 429, 500, 502, 503, 504, 599]
HARMLESS = set(Verdict) - {Verdict.CREATED, Verdict.UNKNOWN}
"""After these, launchq makes another call, or says that no instance exists."""


def answer(status: int, document: Any, retry_after: float | None = None) -> Answer:
    return Answer(status, json.dumps(document, ensure_ascii=False).encode(), retry_after)


@pytest.mark.parametrize("status", ANY_STATUS)
def test_an_instance_id_is_an_instance_whatever_the_status(status: int) -> None:
    judgement = judge(answer(status, {"instanceId": INSTANCE, "message": "sold out", "code": -1}))
    assert (judgement.verdict, judgement.instance_id, judgement.message) == (Verdict.CREATED, INSTANCE, "")


@pytest.mark.parametrize("value", ["", "  ", "\n", None, 0, 17, True, ["a"], {"a": 1}])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_what_is_no_id_is_no_instance(status: int, value: Any) -> None:
    judgement = judge(answer(status, {"instanceId": value}))
    assert (judgement.verdict, judgement.instance_id) == (Verdict.UNKNOWN, "")


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 409, 422])
@pytest.mark.parametrize("message", [NO_FIELD, "quota exceeded", " 名称 \t重复 ", "ent: instance not found"])
def test_an_ordinary_message_is_a_rejection_letter_for_letter(status: int, message: str) -> None:
    judgement = judge(answer(status, {"message": message}))
    assert (judgement.verdict, judgement.message) == (Verdict.REJECTED, message)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_an_ordinary_message_of_a_server_error_settles_nothing(status: int) -> None:
    judgement = judge(answer(status, {"message": "context deadline exceeded"}))
    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.message == f"the API answered HTTP {status}: context deadline exceeded"


@pytest.mark.parametrize("status", [200, 400, 403, 500, 503])
def test_code_minus_one_is_an_expired_login_whatever_the_status(status: int) -> None:
    judgement = judge(answer(status, {"code": -1, "message": EXPIRED}))
    assert (judgement.verdict, judgement.message) == (Verdict.AUTH_EXPIRED, EXPIRED)


@pytest.mark.parametrize(
    "body", [b"", b"<html>401</html>", b'{"message": "sold out"}', b'{"code": 0}', b"[]"]
)
def test_401_is_an_expired_login_whatever_the_body(body: bytes) -> None:
    assert judge(Answer(401, body)).verdict is Verdict.AUTH_EXPIRED


@pytest.mark.parametrize("code", [0, 1, -2, "-1", None, True, False, [-1]])
def test_another_code_says_nothing_of_the_login(code: Any) -> None:
    assert judge(answer(200, {"code": code, "message": NO_FIELD})).verdict is Verdict.REJECTED
    assert not is_login_error(200, {"code": code})


@pytest.mark.parametrize("retry_after", [None, 0.0, 7.0])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"message": "slow down"}'])
def test_429_is_a_throttle_and_keeps_the_time_asked_for(body: bytes, retry_after: float | None) -> None:
    judgement = judge(Answer(429, body, retry_after))
    assert (judgement.verdict, judgement.retry_after) == (Verdict.THROTTLED, retry_after)


CAPACITY = [
    "库存不足", "该规格资源不足,请稍后再试", "该机型已售罄", "售罄", "暂无资源", "暂无可用资源", "暂无库存", "无可用库存", "无库存",
    "Sold out", "SOLD-OUT", "soldout", "out of stock", "Out Of Capacity", "no stock", "no available capacity",
    "insufficient capacity", "Insufficient resources in region", "insufficient stock",
]  # fmt: skip
BALANCE = [
    "余额不足", "账户余额不足,请充值", "账户欠费", "您的账户已欠费", "请先充值", "请及时充值",
    "Insufficient balance", "insufficient account balance", "insufficient funds", "INSUFFICIENT CREDITS",
    "account is in arrears", "Account overdrawn", "balance is overdrawn",
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 400, 403, 500, 503])
@pytest.mark.parametrize("message", CAPACITY)
def test_capacity_messages_count_at_any_status(status: int, message: str) -> None:
    judgement = judge(answer(status, {"message": message}))
    assert (judgement.verdict, judgement.message) == (Verdict.NO_CAPACITY, message)


@pytest.mark.parametrize("status", [200, 400, 402, 500, 503])
@pytest.mark.parametrize("message", BALANCE)
def test_balance_messages_count_at_any_status(status: int, message: str) -> None:
    judgement = judge(answer(status, {"message": message}))
    assert (judgement.verdict, judgement.message) == (Verdict.BLOCKED, message)


@pytest.mark.parametrize(
    "message", ["stock photo", "the region is out", "insufficient permissions", "balanced"]
)
def test_a_message_that_only_resembles_them_is_a_rejection(message: str) -> None:
    assert judge(answer(200, {"message": message})).verdict is Verdict.REJECTED


UNREADABLE = {
    "empty": b"",
    "blank": b" \n",
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "text": b"sold out",
    "garbage": b"\xff\xfe\x00\x80\x81",
    "half": b'{"message": "sold ou',
    "array": b'[{"message": "sold out"}]',
    "string": b'"sold out"',
    "number": b"-1",
    "null": b"null",
    "not a number": b"NaN",
    "empty object": b"{}",
    "other fields": b'{"error": "sold out", "msg": "no"}',
    "message is a number": b'{"message": 17}',
    "message is an object": b'{"message": {"text": "sold out"}}',
    "message is blank": b'{"message": "  "}',
    "deep": b'{"message": ' + b"[" * 200_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "long number": b'{"code": ' + b"9" * 10_000 + b"}",
    "huge": b"x" * 5_000_000,
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("status", [200, 400, 404, 413, 500, 502, 504])
def test_an_answer_that_cannot_be_read_is_unknown(status: int, body: bytes) -> None:
    judgement = judge(Answer(status, body))
    assert judgement.verdict is Verdict.UNKNOWN
    assert f"HTTP {status}" in judgement.message
    assert len(judgement.message) < 200


def test_no_answer_is_harmless_only_where_nothing_was_sent() -> None:
    refused = judge(NoAnswer(sent=False, reason="connection refused by 127.0.0.1:9"))
    assert (refused.verdict, refused.message) == (Verdict.NOT_SENT, "connection refused by 127.0.0.1:9")
    reset = judge(NoAnswer(sent=True, reason="the connection was reset"))
    assert (reset.verdict, reset.message) == (Verdict.UNKNOWN, "the connection was reset")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(-1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from(["instanceId", "message", "code", "error"]), JSON, max_size=4)
BODIES = st.binary(max_size=60) | (FIELDS | JSON).map(lambda document: json.dumps(document).encode())
RULES = st.sampled_from(
    [
        MessageRules.of(),
        MessageRules.of(capacity=["gpu.*busy"], balance=["voucher"]),
        # Careless rules that match the empty text: they must not make an unreadable answer a readable one.
        MessageRules.of(capacity=["(busy)?"]),
        MessageRules.of(balance=["poor|"]),
        MessageRules.of(capacity=[".*"], balance=[".*"]),
    ]
)


def says_something(body: bytes) -> bool:
    """Whether the body is one that the document knows: an object with an id, a message or a login error."""
    try:
        document = json.loads(body)
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    texts = [document.get("instanceId"), document.get("message")]
    login_error = not isinstance(document.get("code"), bool) and document.get("code") == -1
    return login_error or any(isinstance(text, str) and text.strip() for text in texts)


@given(status=st.integers(100, 999), body=BODIES, retry_after=st.none() | st.floats(0, 1e9), rules=RULES)
def test_every_answer_has_a_verdict_and_no_unreadable_one_is_called_harmless(
    status: int, body: bytes, retry_after: float | None, rules: MessageRules
) -> None:
    judgement = judge(Answer(status, body, retry_after), rules)
    assert judgement.verdict in Verdict
    assert (judgement.verdict is Verdict.CREATED) == bool(judgement.instance_id)
    # These two statuses say by themselves that the call was turned away.
    if not says_something(body) and status not in {401, 429}:
        assert judgement.verdict not in HARMLESS
    if judgement.verdict is not Verdict.CREATED:
        assert judgement.message.strip()


@given(message=st.text(min_size=1).filter(str.strip), status=st.sampled_from([200, 400, 403, 422]))
def test_the_apis_own_text_is_never_changed(message: str, status: int) -> None:
    assert judge(answer(status, {"message": message})).message == message
    assert message_of(answer(status, {"message": message})) == message


@pytest.mark.parametrize(
    "body", [b'{"message": "half \\ud83d emoji"}', b'{"instanceId": "notebook-\\ud83d"}']
)
def test_text_that_no_encoding_can_hold_is_spelled_as_on_the_wire(body: bytes) -> None:
    """JSON may escape half a character; Redis, a terminal and a log could not write it down."""
    judgement = judge(Answer(400, body))
    assert "\\ud83d" in judgement.message + judgement.instance_id
    (judgement.message + judgement.instance_id + message_of(Answer(400, body))).encode()


class TestUsersRules:
    def test_they_stand_beside_the_defaults(self) -> None:
        rules = MessageRules.of(capacity=["gpu .* busy"], balance=["voucher"])
        for message, verdict in {
            "GPU pool BUSY": Verdict.NO_CAPACITY,
            "no voucher left": Verdict.BLOCKED,
            "sold out": Verdict.NO_CAPACITY,
            "余额不足": Verdict.BLOCKED,
            NO_FIELD: Verdict.REJECTED,
        }.items():
            assert (
                judge(
                    answer(500 if verdict in HARMLESS - {Verdict.REJECTED} else 200, {"message": message}),
                    rules,
                ).verdict
                is verdict
            )
        assert judge(answer(200, {"message": "GPU pool busy"})).verdict is Verdict.REJECTED

    def test_each_is_a_regular_expression_of_its_own(self) -> None:
        """What is valid alone stays valid beside others: flags, groups and references."""
        rules = MessageRules.of(
            capacity=["(?i)gpu busy", r"(?P<what>\w+) is gone", r"(?P<what>\w+) left", r"^(\w)\1\1$", "a|b$"]
        )
        for message in ("GPU Busy", "it is gone", "none left", "xxx", "b"):
            assert judge(answer(200, {"message": message}), rules).verdict is Verdict.NO_CAPACITY, message
        assert judge(answer(200, {"message": "xyz"}), rules).verdict is Verdict.REJECTED

    def test_one_that_is_not_valid_is_an_error(self) -> None:
        with pytest.raises(re.error):
            MessageRules.of(capacity=["(unclosed"])


def test_an_answers_body_is_not_shown() -> None:
    assert "secret" not in repr(Answer(200, b'{"accessToken": "secret"}'))


def test_what_a_reply_says_in_words() -> None:
    assert message_of(answer(403, {"message": "wrong password"})) == "wrong password"
    assert message_of(NoAnswer(True, "timed out")) == "timed out"
    assert message_of(Answer(502, b"<html>")) == "the API answered HTTP 502"
    assert message_of(Answer(200, b"abc")) == "the API's answer cannot be read (HTTP 200, 3 bytes)"
