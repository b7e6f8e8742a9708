"""What is sent, byte for byte, what is never kept or shown, and how the documented answers are read."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import re
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from tasks.answers import Answer, NoAnswer, Reply
from tests.worker import misbehaving as bad
from worker.cloud import Cloud, Credential

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjE3NTE1Mjk2ODZ9.pnTtcw2Spns2Xi_knR-LclTt4eJ=="


async def test_the_create_request_on_the_wire() -> None:
    body = '{ "name" : "训练-1",\n\t"nodePorts":[7891,  7892], "x": "\\u00e9" }\n'.encode() + bytes(
        range(256)
    )
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            await cloud.create(body, Credential.token(JWT))
    [request] = server.requests
    assert request.line == "POST /api/instance/create HTTP/1.1"
    assert request.body == body
    headers = {name.lower(): value for name, value in request.headers}
    assert len(headers) == len(request.headers)  # each at most once, the cookie above all
    assert re.fullmatch(r"launchq/\S+", headers.pop("user-agent"))
    assert headers == {
        "host": server.peer,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cookie": f"AccessToken={JWT}",
        "accept": "application/json",
        "accept-encoding": "identity",
    }


async def test_an_api_key_goes_in_its_own_header() -> None:
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            await cloud.create(b"{}", Credential.api_key("key-1"))
            await cloud.reachable(Credential.api_key("key-1"))
    for request in server.requests:
        assert request.all("x-api-key") == ["key-1"]
        assert request.all("cookie") == []


async def test_the_login_request_on_the_wire() -> None:
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            await cloud.login("someone@例.cn", 'pass"wörd\\')
    [request] = server.requests
    assert request.line == "POST /api/user/login HTTP/1.1"
    assert json.loads(request.body) == {"username": "someone@例.cn", "password": 'pass"wörd\\'}
    assert request.all("content-type") == ["application/json"]
    assert request.all("cookie") == request.all("authorization") == []


async def test_the_catalogue_is_asked_for_with_an_empty_object() -> None:
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            await cloud.catalogue(Credential.token(JWT))
    [request] = server.requests
    assert request.line == "POST /api/resource/user/instance/list HTTP/1.1"
    assert request.body == b"{}"
    assert request.all("cookie") == [f"AccessToken={JWT}"]


async def test_reachable_without_a_credential_proves_itself_with_nothing() -> None:
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            assert isinstance(await cloud.reachable(), Answer)
    [request] = server.requests
    assert request.all("cookie") == request.all("x-api-key") == request.all("content-type") == []


@pytest.mark.parametrize("ending", ["", "/", "//"])
async def test_the_address_may_end_in_slashes(ending: str) -> None:
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url + ending, timeout=10) as cloud:
            await cloud.create(b"{}", Credential.token(JWT))
        async with Cloud(f"http://{server.peer}{ending}", timeout=10) as cloud:
            await cloud.create(b"{}", Credential.token(JWT))
    assert [request.line for request in server.requests] == [
        "POST /api/instance/create HTTP/1.1",
        "POST /instance/create HTTP/1.1",
    ]


async def test_cookies_of_the_server_are_not_kept() -> None:
    def sets_cookies(peer: bad.Peer) -> None:
        while peer.read_request() is not None:
            peer.answer(headers=("Set-Cookie: AccessToken=theirs; Path=/", "Set-Cookie: route=7"))

    with bad.serve(sets_cookies) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            for token in ("first", "second"):
                await cloud.create(b"{}", Credential.token(token))
            await cloud.reachable()
            assert cloud._client is not None
            assert list(cloud._client.cookies.jar) == []
    assert [request.all("cookie") for request in server.requests] == [
        ["AccessToken=first"],
        ["AccessToken=second"],
        [],
    ]


async def test_the_environment_names_no_proxy_and_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password hidden\n")
    with bad.serve(bad.answers) as server, bad.serve(bad.answers) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.peer}")
        monkeypatch.setenv("NETRC", str(netrc))
        async with Cloud(server.url, timeout=10) as cloud:
            await cloud.create(b"{}", Credential.token(JWT))
    assert proxy.connections == 0
    assert server.requests[0].all("authorization") == []


# --- credentials --------------------------------------------------------------------------------------------

UNSAFE = ["", " ", "a b", "a\r\nX-Evil: 1", "a\n", "a;b=c", "a\0", "a\x7f", "a,b", 'a"b', "ä", "令牌"]


@pytest.mark.parametrize("value", UNSAFE)
@pytest.mark.parametrize("kind", [Credential.token, Credential.api_key])
def test_values_that_could_end_a_header_are_refused_and_not_shown(kind: type, value: str) -> None:
    with pytest.raises(ValueError, match="this credential holds characters") as refusal:
        kind(value)
    shown = "".join(traceback.format_exception_only(refusal.value))
    assert not value.strip() or value not in shown


def test_a_credential_for_another_header_is_refused() -> None:
    with pytest.raises(ValueError, match="Cookie or X-API-Key"):
        Credential("Host", "elsewhere")


def test_credentials_do_not_show_themselves() -> None:
    for credential in (Credential.token(JWT), Credential.api_key(JWT)):
        for shown in (repr(credential), str(credential), f"{credential}", repr([credential])):
            assert JWT not in shown
        assert copy.deepcopy(credential) == pickle.loads(pickle.dumps(credential)) == credential


@pytest.mark.parametrize(
    "behaviour",
    [bad.answers, bad.closes_after_reading, bad.resets_after_reading, bad.answers_garbage_headers, bad.drips],
)
async def test_no_log_line_shows_a_secret(behaviour: bad.Behaviour, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_debug(True)
    with caplog.at_level(logging.DEBUG), bad.serve(behaviour) as server:
        async with Cloud(server.url, timeout=0.3) as cloud:
            replies: list[Reply] = [
                await cloud.create(b'{"initScript": "secret-script"}', Credential.token("secret-token")),
                await cloud.login("someone", "secret-password"),
                await cloud.reachable(Credential.api_key("secret-key")),
            ]
        shown = caplog.text + repr(replies) + repr(vars(cloud))
    assert "secret" not in shown


# --- the API's address --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "", "cloud.example/api", "ftp://host/api", "https://", "https:///api", "http://[::1", "http://host:port/",
        "https://host/api?x=1", "https://host/api#x", "https://user:hidden@host/api", "http://ho\nst/", "x" * 70_000,
    ],
)  # fmt: skip
def test_addresses_that_are_none_are_refused_before_any_call(address: str) -> None:
    with pytest.raises(ValueError, match="the API's address") as refusal:
        Cloud(address, timeout=1)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_timeouts_that_are_none_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        Cloud("http://host", timeout=seconds)
    with pytest.raises(ValueError, match="timeout"):
        Cloud("http://host", timeout=1, connect_timeout=seconds)


async def test_calls_outside_the_context_are_a_mistake_that_shows() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Cloud("http://127.0.0.1:9", timeout=1).create(b"{}", Credential.token(JWT))


# --- answers, on a simulated transport ----------------------------------------------------------------------


async def asked(response: httpx.Response | type[Exception]) -> Reply:
    router = respx.Router(assert_all_called=True)
    router.post("https://cloud.example/api/instance/create").mock(
        **({"return_value": response} if isinstance(response, httpx.Response) else {"side_effect": response})
    )
    mock = httpx.MockTransport(router.async_handler)
    async with Cloud("https://cloud.example/api", timeout=10, transport=mock) as cloud:
        return await cloud.create(b"{}", Credential.token(JWT))


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {"instanceId": "notebook-78d36d6a-xxxx-xxxx-xxxx-eea5891c2019"}),
        (400, {"message": '字段 "instanceConfiguration.enableDocker" 未设置'}),
        (200, {"code": -1, "message": "未登录或登录已过期,请重新登录"}),
    ],
)
async def test_documented_answers_come_back_as_they_are(status: int, answer: dict[str, object]) -> None:
    reply = await asked(httpx.Response(status, json=answer))
    assert isinstance(reply, Answer)
    assert (reply.status, json.loads(reply.body), reply.retry_after) == (status, answer, None)


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, RuntimeError])
async def test_a_foreign_transport_is_never_believed_that_nothing_left(error: type[Exception]) -> None:
    reply = await asked(error)
    assert isinstance(reply, NoAnswer)
    assert reply.sent
    assert "cloud.example:443" in reply.reason


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-26 07:29:00 GMT", 60.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2026 07:27:59 GMT", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("9" * 400, None),
        ("١٢", None),
        ("Wed, 99 Oct 2026 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
async def test_retry_after(value: str, seconds: float | None) -> None:
    headers = {"Retry-After": value.encode(), "Date": DATE.encode()}
    reply = await asked(httpx.Response(429, headers=headers))
    assert isinstance(reply, Answer)
    assert reply.retry_after == seconds


async def test_retry_after_as_a_date_counts_from_now_without_the_answers_own_date() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for headers in ({"Retry-After": until}, {"Retry-After": until, "Date": "once upon a time"}):
        reply = await asked(httpx.Response(503, headers=headers))
        assert isinstance(reply, Answer)
        assert reply.retry_after == pytest.approx(3600, abs=60)


@given(value=st.text(max_size=60) | st.from_regex(r"\A\w{3}, \d+ Oct \d+ [\d:]+ [-+]?\w+\Z"))
def test_no_retry_after_spoils_an_answer(value: str) -> None:
    reply = asyncio.run(asked(httpx.Response(200, headers={"Retry-After": value.encode("utf-8", "replace")})))
    assert isinstance(reply, Answer)
    assert reply.retry_after is None or reply.retry_after >= 0


async def test_an_answer_compressed_unasked_is_read() -> None:
    import gzip

    reply = await asked(
        httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=gzip.compress(bad.CREATED))
    )
    assert reply == Answer(200, bad.CREATED)


async def test_a_compression_bomb_is_not_read() -> None:
    import gzip

    async def bomb() -> AsyncIterator[bytes]:
        yield gzip.compress(bytes(1 << 23))

    reply = await asked(httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=bomb()))
    assert isinstance(reply, NoAnswer)
    assert reply.sent
