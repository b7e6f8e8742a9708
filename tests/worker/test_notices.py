"""Notices from end to end: real workers, a real receiver, and what comes between them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis as redis_client

from config.addresses import Address, addresses_in
from harness import Worker, World, body, wait_until
from ledger.notices import deliveries
from notice_receiver import WHSEC, Arrived, Receiver, Reply
from secret_scan import Scan
from tasks.notices import trial
from tasks.webhooks import Outcome
from worker.notices import Sender

WORKER = """
import ledger.notices as notices
notices.GATHER_SECONDS = 0.5
from launchq.cli import main
main(["worker", "--processes", "1", "--log-level", "debug"])
"""


def start(world: World) -> Worker:
    """A worker that gathers for half a second only."""
    return world.worker(command=["-c", WORKER])


def notices_in(arrived: list[Arrived]) -> list[dict[str, Any]]:
    return [notice for one in arrived for notice in one.document["data"]["notices"]]


def test_a_fleet_that_fails_alike_ends_in_a_few_messages_each_through_one_of_two_workers(
    make_world: Callable[..., World],
) -> None:
    secrets = {"address": "sentinel-address-61d2", "secret": WHSEC.removeprefix("whsec_")}
    with Receiver() as receiver, socket.create_server(("127.0.0.1", 0)) as silent:
        json_address = f"json:{receiver.url}/{secrets['address']}#secret={WHSEC}"
        wecom_address = f"wecom:{receiver.url}/wecom?key={secrets['address']}"
        slack_address = f"slack:http://127.0.0.1:{silent.getsockname()[1]}/{secrets['address']}"
        world = make_world(notify=f"{slack_address},{json_address},{wecom_address}")
        world.cloud.script_faults("message:no such image", times=50)
        workers = [start(world), start(world)]
        wait_until(
            lambda: len(world.launcher.ledger.run(deliveries())) == 3,
            description="the ledger has the addresses",
        )
        world.launcher.submit_many([body(f"t-{at}") for at in range(50)], batch="nightly")

        def of(path: str) -> list[Arrived]:
            return [one for one in receiver.arrived if one.path.startswith(path)]

        wait_until(
            lambda: (
                sum(one["count"] for one in notices_in(of("/sentinel")) if one["kind"] == "jobFailed") >= 50
            ),
            description="all failures are told",
        )
        wait_until(
            lambda: any(one["kind"] == "batchDone" for one in notices_in(of("/sentinel"))),
            description="the batch's end is told",
        )
        wait_until(lambda: of("/wecom"), description="WeCom is told")
        told = notices_in(of("/sentinel"))
        assert sum(one["count"] for one in told if one["kind"] == "jobFailed") == 50
        [done] = [one for one in told if one["kind"] == "batchDone"]
        assert (done["batchId"], done["counts"]["failed"]) == ("nightly", 50)
        assert len(of("/sentinel")) <= 4
        assert set(Counter(one.headers["webhook-id"] for one in of("/sentinel")).values()) == {1}
        for one in of("/sentinel"):
            signed = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.content
            key = base64.b64decode(secrets["secret"])
            signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
            assert one.headers["webhook-signature"] == f"v1,{signature}"
        text = of("/wecom")[0].document["text"]["content"]
        assert text.startswith(f"launchq ({world.prefix}):")
        assert "no such image" in "".join(one.content.decode() for one in of("/wecom"))
        # Somebody who takes the connection and says nothing holds up nobody.
        [slack] = [one for one in world.launcher.ledger.run(deliveries()) if one.mark.startswith("slack")]
        assert (slack.tries, slack.sent, slack.error) == (1, 0, None)
        assert all(age < 3 for age in world.launcher.account().workers.values())
        scan = Scan(secrets)
        with redis_client.Redis.from_url(world.redis.url) as client:
            assert scan.found_in_redis(client) == {}
        assert scan.found_in(world.logs()) == set()
        assert not any(worker.ended for worker in workers)


def test_what_could_not_be_told_is_told_once_the_receiver_is_back_though_the_worker_was_killed(
    make_world: Callable[..., World],
) -> None:
    with Receiver() as gone:
        port = gone.port
    world = make_world(notify=f"json:http://127.0.0.1:{port}/hook")
    world.cloud.script_faults("message:no such image", times=50)
    worker = start(world)

    def delivery() -> Any:
        return next(iter(world.launcher.ledger.run(deliveries())), None)

    wait_until(delivery, description="the ledger has the address")
    world.launcher.submit(body("lost"))
    wait_until(lambda: delivery().error, description="it was tried in vain")
    assert delivery().error == "connection refused by the receiver"
    doctor = world.run("doctor")
    assert "nothing sent yet" in doctor.out, doctor
    assert str(port) not in doctor.out.replace(world.redis.url, "").replace(world.cloud.api_url, "")
    worker.kill_all()
    throttled = Reply(429, b"slow down", (("Retry-After", "600"),))
    with Receiver([throttled], port=port) as receiver:
        start(world)
        wait_until(lambda: delivery().error == "HTTP 429", description="the receiver asks for patience")
        ledger = world.launcher.ledger
        key = f"{ledger.keys.base}delivery:{delivery().mark}"
        assert int(ledger.redis.hget(key, "nextAt")) > (ledger.time() + 500) * 1000
        ledger.redis.hset(key, "nextAt", 0)
        wait_until(lambda: len(receiver.arrived) == 2, description="it is told, at the second time")
        [refused, taken] = receiver.arrived
        assert taken.content == refused.content
        [notice] = notices_in([taken])
        assert (notice["kind"], notice["jobs"][0]["name"]) == ("jobFailed", "lost")
        wait_until(lambda: delivery().sent == 1, description="it is noted as sent")


def send(text: str) -> Outcome:
    """One try to tell one address something."""
    [address] = addresses_in(text)

    async def one() -> Outcome:
        from datetime import UTC, datetime

        async with Sender("launchq") as sender:
            return await sender.send(address, [trial(datetime.now(UTC))], "id-1")

    return asyncio.run(one())


def test_no_redirect_is_followed() -> None:
    with Receiver() as other, Receiver([Reply(307, b"", (("Location", other.url),))]) as receiver:
        assert send(f"json:{receiver.url}") == Outcome(
            "refused", "HTTP 307, a redirect, which is not followed"
        )
        assert not other.arrived


def test_a_service_that_quotes_the_address_does_not_bring_it_into_a_log() -> None:
    said = b'{"errcode":300001,"errmsg":"token token-0123456789 is not exist, see /robot/send?access_token=token-0123456789"}'
    with Receiver([Reply(200, said)]) as receiver:
        outcome = send(f"dingtalk:{receiver.url}/robot/send?access_token=token-0123456789")
    assert outcome.what == "refused"
    assert "0123456789" not in outcome.text
    assert "code 300001" in outcome.text


def test_the_command_tells_every_address_and_says_which_one_did_not_take_it(world: World) -> None:
    wrong = b'{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time"}'
    with Receiver() as good, Receiver([Reply(200, wrong)]) as bad:
        world.set(notify=f"slack:{good.url}/T0/B0/x feishu:{bad.url}/hook/y#secret=z")
        ran = world.run("notify", "test")
        assert ran.code == 1, ran
        [slack, feishu] = ran.out.splitlines()
        assert slack.endswith(": sent")
        assert "not sent: code 19021: sign match fail" in feishu
        assert good.arrived[0].document == {"text": f"launchq ({world.prefix}): this is a test"}
        assert bad.arrived[0].document["sign"]
        assert world.run("notify", "test", notify=f"slack:{good.url}/x").code == 0
        assert world.run("notify", "test", notify="").code == 2


def test_a_repr_shows_no_address() -> None:
    assert repr(Address("json", "https://secret", "secret")) == "Address(service='json')"
