"""The catalogue as it may answer: what is there is read, what is not is unknown; and what a submission comes to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.catalogue import REGION_ID, catalogue
from tasks.answers import Answer, NoAnswer
from tasks.catalogue import Catalogue, Estimate, Offer, estimate, read_catalogue
from tasks.intake import read_input
from tasks.listing import Unreadable
from tasks.plan import Group, grouped, why_ask
from tasks.request import LaunchRequest, parse_request
from tests.tasks.bad_input_corpus import good_body

GPU = "dc25f5be-0000-4000-8000-5030e3358c41"


def answer(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), None)


def request(mode: str = "perHour", duration: int = 1, **fields: Any) -> LaunchRequest:
    body = {**good_body(), "instanceTypeId": GPU, "region": REGION_ID, **fields}
    return parse_request({**body, "billing": {"chargeMode": mode, "duration": duration}})


def read(document: object) -> Catalogue:
    found = read_catalogue(answer(document))
    assert isinstance(found, Catalogue)
    return found


def test_stock_and_prices_are_those_of_type_region_and_capacity() -> None:
    found = read(catalogue({}))
    on_demand, spot = (found.offer(request(isSpotInstance=flag)) for flag in (False, True))
    assert (on_demand.stock, on_demand.prices["perHour"], spot.prices["perHour"]) == ("InStock", 12, 5)
    assert found.offer(request(region="elsewhere")) == Offer()


def test_of_rows_of_one_kind_the_one_that_can_be_rented_counts() -> None:
    def row(stock: str) -> dict[str, Any]:
        return {"instanceTypeId": GPU, "stockStatus": stock}

    for order in (["OutOfStock", "InStock"], ["InStock", "OutOfStock"]):
        kinds = [
            {"regionInfos": [{"regionId": REGION_ID, "instanceTypeInfos": [row(stock)]}]} for stock in order
        ]
        assert read({"instanceInfos": kinds}).offer(request()).stock == "InStock"


@pytest.mark.parametrize(
    ("mode", "duration", "expected"),
    [
        ("perHour", 1, Estimate(24, None)),
        ("perDay", 3, Estimate(4, 2 * 3 * 48)),
        ("perWeek", 2, Estimate(2, 2 * 2 * 168)),
        ("perMonth", 1, Estimate(2, 2 * 720)),
        ("tidePerHour", 1, Estimate()),
    ],
)
def test_an_estimate_is_for_all_instances_by_the_hour_and_for_the_period(
    mode: str, duration: int, expected: Estimate
) -> None:
    offer = Offer(None, {"perHour": 12.0, "perDay": 48.0, "perWeek": 168.0, "perMonth": 720.0})
    assert estimate(offer, request(mode, duration), 2) == expected


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (NoAnswer(True, "nobody there"), "nobody there"),
        (answer({"code": -1, "message": "未登录"}), "未登录"),
        (answer({"message": "no such page"}, 404), "HTTP 404: no such page"),
        (answer({"message": "不行"}), "不行"),
        (answer({"instanceInfos": {}}), ""),
        (answer([]), ""),
    ],
)
def test_what_is_no_catalogue_says_why(reply: Answer | NoAnswer, why: str) -> None:
    found = read_catalogue(reply)
    assert isinstance(found, Unreadable)
    assert why in found.why


def test_rows_that_cannot_be_read_are_unknown_and_the_others_are_kept() -> None:
    document = catalogue({})
    kind = document["instanceInfos"][0]
    kind["regionInfos"][0]["instanceTypeInfos"] += [None, {}, {"instanceTypeId": 7}, {"instanceTypeId": "x"}]
    kind["regionInfos"] += [{"regionId": REGION_ID}, "text"]
    kind["regionInfos"][0]["instanceTypeInfos"][0]["price"] += [
        {"chargeMode": "perYear", "price": 1},
        {"price": "1"},
    ]
    found = read(document)
    assert found.offer(request()).prices["perHour"] == 12
    assert found.offer(request(instanceTypeId="x")) == Offer()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "instanceInfos",
                    "regionInfos",
                    "instanceTypeInfos",
                    "price",
                    "chargeMode",
                    "regionId",
                    "instanceTypeId",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_answer_breaks_the_reading(value: object) -> None:
    for document in (value, {"instanceInfos": [value]}, {"instanceInfos": [{"regionInfos": [value]}]}):
        assert isinstance(read_catalogue(answer(document)), Catalogue | Unreadable)


def groups(*launches: dict[str, Any]) -> list[Group]:
    text = json.dumps({"defaults": good_body(), "launches": launches})
    return grouped(read_input(text, source="f").entries)


def test_what_is_alike_is_one_group_wherever_it_stands() -> None:
    found = groups(
        {"name": "a"}, {"name": "b", "region": "x"}, {"name": "c"}, {"name": "d", "uniqueNames": True}
    )
    assert [(group.count, group.names) for group in found] == [(2, "a … c"), (1, "b"), (1, "d")]


@pytest.mark.parametrize(
    ("launch", "why"),
    [
        ({"count": 100}, ""),
        ({"count": 101}, "101 instances are more than 100"),
        ({"billing": {"chargeMode": "perDay", "duration": 30}}, ""),
        ({"billing": {"chargeMode": "perWeek"}, "count": 2}, "2 of 2 would be paid for by the week"),
        ({"billing": {"chargeMode": "perMonth"}}, "or by the month"),
        ({"fallbacks": [{"billing": {"chargeMode": "perMonth"}}]}, "or by the month"),
    ],
)
def test_many_instances_and_long_billing_are_asked_about(launch: dict[str, Any], why: str) -> None:
    found = why_ask(groups(launch))
    assert why in found
    assert bool(why) == bool(found)
