"""The cloud as a process of its own: its command line, its control API, and how it ends."""

import asyncio
import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox import CloudOptions, SandboxProcess
from sandbox_world import BODY_EXAMPLE, body, is_alive, wait_until_blocking

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def call(url: str, value: Any, token: str = "") -> Any:
    """The parsed answer to one POST."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("POST", parts.path, json.dumps(value), {"Cookie": f"AccessToken={token}"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def create(sandbox: SandboxProcess, token: str, **changes: Any) -> Any:
    return call(f"{sandbox.api_url}/instance/create", body(**changes), token)


def connect_error(url: str) -> int:
    with socket.socket() as probe:
        probe.settimeout(3)
        return probe.connect_ex((urlsplit(url).hostname, urlsplit(url).port))


def test_another_process_can_steer_and_compare() -> None:
    with SandboxProcess(CloudOptions(latency=0.0)) as sandbox:
        token = sandbox.mint_token()
        made = create(sandbox, token, name="a b&c")
        create(sandbox, token, name="other")
        (instance,) = sandbox.instances("a b&c")
        assert (instance["instanceId"], instance["body"]["name"]) == (made["instanceId"], "a b&c")
        assert [request["outcome"] for request in sandbox.requests()] == ["created", "created"]
        assert sandbox.requests("other")[0]["body"] == body(name="other")

        sandbox.script_faults("sold-out", "message:不行", name="x*")
        sandbox.script_faults("429", times=2)
        assert sandbox.state()["faultsScripted"] == 4
        assert create(sandbox, token, name="x1") == {"message": "库存不足,请稍后重试"}
        assert create(sandbox, token, name="x2") == {"message": "不行"}
        sandbox.clear_faults()
        sandbox.set_fault_rates({"sold-out": 1.0})
        sandbox.set_fault_rates({"message:忙": 1.0}, endpoint="login")
        assert sandbox.state()["faultRates"] == {"create": {"sold-out": 1.0}, "login": {"message": 1.0}}
        assert "message" in create(sandbox, token)
        assert call(f"{sandbox.api_url}/user/login", {}) == {"message": "忙"}
        sandbox.clear_faults()
        assert "instanceId" in create(sandbox, token)

        lane = (BODY_EXAMPLE["region"], BODY_EXAMPLE["instanceTypeId"])
        sandbox.set_capacity(*lane, 0)
        assert create(sandbox, token) == {"message": "库存不足,请稍后重试"}
        assert "instanceId" in create(sandbox, token, isSpotInstance=True)
        sandbox.set_capacity(*lane, None)
        sandbox.set_balance(0)
        assert create(sandbox, token) == {"message": "账户余额不足"}
        sandbox.set_balance(1)
        sandbox.change_settings(latency=0.001, listDelay=1, bootTime=2, tokenLife=3)

        assert sandbox.revoke_tokens() == 1
        assert create(sandbox, token)["code"] == -1
        sandbox.set_password("new")
        login = f"{sandbox.api_url}/user/login"
        assert "accessToken" not in call(login, {"username": "demo", "password": "demo"})
        assert call(login, {"username": "demo", "password": "new"})["accessExpire"] == 3
        assert sandbox.state()["logins"] == {"ok": 1, "refused": 1}

        sandbox.pause_listening()
        assert connect_error(sandbox.api_url) == errno.ECONNREFUSED
        sandbox.resume_listening()
        assert connect_error(sandbox.api_url) == 0
        sandbox.refuse_for(600)
        assert connect_error(sandbox.api_url) == errno.ECONNREFUSED
        sandbox.resume_listening()
        sandbox.refuse(0.1, 0.01)
        sandbox.refuse(0)
        assert sandbox.stop() == 0


def test_wrong_control_calls_are_answered_with_what_is_wrong() -> None:
    with SandboxProcess() as sandbox:
        for wrong in (
            lambda: sandbox.script_faults("nonsense"),
            lambda: sandbox.set_fault_rates({"half": 2.0}),
            lambda: sandbox.refuse(2.0),
            lambda: sandbox.change_settings(speed=1),
        ):
            with pytest.raises(ValueError, match=r"fault|add up|share|speed"):
                wrong()
        assert call(f"{sandbox.control_url}/nothing", {})["error"].startswith("no such control call")
        assert call(f"{sandbox.control_url}/capacity", {"region": "r"}) == {
            "error": "instanceTypeId is missing"
        }
        assert "error" in call(f"{sandbox.control_url}/faults", [])
        assert sandbox.state()["faultsScripted"] == 0


def test_the_control_api_is_also_on_the_apis_own_port() -> None:
    with SandboxProcess() as sandbox:
        origin = sandbox.api_url.removesuffix("/api")
        assert call(f"{origin}/sandbox/revoke", {}) == {"revoked": 0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_it_is_and_ends_cleanly(number: signal.Signals) -> None:
    words = (
        "--port 0 --token-life 3 --latency 0 --fault expired --fault close-after=0.0 --refuse 0.1 --seed 7"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox", *words.split(), "--username", "me", "--password", "secret"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        line = child.stdout.readline()
        assert line.startswith("sandbox ready on http://127.0.0.1:")
        url = line.split()[-1]
        assert url.endswith("/api")
        wait_until_blocking(lambda: connect_error(url) == 0, description="it accepts connections")
        child.send_signal(number)
        assert child.wait(10) == 0
        assert (child.stdout.read(), child.stderr.read()) == ("", "")


def test_the_command_refuses_a_wrong_fault() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "--fault", "nonsense"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown fault 'nonsense'" in done.stderr


def test_it_ends_when_its_parent_is_killed() -> None:
    code = (
        "import time; from sandbox import SandboxProcess\n"
        "print(SandboxProcess().start().pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        sandbox = int(parent.stdout.readline())
        parent.kill()
    wait_until_blocking(lambda: not is_alive(sandbox), description="the sandbox ends after its parent")


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sandbox = SandboxProcess(CloudOptions(port=taken.getsockname()[1]))
        with pytest.raises(RuntimeError, match="did not listen"):
            sandbox.start()
        with pytest.raises(RuntimeError, match="not running"):
            sandbox.state()


async def test_it_answers_while_this_process_runs_an_event_loop() -> None:
    with SandboxProcess() as sandbox:
        states = await asyncio.gather(*(asyncio.to_thread(sandbox.state) for _ in range(10)))
        assert all(state["creates"] == 0 for state in states)
