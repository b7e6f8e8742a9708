"""Dockerfile and docker-compose.yml, held to what they promise, without Docker.

Their commands run here as plain processes: compose's own Redis flags, its environments, its health checks; only hosts
and ports are replaced.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
import pytest
import redis
import yaml

from config import Settings, load, seconds
from config.settings import unknown_names
from launchq.board.serve import is_loopback
from launchq.cli import group
from sandbox.ports import HeldPort
from sandbox.redis_server import RedisServer, find_redis_binary

ROOT = Path(__file__).resolve().parent.parent
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKER = ROOT / "docker"
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
SECRETS = {one.name for one in fields(Settings) if "Secret" in str(one.type)}
SANDBOX_PORT = "8080"
PATIENCE = 20.0


def interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    """What compose makes of `${NAME:-default}`."""
    if isinstance(value, dict):
        return {key: interpolated(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, environment) for one in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1]) or found[2], value)


def environment_of(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables inside a container, its files of secrets replaced by their sources on the host."""
    values: dict[str, str] = interpolated(SERVICES[service]["environment"], environment)
    for name in SERVICES[service].get("secrets", []):
        source = interpolated(COMPOSE["secrets"][name]["file"], environment)
        values = {
            key: str(ROOT / source) if value == f"/run/secrets/{name}" else value
            for key, value in values.items()
        }
    return values


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in their order."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def copied() -> set[str]:
    """What the Dockerfile takes from the build context."""
    copies = [words.split() for kind, words in instructions() if kind == "COPY" and "--from" not in words]
    return {source.rstrip("/") for words in copies for source in words[:-1]}


# --- docker-compose.yml -----------------------------------------------------------------------------------------------


def test_redis_keeps_every_change_and_evicts_nothing() -> None:
    server, *words = SERVICES["redis"]["command"]
    flags = dict(zip(words[::2], words[1::2], strict=True))
    assert server == "redis-server"
    assert flags["--appendonly"] == "yes"
    assert flags["--appendfsync"] == "always"
    assert flags["--maxmemory-policy"] == "noeviction"
    assert re.fullmatch(r"(redis|valkey/valkey):\d+\.\d+(-\w+)?", SERVICES["redis"]["image"])
    [mount] = SERVICES["redis"]["volumes"]
    volume, target = mount.split(":")
    assert volume in COMPOSE["volumes"]
    assert target == "/data"
    assert COMPOSE["name"]  # without one, a moved folder would start with an empty volume


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_open_to_the_network_or_cannot_be_scaled(name: str) -> None:
    service = SERVICES[name]
    # Those for people, on the host's own address alone.
    assert ("ports" in service) == (name in {"board", "grafana"})
    assert all(port.startswith("127.0.0.1:${") for port in service.get("ports", []))
    assert not service.keys() & {"container_name", "hostname", "privileged", "env_file"}
    assert service.get("network_mode") != "host"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_nothing_that_they_need_not(name: str) -> None:
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert any(mount.split(":")[0] == "/tmp" for mount in SERVICES[name]["tmpfs"])
    assert "user" not in SERVICES[name]  # the image's own, which is not root


def test_who_waits_for_whom() -> None:
    healthy = {"condition": "service_healthy"}
    assert SERVICES["worker"]["depends_on"] == {"redis": healthy}
    assert SERVICES["sandbox-worker"]["depends_on"] == {"redis": healthy, "sandbox": healthy}
    assert SERVICES["board"]["depends_on"] == {"redis": healthy}
    assert SERVICES["prometheus"]["depends_on"] == {"board": healthy}
    assert SERVICES["redis"]["restart"] == SERVICES["worker"]["restart"] == "unless-stopped"


def test_the_sandbox_starts_on_request_only_and_takes_no_real_worker_with_it() -> None:
    behind = {name for name, service in SERVICES.items() if service.get("profiles") == ["sandbox"]}
    assert behind == {"sandbox", "sandbox-worker"}
    always = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert always == {"redis", "worker", "board"}
    assert not any("worker" in SERVICES[name].get("depends_on", {}) for name in behind)
    assert SERVICES["sandbox-worker"]["network_mode"] == "service:sandbox"


def test_no_environment_makes_the_real_worker_take_jobs_meant_for_the_sandbox() -> None:
    anything = {"LAUNCHQ_PREFIX": "launchq-sandbox", "LAUNCHQ_API_URL": "https://cloud.example.com/api"}
    real, simulated = (load(environment_of(name, anything)) for name in ("worker", "sandbox-worker"))
    assert real.prefix != simulated.prefix == "launchq-sandbox"
    assert simulated.api_url.startswith("http://127.0.0.1:")
    assert real.api_url == "https://cloud.example.com/api"


@pytest.mark.parametrize("name", ["worker", "sandbox-worker"])
def test_calls_in_flight_have_the_time_to_end(name: str) -> None:
    grace = seconds(interpolated(SERVICES[name]["stop_grace_period"], {}))
    assert grace >= load(environment_of(name, {})).request_timeout + 10


def test_the_board_demands_tokens_and_has_none_of_the_clouds_credentials() -> None:
    options = SERVICES["board"]["command"]
    assert not is_loopback(options[options.index("--host") + 1])
    assert SERVICES["board"]["secrets"] == ["secret-key"]
    settings = load(environment_of("board", {}))
    assert settings.prefix == load(environment_of("worker", {})).prefix
    [port] = SERVICES["board"]["ports"]
    assert port.endswith(f":{options[options.index('--port') + 1]}")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.5", "board", "localhost.example", "127.0.0.1.example"]
)
def test_whatever_is_not_this_machine_alone_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.0.0.9", "::1")))


def test_prometheus_asks_the_board_with_its_token_and_grafana_asks_prometheus() -> None:
    [job] = yaml.safe_load((DOCKER / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    [target] = job["static_configs"]
    [port] = SERVICES["board"]["ports"]
    assert target["targets"] == [f"board:{port.rpartition(':')[2]}"]
    assert job["authorization"] == {"credentials_file": "/run/secrets/board-token"}
    assert SERVICES["prometheus"]["secrets"] == ["board-token"]
    [source] = yaml.safe_load((DOCKER / "grafana/datasource.yml").read_text(encoding="utf-8"))["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    [provider] = yaml.safe_load((DOCKER / "grafana/dashboards.yml").read_text(encoding="utf-8"))["providers"]
    mounted = dict(mount.split(":")[:2][::-1] for mount in SERVICES["grafana"]["volumes"])
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert mounted["/etc/grafana/dashboards/launchq.json"] == "./docker/grafana/launchq.json"
    dashboard = json.loads((DOCKER / "grafana/launchq.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        assert all(target["datasource"]["uid"] == source["uid"] for target in panel["targets"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_that_is_mounted_is_there(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source = mount.partition(":")[0]
        assert source in COMPOSE["volumes"] or (source.startswith("./docker/") and (ROOT / source).is_file())


@pytest.mark.parametrize("name", ["worker", "sandbox-worker", "board"])
def test_every_variable_is_a_setting(name: str) -> None:
    values = environment_of(name, {})
    assert all(variable.startswith("LAUNCHQ_") for variable in values)
    assert unknown_names(values) == []


def test_every_variable_that_is_named_anywhere_is_a_setting() -> None:
    named = dict.fromkeys(re.findall(r"\bLAUNCHQ_[A-Z_]+", COMPOSE_TEXT), "")
    assert len(named) > 10
    assert unknown_names(named) == []


def test_every_setting_reaches_the_worker() -> None:
    """A setting added to config/settings.py goes into docker-compose.yml too: in .env alone it would do nothing."""
    fixed = {"redis_url", "prefix", "broker_url"}
    values = SERVICES["worker"]["environment"]
    for name in vars(Settings()).keys() - fixed - SECRETS:
        variable = f"LAUNCHQ_{name.upper()}"
        assert values.get(variable) == f"${{{variable}:-}}", variable


def test_secrets_come_from_files() -> None:
    values = SERVICES["worker"]["environment"]
    assert {"access_token", "password", "api_key"} <= SECRETS
    for name in SECRETS:
        variable = f"LAUNCHQ_{name.upper()}"
        secret = name.replace("_", "-")
        assert variable not in values
        assert values[f"{variable}_FILE"] == f"/run/secrets/{secret}"
        assert secret in SERVICES["worker"]["secrets"]
        # Not `environment: NAME`: compose refuses that for a container that is read-only.
        assert COMPOSE["secrets"][secret] == {"file": f"${{{variable}_FILE:-./docker/no-secret}}"}
    assert "secrets" not in SERVICES["sandbox-worker"]


def test_no_secret_of_the_host_reaches_an_environment() -> None:
    host = {f"LAUNCHQ_{name.upper()}": "very-secret" for name in SECRETS}
    assert "very-secret" not in json.dumps(interpolated(COMPOSE, host))


def test_what_is_not_named_is_unset() -> None:
    assert (ROOT / "docker" / "no-secret").read_bytes() == b""
    settings = load(environment_of("worker", {}))
    assert {name: getattr(settings, name) for name in SECRETS} == dict.fromkeys(SECRETS)
    assert not settings.can_log_in
    assert replace(settings, redis_url="redis://host/0") == Settings(redis_url="redis://host/0")


def test_a_token_alone_will_do_and_so_will_a_password_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    token = load(environment_of("worker", {"LAUNCHQ_ACCESS_TOKEN_FILE": str(tmp_path / "secret")}))
    assert token.access_token is not None
    assert token.access_token.get_secret_value() == "s3cret"
    assert not token.can_log_in
    named = {"LAUNCHQ_USERNAME": "me", "LAUNCHQ_PASSWORD_FILE": str(tmp_path / "secret")}
    login = load(environment_of("worker", named))
    assert login.can_log_in
    assert login.access_token is None


# --- the commands that are named --------------------------------------------------------------------------------------


def commands() -> Iterator[list[str]]:
    """Every `launchq ...` that the two files run or advise, without the word launchq."""
    [default] = [json.loads(words) for kind, words in instructions() if kind == "CMD"]
    yield default
    for name in OURS:
        yield SERVICES[name]["command"]
        if SERVICES[name]["healthcheck"]["test"][1] == "launchq":
            yield SERVICES[name]["healthcheck"]["test"][2:]
    for line in re.findall(r"^#\s+docker compose (.*)", COMPOSE_TEXT, re.MULTILINE):
        words = shlex.split(line.split("<")[0], comments=True)
        service = next((word for word in words if word in SERVICES), "")
        if words[0] in {"run", "exec"}:
            assert service in OURS, line
            after = words[words.index(service) + 1 :]
            assert (words[0] == "exec") == (after[0] == "launchq"), line  # `run` has the image's entry point
            assert "-T" in words or "<" not in line, line
            yield after[words[0] == "exec" :]
        else:
            assert {"up", "down"} & set(words), line


def test_every_command_that_is_named_exists() -> None:
    found = list(commands())
    assert len(found) > 10
    for words in found:
        command: click.Command = group
        context = click.Context(group)
        arguments = list(words)
        while isinstance(command, click.Group) and not arguments[0].startswith("-"):
            inner = command.get_command(context, arguments.pop(0))
            assert inner is not None, words
            command = inner
        if command.name != "sandbox":  # which reads its arguments itself, and is started below
            command.make_context(command.name, arguments)


# --- Dockerfile and .dockerignore -------------------------------------------------------------------------------------


def test_the_image_runs_launchq_as_nobody_special() -> None:
    found = dict(instructions())
    assert json.loads(found["ENTRYPOINT"]) == ["launchq"]
    assert json.loads(found["CMD"]) == ["worker"]
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert "PYTHONUNBUFFERED=1" in found["ENV"]
    user, _, users_group = found["USER"].partition(":")
    assert int(user) > 0
    assert int(users_group) > 0
    assert PROJECT["project"]["scripts"]["launchq"] == "launchq.cli:main"


def test_the_image_is_built_from_python_alone_and_with_our_constraints() -> None:
    kinds = [kind for kind, _ in instructions()]
    version = next(words for kind, words in instructions() if kind == "ARG")
    assert version == "PYTHON_VERSION=3.12"
    bases = [words.split(" AS ")[0] for kind, words in instructions() if kind == "FROM"]
    assert bases == ["python:${PYTHON_VERSION}-slim"] * 2
    installs = [words for kind, words in instructions() if kind == "RUN" and " install " in words]
    assert installs
    assert all("-c constraints.txt" in words for words in installs)
    last_stage = instructions()[len(kinds) - 1 - kinds[::-1].index("FROM") :]
    assert [words.split()[0] for kind, words in last_stage if kind == "COPY"] == ["--from=build"]
    assert not {kind for kind in kinds if kind in {"ADD", "EXPOSE", "VOLUME", "SHELL"}}


def test_the_image_gets_every_package_and_nothing_else() -> None:
    assert copied() == {*PACKAGES, "pyproject.toml", "constraints.txt", PROJECT["project"]["readme"]}


def test_the_build_context_holds_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied()
    assert "**/.env" in patterns


def test_the_wheel_that_the_image_builds_holds_every_file(tmp_path: Path) -> None:
    """Built from a folder that holds what the Dockerfile copies: the .lua files are the ledger."""
    context = tmp_path / "context"
    context.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, context / name)
    arguments = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path)]
    built = subprocess.run(
        [*arguments, str(context)], check=False, capture_output=True, text=True, timeout=90
    )
    if built.returncode and "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, cannot be fetched here")
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(context))
        for name in PACKAGES
        for path in (context / name).rglob("*")
        if path.is_file()
    }
    assert {"ledger/lua/claim.lua", "launchq/example.json", "config/py.typed"} <= files
    assert packed == files


def test_the_image_can_import_what_it_needs() -> None:
    """Only with what `pip install .[board,otel]` brings: tools of the tests hide what is missing there."""
    script = """
import importlib, importlib.abc, importlib.metadata, json, sys
allowed = set(json.loads(sys.argv[1]))
owners = importlib.metadata.packages_distributions()
class Bouncer(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        found = {owner.lower().replace('_', '-') for owner in owners.get(name.partition('.')[0], [])}
        if found and not found & allowed:
            raise ModuleNotFoundError(f"No module named {name!r}: pyproject.toml does not ask for it", name=name)
sys.meta_path.insert(0, Bouncer())
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
    ours = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in PACKAGES
        for path in sorted((ROOT / name).rglob("*.py"))
        if path.stem not in {"__init__", "__main__"}
    ]
    loaded_by_name = [
        "kombu.transport.redis",
        "celery.worker",
        "celery.bin.worker",
        "celery.concurrency.prefork",
    ]
    allowed = json.dumps(sorted(runtime_distributions()))
    arguments = [sys.executable, "-c", script, allowed, *ours, *loaded_by_name]
    done = subprocess.run(arguments, cwd=ROOT, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def runtime_distributions() -> set[str]:
    """The distributions that `pip install .[board,otel]` brings, by the metadata of those installed here."""
    packaging = pytest.importorskip("packaging.requirements")
    found: set[str] = {"launchq"}
    seen: set[tuple[str, str]] = set()
    extras = PROJECT["project"]["optional-dependencies"]
    wanted_here = [*PROJECT["project"]["dependencies"], *extras["board"], *extras["otel"]]
    pending = [(requirement, "") for requirement in wanted_here]
    while pending:
        text, extra = pending.pop()
        requirement = packaging.Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        found.add(name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                pending += [(one, wanted) for one in importlib.metadata.requires(name) or []]
    return found


# --- all of it, running -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """The sandbox profile's services as processes of this machine."""

    redis_url: str
    run: Callable[..., subprocess.CompletedProcess[str]]
    start: Callable[[str], subprocess.Popen[bytes]]
    health: Callable[[str], int]
    log: Callable[[str], str]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Redis with compose's flags, and a way to start the rest."""
    binary = tmp_path / "redis-server"
    flags = shlex.join(SERVICES["redis"]["command"][1:])
    binary.write_text(f'#!/bin/sh\nexec {shlex.quote(find_redis_binary())} "$@" {flags}\n')
    binary.chmod(0o755)
    work = tmp_path / "work"  # like the image's, without an .env
    work.mkdir()
    # The opposites of compose's flags: what holds then is compose's.
    opposite = RedisServer(binary=str(binary), append_fsync="no", maxmemory_policy="allkeys-lru")
    with ExitStack() as cleanup:
        server = cleanup.enter_context(opposite)
        port = HeldPort("127.0.0.1")
        cleanup.callback(port.close)

        def local(text: str) -> str:
            return text.replace("redis:6379", f"127.0.0.1:{server.port}").replace(
                SANDBOX_PORT, str(port.number)
            )

        def command(words: list[str]) -> list[str]:
            python = {"launchq": [sys.executable, "-m", "launchq"], "python": [sys.executable]}
            return [*python[words[0]], *map(local, words[1:])]

        def environment(service: str) -> dict[str, str]:
            values = interpolated(SERVICES[service].get("environment", {}), {})
            inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            return inherited | {name: local(value) for name, value in values.items()}

        def run(service: str, words: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command(words),
                env=environment(service),
                cwd=work,
                input=text,
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
            )

        def start(service: str) -> subprocess.Popen[bytes]:
            output = cleanup.enter_context((tmp_path / f"{service}.log").open("wb"))
            child = subprocess.Popen(
                command(["launchq", *SERVICES[service]["command"]]),
                env=environment(service),
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            cleanup.callback(_end, child)
            return child

        def health(service: str) -> int:
            kind, *test = SERVICES[service]["healthcheck"]["test"]
            assert kind == "CMD"
            return run(service, test).returncode

        def log(service: str) -> str:
            return (tmp_path / f"{service}.log").read_text(encoding="utf-8", errors="replace")

        yield Stack(server.url, run, start, health, log)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill it with its children, if it still runs."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _until_healthy(stack: Stack, service: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while stack.health(service) != 0:
        assert child.poll() is None, f"{service} ended by itself"
        assert time.monotonic() < deadline, f"{service} did not get healthy"


def test_the_sandbox_walk_through(stack: Stack) -> None:
    """`up -d sandbox-worker`, `submit - --wait`, `down`: with the commands, environments and checks of compose."""
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as server:
        flags = SERVICES["redis"]["command"][1:]
        for name, value in zip(flags[::2], flags[1::2], strict=True):
            assert server.config_get(name.removeprefix("--")) == {name.removeprefix("--"): value}

    assert stack.health("sandbox") != 0
    assert stack.health("sandbox-worker") != 0
    sandbox, worker = stack.start("sandbox"), stack.start("sandbox-worker")
    _until_healthy(stack, "sandbox", sandbox)
    _until_healthy(stack, "sandbox-worker", worker)

    body = (ROOT / "launchq" / "example.json").read_text(encoding="utf-8")
    submitted = stack.run(
        "sandbox-worker", ["launchq", "submit", "-", "--wait", "--timeout", "30s", "--json"], body
    )
    assert submitted.returncode == 0, submitted.stderr + stack.log("sandbox-worker")
    [job] = json.loads(submitted.stdout)["jobs"]
    assert job["state"] == "succeeded"
    assert job["instanceId"]

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert stack.health("sandbox-worker") != 0
    sandbox.send_signal(signal.SIGTERM)
    assert sandbox.wait(PATIENCE) == 0
    assert stack.health("sandbox") != 0


def test_redis_own_health_check(stack: Stack) -> None:
    client = shutil.which("redis-cli") or shutil.which("redis-cli", path=str(Path(sys.executable).parent))
    if client is None:
        pytest.skip("no redis-cli here")
    kind, test = SERVICES["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    port = stack.redis_url.rpartition(":")[2].partition("/")[0]
    nobody = HeldPort("127.0.0.1")
    try:
        for number, healthy in ((port, True), (str(nobody.number), False)):
            line = test.replace("redis-cli", f"{shlex.quote(client)} -p {number}")
            code = subprocess.run(
                ["/bin/sh", "-c", line], check=False, capture_output=True, timeout=10
            ).returncode
            assert (code == 0) is healthy
    finally:
        nobody.close()
