"""Every fault, met over a real socket, and whether it bought an instance."""

import asyncio
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from sandbox.faults import Fault, FaultPlan, parse_option
from sandbox_world import Client, wait_until


def made(client: Client) -> int:
    return len(client.server.cloud.instances)


@pytest.mark.parametrize(("side", "instances"), [("before", 0), ("after", 1)])
class TestConnectionFaults:
    async def test_close_ends_the_connection_without_an_answer(
        self, client: Client, side: str, instances: int
    ) -> None:
        client.server.cloud.faults.script(f"close-{side}")
        assert await client.exchange() == b""
        assert made(client) == instances

    async def test_reset_resets_the_connection(self, client: Client, side: str, instances: int) -> None:
        client.server.cloud.faults.script(f"reset-{side}")
        with pytest.raises(ConnectionResetError):
            await client.exchange()
        assert made(client) == instances

    async def test_hang_gives_no_answer_for_its_time(self, client: Client, side: str, instances: int) -> None:
        client.server.cloud.faults.script(f"hang-{side}:0.2")
        began = time.monotonic()
        assert await client.exchange() == b""
        assert time.monotonic() - began >= 0.2
        assert made(client) == instances

    async def test_garbage_is_not_http(self, client: Client, side: str, instances: int) -> None:
        client.server.cloud.faults.script(f"garbage-{side}")
        answer = await client.exchange()
        assert answer
        assert not answer.startswith(b"HTTP/")
        assert made(client) == instances

    @pytest.mark.parametrize("status", [500, 502, 503])
    async def test_5xx_is_an_html_page(self, client: Client, side: str, instances: int, status: int) -> None:
        client.server.cloud.faults.script(f"{status}-{side}")
        async with client.session.post(
            client.server.api_url + "/instance/create",
            data=client.raw_create().partition(b"\r\n\r\n")[2],
            headers=client.headers,
        ) as response:
            assert response.status == status
            assert response.content_type == "text/html"
            assert "<html>" in await response.text()
        assert made(client) == instances


async def test_half_stops_inside_the_body_of_a_create(client: Client) -> None:
    client.server.cloud.faults.script("half")
    head, _, rest = (await client.exchange()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert 0 < len(rest) < length
    assert made(client) == 1


@pytest.mark.parametrize(("fault", "retry_after"), [("429", None), ("429:2", "2")])
async def test_429_may_say_when_to_come_back(client: Client, fault: str, retry_after: str | None) -> None:
    client.server.cloud.faults.script(fault)
    async with client.session.post(
        client.server.api_url + "/instance/create", data="{}", headers=client.headers
    ) as response:
        assert (response.status, response.headers.get("Retry-After")) == (429, retry_after)
        assert "message" in await response.json()
    assert made(client) == 0


async def test_429_may_name_a_date(client: Client) -> None:
    client.server.cloud.faults.script("429-date:2")
    async with client.session.post(
        client.server.api_url + "/instance/create", data="{}", headers=client.headers
    ) as response:
        date, until = (
            parsedate_to_datetime(response.headers[name]).timestamp() for name in ("Date", "Retry-After")
        )
    assert 2 <= until - date <= 3
    assert made(client) == 0


async def test_expired_is_said_once_of_a_good_token(client: Client) -> None:
    client.server.cloud.faults.script("expired")
    assert (await client.create())["code"] == -1
    assert "instanceId" in await client.create()


async def test_messages_reject(client: Client) -> None:
    client.server.cloud.faults.script("sold-out")
    client.server.cloud.faults.script("message:镜像不存在: x=1")
    assert await client.create() == {"message": "库存不足,请稍后重试"}
    assert await client.create() == {"message": "镜像不存在: x=1"}
    assert made(client) == 0
    outcomes = [(record.outcome, record.fault) for record in client.server.cloud.requests]
    assert outcomes == [("sold-out", "sold-out"), ("rejected", "message")]


async def test_a_script_is_used_in_order_and_by_name(client: Client) -> None:
    plan = client.server.cloud.faults
    plan.script("sold-out", name="b-*")
    plan.script("429", times=2)
    plan.script("close-after", name="c")
    for name in ("a", "b-1", "b-2", "b-3"):
        await client.create(name=name)
    assert await client.exchange(name="c") == b""
    assert [record.fault for record in client.server.cloud.requests] == [
        "429",
        "sold-out",
        "429",
        "",
        "close-after",
    ]
    assert plan.scripted == 0
    assert client.server.cloud.state()["faults"] == {"429": 2, "sold-out": 1, "close-after": 1}


async def test_a_call_without_a_good_token_uses_no_fault_up(client: Client) -> None:
    client.server.cloud.faults.script("sold-out")
    await client.post("/instance/create", {}, Cookie="AccessToken=x")
    assert client.server.cloud.faults.scripted == 1


async def test_other_calls_can_go_wrong_too(client: Client) -> None:
    plan = client.server.cloud.faults
    plan.script("message:忙", endpoint="list")
    plan.script("503", endpoint="login")
    assert "instanceId" in await client.create()
    assert await client.list() == {"message": "忙"}
    async with client.session.post(client.server.api_url + "/user/login", data="{}") as response:
        assert response.status == 503


async def test_stopping_does_not_wait_for_a_hang(start_cloud: Any) -> None:
    client = await start_cloud()
    client.server.cloud.faults.script("hang-after:600")
    call = asyncio.create_task(client.exchange())
    await wait_until(lambda: made(client) == 1, description="the create has arrived")
    async with asyncio.timeout(5):
        await client.server.stop()
        assert await call == b""


async def test_random_faults_come_as_often_as_asked_and_repeat_with_their_seed(start_cloud: Any) -> None:
    async def faults_of(seed: int) -> list[str]:
        client = await start_cloud(faults=["sold-out=0.3", "429:1=0.2"], seed=seed)
        for _ in range(200):
            async with client.session.post(
                client.server.api_url + "/instance/create", data="{}", headers=client.headers
            ):
                pass
        return [record.fault for record in client.server.cloud.requests]

    first = await faults_of(7)
    counts = Counter(first)
    assert 35 <= counts["sold-out"] <= 85
    assert 20 <= counts["429"] <= 65
    assert first == await faults_of(7)


async def test_every_endpoint_has_rates_and_dice_of_its_own(start_cloud: Any) -> None:
    async def faults_of_creates(lists: int) -> list[str]:
        client = await start_cloud(faults=["sold-out=0.5"], seed=7)
        client.server.cloud.faults.set_rates({"message:忙": 1.0}, endpoint="list")
        for _ in range(50):
            await client.create()
            for _ in range(lists):
                assert await client.list() == {"message": "忙"}
        assert client.server.cloud.faults_met["message"] == 50 * lists
        return [record.fault for record in client.server.cloud.requests]

    assert await faults_of_creates(lists=0) == await faults_of_creates(lists=2)


async def test_rates_of_one_endpoint_replace_only_its_own(client: Client) -> None:
    plan = client.server.cloud.faults
    plan.set_rates({"sold-out": 1.0})
    plan.set_rates({"message:忙": 1.0}, endpoint="list")
    plan.set_rates({}, endpoint="list")
    assert "instances" in await client.list()
    assert "instanceId" not in await client.create()
    plan.set_rates({"message:忙": 1.0}, endpoint="list")
    plan.clear()
    assert "instances" in await client.list()


@pytest.mark.parametrize("act", ["set_rates", "script"])
def test_an_endpoint_that_does_not_exist_is_refused(act: str) -> None:
    plan = FaultPlan()
    with pytest.raises(ValueError, match="unknown endpoint 'lists'"):
        plan.set_rates({"half": 1.0}, "lists") if act == "set_rates" else plan.script(
            "half", endpoint="lists"
        )


def test_faults_are_read_from_text() -> None:
    assert Fault.parse("502") == Fault("502-before", "status", after=False, status=502)
    assert Fault.parse("hang-after:5") == Fault("hang-after", "hang", after=True, seconds=5)
    assert Fault.parse("half").after
    assert parse_option("close-after=0.1") == (Fault.parse("close-after"), 0.1)
    assert parse_option("429:2=1") == (Fault.parse("429:2"), 1.0)
    assert parse_option("message:a=b") == (Fault.parse("message:a=b"), None)


@pytest.mark.parametrize(
    "text",
    ["", "close", "refuse", "message", "hang-after:x", "hang-after:-1", "half:2", "expired-after", "600"],
)
def test_wrong_faults_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fault|seconds"):
        Fault.parse(text)


@pytest.mark.parametrize("rates", [{"half": 1.5}, {"half": -0.1}, {"half": 0.6, "expired": 0.6}])
def test_wrong_probabilities_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="add up"):
        FaultPlan().set_rates(rates)
