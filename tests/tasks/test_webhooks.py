"""What each service is sent, and how its answers are read. The signatures were computed with `openssl dgst`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from config.addresses import KINDS as SETTINGS_KINDS
from config.addresses import SERVICES
from tasks.notices import KINDS, Notice, length, text_of, words
from tasks.webhooks import LANGUAGES, TEXT_LIMITS, Outcome, judge, post_for, standard_headers

NOW = 1_700_000_000
AT = datetime.fromtimestamp(NOW, UTC)
SECRET = "SECabc123"
WHSEC = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def notice(kind: str, count: int = 1, **facts: Any) -> Notice:
    return Notice(kind, count, AT, AT, facts)


FAILED = notice(
    "jobFailed",
    312,
    what="failed",
    batchId="nightly",
    jobs=[{"id": "id-1", "name": "trainer-01"}],
    reasons={"no such region": 12, "no such image": 299, '<at user_id="all">': 1},
)
ONE = notice(
    "needsPerson", what="uncertain", jobs=[{"id": "id-1", "name": "trainer-01"}], reasons={"seen two": 1}
)
DONE = notice(
    "batchDone",
    batchId="nightly",
    total=50,
    counts={"succeeded": 48, "failed": 2},
    begunAt=(NOW - 200) * 1000,
)
BLOCKED = notice("needsPerson", what="blocked", reason="balance", message="余额不足")
OPEN = notice("capacityArrived", lane="r/t/spot", waiting=40, since=(NOW - 7500) * 1000, message="sold out")
HELD = notice("needsPerson", what="held", batchId="nightly", failed=3)
FURTHER = notice("batchDone", 7, further=True)


@pytest.mark.parametrize(
    ("one", "english", "chinese"),
    [
        (
            FAILED,
            "312 jobs of batch nightly failed: no such image (and 2 other reasons)",
            "批次 nightly 中 312 个任务失败:no such image(另有 2 种原因)",
        ),
        (
            ONE,
            "job trainer-01 (id-1) is uncertain, a person must decide (launchq resolve): seen two",
            "任务 trainer-01(id-1)结果不明,需要人工确认(launchq resolve):seen two",
        ),
        (
            DONE,
            "batch nightly has ended after 3 min 20 s: 48 succeeded, 2 failed, of 50 jobs",
            "批次 nightly 已结束:48 成功、2 失败,共 50 个任务,用时 3 分 20 秒",
        ),
        (
            BLOCKED,
            "the account is blocked, nothing is launched: the balance does not suffice; top it up: 余额不足",
            "账号已停用,不再发起任何创建:余额不足,请充值:余额不足",
        ),
        (
            HELD,
            "batch nightly is held after 3 failures: look why, then launchq resume nightly",
            "批次 nightly 已有 3 个任务失败,其余任务已暂停;确认后执行 launchq resume nightly",
        ),
        (
            OPEN,
            "there is capacity again on r/t/spot, after 2 h 5 min; 40 more jobs wait",
            "r/t/spot 又有资源了(此前售罄 2 小时 5 分),还有 40 个任务在等待",
        ),
        (
            FURTHER,
            "7 more of batchDone, too many to be told one by one: see launchq list",
            "另有 7 条 batchDone 通知,因积压过多未逐条列出,见 launchq list",
        ),
    ],
)
def test_a_notice_in_words(one: Notice, english: str, chinese: str) -> None:
    assert (words(one, "en"), words(one, "zh")) == (english, chinese)


def test_settings_and_words_know_the_same_kinds_and_services() -> None:
    assert SETTINGS_KINDS == KINDS
    assert set(SERVICES) == set(LANGUAGES) == {*TEXT_LIMITS, "json"}


def test_a_message_is_never_longer_than_the_service_takes_and_begins_with_the_keyword() -> None:
    many = [notice("capacityArrived", lane="区" * 300, waiting=1, since=NOW * 1000) for _ in range(10)]
    text = text_of(many, "zh", prefix="other", limit=2000)
    assert len(text.encode()) <= 2000
    assert text.startswith("launchq (other):\n- ")
    assert len(text.splitlines()) == 11


def posted(service: str, secret: str = "", *notices: Notice, url: str = "https://h/x") -> Any:
    return post_for(service, url, secret, notices or [DONE], message_id="msg-1", now=NOW, prefix="launchq")


def test_feishu_is_signed_in_the_body_and_mentions_nobody() -> None:
    body = json.loads(posted("feishu", SECRET, FAILED).content)
    assert body["timestamp"] == str(NOW)
    assert body["sign"] == "UqhI0v4zAkSwI4hNYBuHQvnrAqshA0UaeBGHCUMPX70="
    assert body["msg_type"] == "text"
    only = notice("jobFailed", jobs=[{"id": "i", "name": '<at user_id="all">x</at>'}], reasons={"": 1})
    assert "<at" not in json.loads(posted("feishu", "", only).content)["content"]["text"]
    assert "sign" not in json.loads(posted("feishu").content)


def test_dingtalk_is_signed_in_the_query() -> None:
    post = posted("dingtalk", SECRET, url="https://h/send?access_token=t")
    assert post.url == (
        "https://h/send?access_token=t&timestamp=1700000000000"
        "&sign=N5P09a4%2Bp1AMJIJWnIvQd2Yxw9%2Bfu%2FoEBnPrjCcsLXk%3D"
    )
    assert json.loads(post.content)["msgtype"] == "text"
    assert posted("dingtalk").url == "https://h/x"


def test_slack_gets_its_entities() -> None:
    one = notice("jobFailed", jobs=[{"id": "i", "name": "a<b>&<!channel>"}], reasons={"": 1})
    assert "a&lt;b&gt;&amp;&lt;!channel&gt;" in json.loads(posted("slack", "", one).content)["text"]


def test_plain_json_is_signed_as_the_standard_says() -> None:
    headers = standard_headers(WHSEC, "msg-1", NOW, b'{"a":1}')
    assert headers["webhook-signature"] == "v1,9ebvBjX6zgbj7I5LCy0xwTs9sinq5o/cGRl13xLbjq0="
    # The example of the standard itself.
    example = standard_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert example["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert posted("json", WHSEC).headers["webhook-id"] == "msg-1"
    assert "webhook-signature" not in posted("json").headers


def test_plain_json_has_all_that_is_known() -> None:
    document = json.loads(posted("json", "", FAILED, DONE).content)
    assert document["timestamp"] == "2023-11-14T22:13:20.000Z"
    failed, done = document["data"]["notices"]
    assert failed["reasons"][0] == {"message": "no such image", "jobs": 299}
    assert (failed["count"], failed["batchId"], failed["jobs"]) == (
        312, "nightly", [{"id": "id-1", "name": "trainer-01"}],
    )  # fmt: skip
    assert done["begunAt"] == "2023-11-14T22:10:00.000Z"


@pytest.mark.parametrize(
    ("service", "status", "body", "outcome"),
    [
        ("json", 204, "", Outcome("sent")),
        ("json", 302, "", Outcome("refused", "HTTP 302, a redirect, which is not followed")),
        ("json", 404, "secret words", Outcome("refused", "HTTP 404")),
        ("json", 429, "", Outcome("later", "HTTP 429", 7.0)),
        ("json", 503, "", Outcome("later", "HTTP 503", 7.0)),
        ("slack", 200, "ok", Outcome("sent")),
        ("slack", 404, "no_service", Outcome("refused", "HTTP 404: no_service")),
        ("feishu", 200, '{"code":0,"msg":"success"}', Outcome("sent")),
        ("feishu", 200, '{"StatusCode":0,"StatusMessage":"success"}', Outcome("sent")),
        ("feishu", 200, '{"code":19021,"msg":"sign match fail"}', Outcome("refused", "code 19021: sign match fail")),
        ("feishu", 200, '{"code":11232,"msg":"limited"}', Outcome("later", "code 11232: limited")),
        ("feishu", 400, '{"code":11232,"msg":"limited"}', Outcome("later", "HTTP 400: limited", 7.0)),
        ("dingtalk", 200, '{"errcode":0,"errmsg":"ok"}', Outcome("sent")),
        ("dingtalk", 200, '{"errcode":310000,"errmsg":"sign not match"}', Outcome("refused", "code 310000: sign not match")),
        ("dingtalk", 200, '{"errcode":130101,"errmsg":"send too fast"}', Outcome("later", "code 130101: send too fast")),
        ("wecom", 200, '{"errcode":45009,"errmsg":"api freq out of limit"}', Outcome("later", "code 45009: api freq out of limit")),
        ("wecom", 200, '{"errcode":93000,"errmsg":"invalid webhook url"}', Outcome("refused", "code 93000: invalid webhook url")),
        ("wecom", 200, "<html>", Outcome("refused", "HTTP 200 with an answer that is not wecom's")),
    ],
)  # fmt: skip
def test_what_an_answer_means(service: str, status: int, body: str, outcome: Outcome) -> None:
    retry_after = 7.0 if outcome.retry_after else None
    assert judge(service, status, body.encode(), retry_after) == outcome


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (90061, "1 d 1 h"), (-5, "0 s")]
)
def test_a_length_of_time_for_people(seconds: float, said: str) -> None:
    assert length(seconds, "en") == said
