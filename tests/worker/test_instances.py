"""Reading the whole list of instances: every page, also from an API that pages in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx

from worker.cloud import Cloud, Credential
from worker.instances import PAGE_TRIES, Listing, Renew, list_all

TOKEN = Credential.token("t")


def page_of(rows: list[str], total: int | None, number: int = 1, size: int = 100) -> httpx.Response:
    pager = {"currentPage": number, "pageSize": size} | ({} if total is None else {"totalEntries": total})
    instances = [{"instanceMetadata": {"instanceId": one, "instanceName": f"name of {one}"}} for one in rows]
    return httpx.Response(200, json={"instances": instances, "pager": pager})


class Api:
    """A list of instances; `limit` rows are the most that a page has, whatever was asked for."""

    def __init__(self, ids: list[str], *, limit: int = 1000, tells_total: bool = True) -> None:
        self.ids, self.limit, self.tells_total = ids, limit, tells_total
        self.asked: list[tuple[int, int]] = []
        self.meanwhile: Callable[[int], None] = lambda _: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        pager = json.loads(request.content)["pager"]
        number, size = pager["currentPage"], min(pager["pageSize"], self.limit)
        self.asked.append((number, pager["pageSize"]))
        self.meanwhile(number)
        rows = self.ids[(number - 1) * size : number * size]
        return page_of(rows, len(self.ids) if self.tells_total else None, number, size)


async def listing_of(
    answer: Callable[[httpx.Request], httpx.Response], renew: Renew | None = None
) -> Listing:
    router = respx.Router(assert_all_called=False)
    router.post("https://cloud.example/api/instance/list").side_effect = answer
    transport = httpx.MockTransport(router.async_handler)
    async with Cloud("https://cloud.example/api", timeout=5, transport=transport) as cloud:
        return await list_all(cloud, TOKEN, renew)


def ids(count: int) -> list[str]:
    return [f"i-{number}" for number in range(count)]


@pytest.mark.parametrize("limit", [1, 7, 10, 100, 1000], ids=lambda limit: f"{limit} a page")
@pytest.mark.parametrize("tells_total", [True, False], ids=["with a total", "without"])
@pytest.mark.parametrize("count", [0, 1, 10, 35])
async def test_every_page_is_read(limit: int, tells_total: bool, count: int) -> None:
    api = Api(ids(count), limit=limit, tells_total=tells_total)
    listing = await listing_of(api)
    assert listing == Listing({one: f"name of {one}" for one in ids(count)})
    pages = [number for number, _ in api.asked]
    assert sorted(pages) == list(range(1, len(pages) + 1)), "every page once"
    assert len(pages) <= -(-count // min(limit, 100)) + 2


async def test_an_api_that_refuses_large_pages_is_asked_for_small_ones() -> None:
    api = Api(ids(25))

    def refusing(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content)["pager"]["pageSize"] > 10:
            return httpx.Response(200, json={"message": "pageSize too large"})
        return api(request)

    assert len((await listing_of(refusing)).instances) == 25


async def test_an_api_that_always_shows_the_same_page_is_not_read_for_ever() -> None:
    calls = []

    def stuck(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return page_of(["i-1", "i-2"], None)

    assert set((await listing_of(stuck)).instances) == {"i-1", "i-2"}
    assert len(calls) <= 4


async def test_fewer_instances_than_the_api_says_that_there_are_is_a_flaw() -> None:
    listing = await listing_of(lambda _: page_of(["i-1", "i-2"], 5))
    assert "5 instances, but shows 2" in listing.flaw


async def test_a_row_that_slips_between_two_pages_is_caught_by_reading_again() -> None:
    """An instance of the first page goes while the pages are read: the others move up, and one is on no page."""
    api = Api(ids(20), limit=5)

    def one_goes(number: int) -> None:
        if number == 2 and "i-0" in api.ids:
            api.ids.remove("i-0")

    api.meanwhile = one_goes
    listing = await listing_of(api)
    assert not listing.flaw
    assert set(listing.instances) == set(ids(20)) - {"i-0"}


async def test_a_page_that_fails_now_and_then_is_asked_for_again() -> None:
    api, failures = Api(ids(30), limit=10), iter(range(100))

    def flaky(request: httpx.Request) -> httpx.Response:
        return httpx.Response(502) if next(failures) % 2 == 0 else api(request)

    listing = await listing_of(flaky)
    assert not listing.flaw
    assert len(listing.instances) == 30


async def test_a_page_that_never_comes_makes_the_whole_list_unread() -> None:
    api, asked = Api(ids(30), limit=10), []

    def broken(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content)["pager"]["currentPage"] == 3:
            asked.append(request)
            return httpx.Response(500, json={"message": "坏了"})
        return api(request)

    listing = await listing_of(broken)
    assert "HTTP 500: 坏了" in listing.flaw
    assert len(asked) == PAGE_TRIES


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [(200, {"code": -1, "message": "未登录"}, "login"), (429, {"message": "慢点"}, "throttled")],
)
async def test_a_refused_token_and_too_many_calls_are_not_asked_again(
    status: int, document: dict[str, Any], kind: str
) -> None:
    calls = []

    def refusing(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(status, json=document)

    listing = await listing_of(refusing)
    assert listing.flaw == document["message"]
    assert getattr(listing.unreadable, kind)
    assert len(calls) == 1


async def test_a_token_that_ends_while_the_list_is_read_is_renewed_once_for_all_pages() -> None:
    api, renewals = Api(ids(90), limit=10), []

    def ending(request: httpx.Request) -> httpx.Response:
        if (
            json.loads(request.content)["pager"]["currentPage"] > 3
            and request.headers["Cookie"] == "AccessToken=t"
        ):
            return httpx.Response(200, json={"code": -1, "message": "未登录"})
        return api(request)

    async def renew() -> Credential:
        renewals.append(1)
        return Credential.token("t2")

    listing = await listing_of(ending, renew)
    assert not listing.flaw
    assert len(listing.instances) == 90
    assert len(renewals) == 1


async def test_a_token_for_which_there_is_no_other_leaves_the_list_unread() -> None:
    async def renew() -> None:
        return None

    listing = await listing_of(lambda _: httpx.Response(401), renew)
    assert listing.unreadable
    assert listing.unreadable.login


async def test_an_api_that_takes_no_token_is_not_asked_for_ever() -> None:
    renewals = []

    async def renew() -> Credential:
        renewals.append(1)
        return Credential.token(f"t{len(renewals)}")

    assert (await listing_of(lambda _: httpx.Response(401), renew)).flaw
    assert len(renewals) <= 2
