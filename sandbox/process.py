"""The simulated cloud as a child process, steered through its control API."""

import dataclasses
import http.client
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote, urlsplit

from sandbox.command import CONTROL, READY
from sandbox.options import CloudOptions


class SandboxProcess:
    """Starts a cloud in a child process on a free port; a context manager.

    The child gets its options through a pipe (no password shows in the process list), and ends when the pipe closes:
    also when this process is killed. Signals from the terminal do not reach it.
    """

    def __init__(self, options: CloudOptions | None = None, *, start_timeout: float = 20.0) -> None:
        options = options or CloudOptions()
        if options.control_port is None:  # steering must not depend on a port that is closed now and then
            options = dataclasses.replace(options, control_port=0)
        self._options = options
        self._start_timeout = start_timeout
        self._child: subprocess.Popen[bytes] | None = None
        self.api_url = ""
        self.control_url = ""

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._started().pid

    def start(self) -> Self:
        """Start the child, and wait until it listens. RuntimeError if it does not."""
        here = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH", ""))))
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "sandbox", "--options-from-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._child = child
        try:
            stdin, stdout = _pipes(child)
            stdin.write(json.dumps(dataclasses.asdict(self._options)).encode() + b"\n")
            stdin.flush()
            for line in _lines(stdout, self._start_timeout):
                if line.startswith(CONTROL):
                    self.control_url = line.removeprefix(CONTROL)
                elif line.startswith(READY):
                    self.api_url = line.removeprefix(READY)
                    return self
            raise RuntimeError("the sandbox ended, or did not listen in time")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int:
        """End the child and return its exit code; SIGKILL after 10 seconds. Does nothing when it is not running."""
        child, self._child = self._child, None
        if child is None:
            return 0
        child.terminate()
        try:
            return child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()
        finally:
            for pipe in _pipes(child):
                pipe.close()

    def state(self) -> dict[str, Any]:
        """Counts of everything so far."""
        return self._call("GET", "state")

    def instances(self, name: str | None = None) -> list[dict[str, Any]]:
        """The instances that were created, oldest first."""
        found: list[dict[str, Any]] = self._call("GET", "instances" + _name_query(name))["instances"]
        return found

    def requests(self, name: str | None = None) -> list[dict[str, Any]]:
        """The create calls that arrived, in their order."""
        found: list[dict[str, Any]] = self._call("GET", "requests" + _name_query(name))["requests"]
        return found

    def script_faults(
        self, *faults: str, times: int = 1, name: str | None = None, endpoint: str = "create"
    ) -> None:
        """Let the next calls meet these faults, in this order, each ``times`` times."""
        script = [{"fault": fault, "times": times, "name": name, "endpoint": endpoint} for fault in faults]
        self._call("POST", "faults", {"script": script})

    def set_fault_rates(self, rates: Mapping[str, float], endpoint: str = "create") -> None:
        """Let any call of ``endpoint`` meet faults by these probabilities, in place of those before."""
        self._call("POST", "faults", {"rates": dict(rates), "endpoint": endpoint})

    def clear_faults(self) -> None:
        """No more faults, scripted or random."""
        self._call("POST", "faults", {"clear": True})

    def refuse(self, share: float, window: float = 0.02) -> None:
        """Refuse connections for ``share`` of the time, ``window`` seconds at once."""
        self._call("POST", "refuse", {"share": share, "window": window})

    def refuse_for(self, seconds: float) -> None:
        """Refuse connections for ``seconds`` from now."""
        self._call("POST", "refuse", {"seconds": seconds})

    def pause_listening(self) -> None:
        """Refuse connections until `resume_listening`."""
        self._call("POST", "refuse", {"listening": False})

    def resume_listening(self) -> None:
        """Accept connections again."""
        self._call("POST", "refuse", {"listening": True})

    def mint_token(self, life: float | None = None) -> str:
        """A good token, as if pasted from the console; ``life`` in seconds."""
        token: str = self._call("POST", "tokens", {"life": life})["accessToken"]
        return token

    def revoke_tokens(self) -> int:
        """End all tokens; how many there were."""
        revoked: int = self._call("POST", "revoke")["revoked"]
        return revoked

    def set_password(self, password: str, username: str | None = None) -> None:
        """Change the account's password, and its name if given."""
        self._call(
            "POST",
            "credentials",
            {"password": password} | ({} if username is None else {"username": username}),
        )

    def set_capacity(
        self, region: str, instance_type_id: str, free: int | None, *, is_spot_instance: bool = False
    ) -> None:
        """Let a lane take ``free`` more instances; None lifts the limit."""
        lane = {"region": region, "instanceTypeId": instance_type_id, "isSpotInstance": is_spot_instance}
        self._call("POST", "capacity", {**lane, "free": free})

    def set_balance(self, balance: float) -> None:
        """Set the account's balance; 0 rejects creates."""
        self._call("POST", "settings", {"balance": balance})

    def change_settings(self, **settings: float) -> None:
        """Set ``latency``, ``listDelay``, ``bootTime`` or ``tokenLife``, in seconds."""
        self._call("POST", "settings", settings)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError("the sandbox is not running")
        return self._child

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._started()
        url = urlsplit(self.control_url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        try:
            connection.request(method, f"{url.path}/{path}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


def _name_query(name: str | None) -> str:
    return "" if name is None else f"?name={quote(name, safe='')}"


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the sandbox was started without pipes")
    return child.stdin, child.stdout


def _lines(pipe: IO[bytes], timeout: float) -> Iterator[str]:
    """The lines that the child writes until it ends or ``timeout`` seconds are over."""
    deadline = time.monotonic() + timeout
    pending = b""
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(pipe.fileno(), 4096)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            yield line.decode()
