"""Reading one page of the list of instances: what is understood, and that nothing is guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.answers import Answer, NoAnswer
from tasks.listing import Page, Unreadable, read_page


def answer(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def row(instance_id: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "instanceMetadata": {"instanceId": instance_id, **metadata},
        "instanceRuntimeInfo": {"status": "Running"},
    }


def test_a_page_says_which_instances_there_are_and_how_many_in_all() -> None:
    rows = [row("i-1", instanceName="训练"), row("i-2", name="b"), row("i-3", instanceName="")]
    page = read_page(
        answer({"instances": rows, "pager": {"currentPage": 1, "pageSize": 3, "totalEntries": 7}})
    )
    assert page == Page({"i-1": "训练", "i-2": "b", "i-3": ""}, 7)


@pytest.mark.parametrize("pager", [None, {}, {"totalEntries": "7"}, {"totalEntries": True}, 3])
def test_without_a_usable_total_it_is_not_known(pager: Any) -> None:
    assert read_page(answer({"instances": [], "pager": pager})) == Page({}, None)


def test_an_account_without_instances_may_answer_null() -> None:
    assert read_page(answer({"instances": None, "pager": {"totalEntries": 0}})) == Page({}, 0)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (NoAnswer(True, "no answer from x within 3 s"), "no answer from x"),
        (NoAnswer(False, "connection refused by x"), "refused"),
        (Answer(200, b"not json"), "cannot be read"),
        (answer([]), "cannot be read"),
        (answer({}), "cannot be read"),
        (answer({"instances": None}), "cannot be read"),
        (answer({"instances": {}}), "cannot be read"),
        (answer({"message": "系统繁忙"}), "系统繁忙"),
        (answer({"message": "404 page not found"}, 404), "HTTP 404: 404 page not found"),
        (answer({"instances": [], "pager": {}}, 500), "HTTP 500"),
        (answer({"instances": [row("i-1", instanceName="a"), 3]}), "no instanceMetadata"),
        (answer({"instances": [{}]}), "no instanceMetadata"),
        (answer({"instances": [row(None, instanceName="a")]}), "no instanceId"),
        (answer({"instances": [row("", instanceName="a")]}), "no instanceId"),
        (answer({"instances": [row("i-1")]}), "no instanceName"),
        (answer({"instances": [row("i-1", instanceName=None)]}), "no instanceName"),
    ],
)
def test_what_cannot_be_read_says_why(reply: Any, told: str) -> None:
    page = read_page(reply)
    assert isinstance(page, Unreadable)
    assert told in page.why
    assert not page.login
    assert not page.throttled


def test_a_token_that_is_not_taken_and_too_many_calls_are_told_apart() -> None:
    login = read_page(answer({"code": -1, "message": "未登录或登录已过期,请重新登录"}))
    assert login == Unreadable("未登录或登录已过期,请重新登录", login=True)
    assert read_page(answer({}, 401)) == Unreadable(
        "the API's answer cannot be read (HTTP 401, 2 bytes)", login=True
    )
    throttled = read_page(Answer(429, b'{"message":"slow"}', retry_after=7.0))
    assert throttled == Unreadable("slow", throttled=True, retry_after=7.0)
