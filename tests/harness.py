"""The whole product on this machine, for tests: a real Redis, the simulated cloud over HTTP, real worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from config import Settings, load
from launchq import Launcher
from sandbox import CloudOptions, SandboxProcess
from sandbox.redis_server import RedisServer
from tasks.jobs import Job
from tasks.states import State

ROOT = Path(__file__).resolve().parent.parent


def wait_until(
    condition: Callable[[], Any], *, description: str, timeout: float = 30.0, interval: float = 0.02
) -> Any:
    """The first true value of `condition`; fails, saying what was waited for, when `timeout` seconds are over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise AssertionError(f"not within {timeout} s: {description}")


def body(name: str = "example-instance", **changes: Any) -> dict[str, Any]:
    """A request body that the API takes."""
    return {
        "name": name,
        "imageId": "7a81788c-xxxx-xxxx-xxxx-2409e3c8150c",
        "instanceTypeId": "dc25f5be-xxxx-xxxx-xxxx-5030e3358c41",
        "region": "fce31a0c-xxxx-xxxx-xxxx-41caa1bdd251",
        "billing": {"chargeMode": "perHour", "duration": 1},
        "remoteStorages": [],
        "instanceConfiguration": {"enableCommonData": False, "enableDocker": False, "initScript": ""},
        "nodePorts": [],
        **changes,
    }


class World:
    """Redis, a cloud and workers that belong to one test. `settings` are `LAUNCHQ_*` names without the prefix."""

    def __init__(
        self, redis: RedisServer | None = None, *, cloud: CloudOptions | None = None, **settings: object
    ) -> None:
        self._stack = ExitStack()
        self.redis = redis or self._stack.enter_context(RedisServer())
        self.redis_is_ours = redis is None
        self.cloud = self._stack.enter_context(SandboxProcess(cloud or CloudOptions(latency=0.02)))
        self.prefix = f"t{os.getpid()}-{time.monotonic_ns()}"
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="launchq-test-")))
        self.values: dict[str, str] = {
            "REDIS_URL": self.redis.url,
            "PREFIX": self.prefix,
            "API_URL": self.cloud.api_url,
            "USERNAME": "demo",
            "PASSWORD": "demo",
            "REQUEST_TIMEOUT": "3",
            "BACKOFF_BASE": "0.1",
            "BACKOFF_CAP": "1",
            "RATE_LIMIT": "0",
        }
        self.set(**settings)
        self.workers: list[Worker] = []
        self._launcher: Launcher | None = None

    def set(self, **settings: object) -> None:
        """Change settings for what is started from now on; None takes one away."""
        for name, value in settings.items():
            if value is None:
                self.values.pop(name.upper(), None)
            else:
                self.values[name.upper()] = str(value)

    @property
    def variables(self) -> dict[str, str]:
        return {f"LAUNCHQ_{name}": value for name, value in self.values.items()}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a child process."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHQ_")}
        return {**own, **self.variables, "PYTHONUNBUFFERED": "1"}

    @property
    def settings(self) -> Settings:
        return load(self.variables)

    @property
    def launcher(self) -> Launcher:
        if self._launcher is None:
            self._launcher = Launcher(self.settings)
        return self._launcher

    def worker(
        self,
        *,
        processes: int = 2,
        command: list[str] | None = None,
        variables: Mapping[str, str] | None = None,
        ready: bool = True,
        **settings: object,
    ) -> Worker:
        """Start one worker; `ready` waits until its pulse beats. `variables` are more of its environment."""
        extra = {f"LAUNCHQ_{name.upper()}": str(value) for name, value in settings.items()}
        extra |= variables or {}
        arguments = command or ["-m", "launchq", "worker", "--processes", str(processes)]
        worker = Worker(
            arguments, {**self.environment, **extra}, self.folder / f"worker-{len(self.workers)}.log"
        )
        self.workers.append(worker)
        if ready:
            wait_until(
                lambda: (
                    any(name.endswith(f":{worker.pid}") for name in self.launcher.account().workers)
                    or worker.ended
                ),
                description="the worker's pulse",
            )
            assert not worker.ended, worker.log()
        return worker

    def run(
        self, *arguments: str, stdin: str | bytes = b"", timeout: float = 60.0, **settings: object
    ) -> Ran:
        """Run one `launchq` command to its end."""
        extra = {f"LAUNCHQ_{name.upper()}": str(value) for name, value in settings.items()}
        done = subprocess.run(
            [sys.executable, "-m", "launchq", *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**self.environment, **extra},
            cwd=self.folder,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def job(self, job_id: str) -> Job:
        return self.launcher.job(job_id)

    def wait_for(self, job_id: str, *states: State, timeout: float = 30.0) -> Job:
        """The job, once it is there (a message of Celery's becomes a job when a worker takes it) and in one of
        these states.
        """

        def arrived() -> Job | None:
            [job] = self.launcher.ledger.jobs([job_id])
            return job if job is not None and job.state in states else None

        job: Job = wait_until(arrived, description=f"{job_id} becomes {' or '.join(states)}", timeout=timeout)
        return job

    def names_created(self) -> list[str]:
        """The names of the instances that the cloud created, one for each instance."""
        return [instance["name"] for instance in self.cloud.instances()]

    def logs(self) -> str:
        return "\n".join(f"--- {worker.pid}\n{worker.log()}" for worker in self.workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(self.logs())
        for worker in self.workers:
            worker.kill_all()
        if self._launcher is not None:
            self._launcher.close()
        self._stack.close()


class Ran:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


class Worker:
    """One worker: a main process with its children, in a session of its own."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                env=environment,
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def children(self) -> list[int]:
        import psutil

        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process only, as `docker stop` does."""
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        return self._process.wait(timeout)

    def kill_all(self) -> None:
        """SIGKILL to the main process and all its children, as when a machine dies."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")
