"""What each call of the simulated cloud does when nothing goes wrong."""

import asyncio
import base64
import json
import re
import time
from typing import Any

import pytest

from sandbox.catalogue import REGION_ID
from sandbox.instances import BAD_IMAGE_ID, Lane
from sandbox_world import BODY_EXAMPLE, CURL_EXAMPLE, Client, body, wait_until

LANE = Lane(BODY_EXAMPLE["region"], BODY_EXAMPLE["instanceTypeId"])
NOT_LOGGED_IN = {"code": -1, "message": "未登录或登录已过期,请重新登录"}
DEMO = {"username": "demo", "password": "demo"}


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"AccessToken={token}"}


async def test_create_answers_an_instance_id_and_keeps_the_record(client: Client) -> None:
    status, answer = await client.post("/instance/create", CURL_EXAMPLE)
    assert status == 200
    assert list(answer) == ["instanceId"]
    assert re.fullmatch(r"notebook-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["instanceId"])
    cloud = client.server.cloud
    (record,) = cloud.requests
    assert record.raw == CURL_EXAMPLE.encode()
    assert (record.name, record.outcome, record.fault) == ("example-instance", "created", "")
    assert record.instance_id == answer["instanceId"]
    assert abs(record.at - time.time()) < 60
    (instance,) = cloud.instances.all()
    assert (instance.instance_id, instance.body) == (answer["instanceId"], json.loads(CURL_EXAMPLE))


async def test_the_same_call_twice_is_two_instances(client: Client) -> None:
    first, second = await client.create(), await client.create()
    assert first != second
    assert client.server.cloud.instances.names() == {"example-instance": 2}


async def test_a_rejected_create_names_the_field_and_makes_nothing(client: Client) -> None:
    changed = body()
    del changed["instanceConfiguration"]["enableDocker"]
    status, answer = await client.post("/instance/create", changed)
    assert (status, answer) == (200, {"message": '字段 "instanceConfiguration.enableDocker" 未设置'})
    assert len(client.server.cloud.instances) == 0
    assert client.server.cloud.requests[0].outcome == "rejected"


@pytest.mark.parametrize("raw", ["{", "[]", "", '"text"', "[" * 100_000])
async def test_a_create_body_that_is_no_object_is_rejected(client: Client, raw: str) -> None:
    assert "message" in (await client.post("/instance/create", raw))[1]


async def test_statuses_of_errors_are_configurable(start_cloud: Any) -> None:
    client = await start_cloud(error_status=400, auth_status=401)
    assert (await client.post("/instance/create", {}))[0] == 400
    assert await client.post("/instance/create", body(), **cookie("x")) == (401, NOT_LOGGED_IN)


async def test_a_sold_out_lane_rejects_until_it_has_places(client: Client) -> None:
    instances = client.server.cloud.instances
    instances.set_capacity(LANE, 1)
    assert "instanceId" in await client.create()
    assert await client.create() == {"message": "库存不足,请稍后重试"}
    assert "instanceId" in await client.create(isSpotInstance=True), "another lane has its own capacity"
    instances.set_capacity(LANE, None)
    assert "instanceId" in await client.create()
    assert [r.outcome for r in client.server.cloud.requests] == ["created", "sold-out", "created", "created"]


async def test_terminating_gives_the_place_back_once(client: Client) -> None:
    client.server.cloud.instances.set_capacity(LANE, 1)
    made = await client.create()
    for _ in range(2):
        assert (await client.post("/instance/terminate", made))[1] == made
    assert client.server.cloud.instances.free[LANE] == 1


async def test_an_empty_balance_rejects_creates(client: Client) -> None:
    assert (await client.get("/balance"))[1]["availableBalance"] > 0
    client.server.cloud.balance = 0
    assert await client.create() == {"message": "账户余额不足"}
    assert (await client.get("/balance"))[1] == {
        "balance": 0,
        "availableBalance": 0,
        "availableVoucherAmount": 0,
        "availableCreditAmount": 0,
    }


async def test_the_list_has_pages_newest_first(client: Client) -> None:
    made = [(await client.create(name=f"n{index}"))["instanceId"] for index in range(5)]
    listed = []
    for page in (1, 2, 3, 4):
        answer = await client.list(page, 2)
        assert answer["pager"] == {"currentPage": page, "pageSize": 2, "totalEntries": 5}
        listed.append([row["instanceMetadata"]["instanceId"] for row in answer["instances"]])
    assert listed == [made[4:2:-1], made[2:0:-1], made[:1], []]
    row = (await client.list())["instances"][0]
    assert row["instanceMetadata"] == {
        "instanceId": made[4],
        "instanceName": "n4",
        "instanceUsername": "root",
    }
    assert [port["port"] for port in row["instanceSpecInfo"]["nodePorts"]] == BODY_EXAMPLE["nodePorts"]
    assert row["instanceSpecInfo"]["regionInfo"]["sshAddress"]


async def test_a_page_of_the_list_is_limited(start_cloud: Any) -> None:
    client = await start_cloud(max_page_size=2)
    for _ in range(3):
        await client.create()
    answer = await client.list(1, 1000)
    assert len(answer["instances"]) == answer["pager"]["pageSize"] == 2


async def test_the_list_without_a_pager_answers_500(client: Client) -> None:
    assert (await client.post("/instance/list", {}))[0] == 500
    assert "message" in await client.list(0, 10)


async def test_a_new_instance_may_appear_late_in_the_list(client: Client) -> None:
    client.server.cloud.list_delay = 3600
    await client.create()
    assert (await client.list())["pager"]["totalEntries"] == 0
    client.server.cloud.list_delay = 0
    assert (await client.list())["pager"]["totalEntries"] == 1


async def test_an_instance_starts_runs_stops_and_is_released(client: Client) -> None:
    async def runtime() -> Any:
        return (await client.list())["instances"][0]["instanceRuntimeInfo"]

    client.server.cloud.boot_time = 3600
    made = await client.create()
    assert (await runtime())["status"] == "Initializing"
    client.server.cloud.boot_time = 0
    assert (await runtime())["status"] == "Running"
    assert (await client.post("/instance/stop", made))[1] == made
    assert (await runtime())["status"] == "Stopped"
    assert (await client.post("/instance/terminate", made))[1] == made
    assert (await runtime())["status"] == "Released"


async def test_a_bad_image_sits_in_download_for_ever(client: Client) -> None:
    client.server.cloud.boot_time = 0
    await client.create(imageId=BAD_IMAGE_ID)
    runtime = (await client.list())["instances"][0]["instanceRuntimeInfo"]
    assert (runtime["phase"], runtime["diagnosisReason"]) == ("DownloadImage", "BackOff")


@pytest.mark.parametrize("path", ["/instance/stop", "/instance/terminate"])
async def test_ending_an_unknown_instance_says_so(client: Client, path: str) -> None:
    assert (await client.post(path, {"instanceId": "notebook-x"}))[1] == {
        "message": "ent: instance not found"
    }


async def test_the_catalogue_shows_stock_and_prices(client: Client) -> None:
    async def first() -> Any:
        _, answer = await client.post("/resource/user/instance/list", {})
        info = answer["instanceInfos"][0]
        region = info["regionInfos"][0]
        return info, region, region["instanceTypeInfos"][0]

    info, region, offer = await first()
    assert offer["stockStatus"] == "InStock"
    assert {price["chargeMode"] for price in offer["price"]} >= {"perHour", "perMonth"}
    lane = Lane(region["regionId"], offer["instanceTypeId"], info["isSpotInstance"])
    assert lane.region == REGION_ID
    client.server.cloud.instances.set_capacity(lane, 0)
    assert (await first())[2]["stockStatus"] != "InStock"


async def test_unknown_paths_answer_404(client: Client) -> None:
    assert (await client.post("/instance/delete", {}))[0] == 404
    assert (await client.get("/instance/create"))[0] == 404


async def test_login_makes_a_jwt_that_lets_in(client: Client) -> None:
    before = time.time()
    _, answer = await client.post("/user/login", DEMO)
    assert set(answer) == {"accessToken", "accessExpire"}
    assert answer["accessExpire"] == 86_400
    payload = answer["accessToken"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == "demo"
    assert claims["exp"] - claims["iat"] == 86_400
    assert before - 1 <= claims["iat"] <= time.time()
    assert "instanceId" in (await client.post("/instance/create", body(), **cookie(answer["accessToken"])))[1]


async def test_a_wrong_password_is_refused_and_counted(client: Client) -> None:
    for wrong in ({"username": "demo", "password": "x"}, {"username": "x", "password": "demo"}, {}):
        assert set((await client.post("/user/login", wrong))[1]) == {"message"}
    await client.post("/user/login", DEMO)
    assert client.server.cloud.state()["logins"] == {"ok": 1, "refused": 3}


@pytest.mark.parametrize("headers", [cookie("x"), {"Cookie": "a=b"}, {"X-API-Key": "x"}, {"Accept": "*/*"}])
async def test_without_a_good_token_nothing_is_done(client: Client, headers: dict[str, str]) -> None:
    for path in ("/instance/create", "/instance/list", "/instance/stop", "/resource/user/instance/list"):
        assert (await client.post(path, body(), **headers))[1] == NOT_LOGGED_IN
    assert client.server.cloud.requests[0].outcome == "unauthorized"
    assert len(client.server.cloud.instances) == 0


async def test_an_api_key_lets_in(start_cloud: Any) -> None:
    client = await start_cloud(api_keys=["key-1", "key-2"])
    assert "instanceId" in (await client.post("/instance/create", body(), **{"X-API-Key": "key-2"}))[1]


async def test_a_token_ends_when_its_life_is_over(start_cloud: Any) -> None:
    life = 0.3
    client = await start_cloud(token_life=life)
    before = time.monotonic()
    token = (await client.post("/user/login", DEMO))[1]
    after = time.monotonic()
    assert token["accessExpire"] == life
    ended = False
    while not ended:
        began = time.monotonic()
        answer = (await client.post("/instance/list", {}, **cookie(token["accessToken"])))[1]
        ended = answer == NOT_LOGGED_IN
        assert not ended or time.monotonic() >= before + life, "it ended too early"
        assert ended or began < after + life, "it lived too long"
        await asyncio.sleep(0.01)


async def test_all_tokens_can_be_revoked(client: Client) -> None:
    assert client.server.cloud.tokens.revoke() == 1
    assert await client.create() == NOT_LOGGED_IN


@pytest.mark.parametrize(("single", "good"), [(True, False), (False, True)])
async def test_a_login_ends_older_tokens_if_so_configured(start_cloud: Any, single: bool, good: bool) -> None:
    client = await start_cloud(single_session=single)
    await client.post("/user/login", DEMO)
    assert ("instanceId" in await client.create()) == good


async def test_answers_take_the_latency_and_calls_are_counted(start_cloud: Any) -> None:
    client = await start_cloud(latency=0.4)
    began = time.monotonic()
    answers = asyncio.gather(*(client.create(name=f"n{index}") for index in range(20)))
    await wait_until(lambda: len(client.server.cloud.instances) == 20, description="all creates have arrived")
    assert client.server.cloud.state()["createsInFlight"] == 20
    assert all("instanceId" in answer for answer in await answers)
    assert time.monotonic() - began >= 0.4
    state = client.server.cloud.state()
    assert state["calls"] == {"create": 20}
    assert state["outcomes"] == {"created": 20}
    assert (state["creates"], state["instances"], state["names"]) == (20, 20, 20)
    assert (state["createsInFlight"], state["peakCreatesInFlight"]) == (0, 20)


async def test_no_credentials_are_kept_with_a_request(client: Client) -> None:
    await client.create()
    token = client.headers["Cookie"].rpartition("=")[2]
    assert token not in repr(client.server.cloud.requests) + json.dumps(
        client.server.cloud.requests[0].as_json()
    )


async def test_a_request_that_breaks_off_is_no_request(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.connection() as (_, writer):
        writer.write(client.raw_create()[:-10])
        await writer.drain()
        await wait_until(lambda: client.server.listener.connections == 1, description="it is accepted")
        await client.list()  # by now the cloud has read the first part
    assert (await client.list())["pager"]["totalEntries"] == 0
    assert client.server.cloud.requests == []
    assert caplog.text == ""
