"""No secret is where none may be: sentinels everywhere, things going wrong, then a search of all that was said and kept."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis as redis_client
from celery import Celery
from cryptography.fernet import Fernet

from harness import Ran, World, body, wait_until
from launchq import Launcher, LaunchRequest
from ledger import Ledger, calls
from ledger.vault import Vault
from sandbox import CloudOptions
from secret_scan import Scan
from tasks.intake import read_input
from tasks.jobs import Submission
from tasks.request import parse_request
from worker.app import make_app
from worker.cloud import Credential

SECRETS = {
    "password": "sentinel-password-5f1c",
    "access token": "sentinel-access-token-2b7e",
    "pasted token": "sentinel-pasted-token-91d4",
    "api key": "sentinel-api-key-c3a8",
    "redis password": "sentinel-redis-password-77e0",
    "init script": "sentinel-init-script-e6b2",
    "secret key": Fernet.generate_key().decode(),
    "address": "sentinel-address-8d27",
    "secret of an address": "sentinel-secret-of-an-address-0b94",
}
IN_FILES = {"PASSWORD": "password", "ACCESS_TOKEN": "access token", "SECRET_KEY": "secret key"}
"""Setting -> which secret a file gives it."""

SCRIPT = f"export KEY={SECRETS['init script']}"
CONFIGURATION = {"enableCommonData": False, "enableDocker": False, "initScript": SCRIPT}
FAULTS = {
    "rejected": "message:no such image",
    "expired": "expired",
    "throttled": "429:1",
    "unknown": "502-after",
    "reset": "reset-before",
    "garbage": "garbage-after",
    "sold-out": "sold-out",
}


def secretive(name: str, **changes: Any) -> dict[str, Any]:
    return body(name, instanceConfiguration=CONFIGURATION, **changes)


@dataclass
class Scene:
    """What happened: what commands and workers said, what was sent to Redis, which processes ran."""

    world: World
    scan: Scan
    ran: dict[str, Ran] = field(default_factory=dict)
    sent_to_redis: list[bytes] = field(default_factory=list)
    followers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def redis(self) -> redis_client.Redis:
        return redis_client.Redis.from_url(self.world.settings.redis_url)

    def run(self, *words: str, note: str = "", **options: Any) -> Ran:
        ran = self.world.run(*words, **options)
        self.ran[f"{' '.join(words)} {note}"] = ran
        return ran

    def pids(self) -> list[int]:
        """Every process of ours that lives: workers and their children, commands, the cloud, Redis."""
        ours = [worker.pid for worker in self.world.workers if not worker.ended]
        ours += [*(one.pid for one in self.followers), self.world.cloud.pid, self.world.redis.pid]
        children = [child.pid for pid in ours for child in psutil.Process(pid).children(recursive=True)]
        return [*ours, *children]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Real workers at level debug; jobs by every door; and much that goes wrong."""
    cloud = CloudOptions(latency=0.02, password=SECRETS["password"], api_keys=(SECRETS["api key"],))
    with World(cloud=cloud, backoff_base="0.05", backoff_cap="0.2", password=None) as world:
        with redis_client.Redis.from_url(world.redis.url) as admin:
            admin.config_set("requirepass", SECRETS["redis password"])
        url = f"redis://:{SECRETS['redis password']}@127.0.0.1:{world.redis.port}/0"
        for name, secret in {
            **{name: SECRETS[one] for name, one in IN_FILES.items()},
            "REDIS_URL": url,
            # Nobody listens there.
            "NOTIFY": f"feishu:http://127.0.0.1:1/hook/{SECRETS['address']}#secret={SECRETS['secret of an address']}",
        }.items():
            file = world.folder / f"{name.lower()}.secret"
            file.write_text(secret)
            world.set(**{name: None, f"{name}_FILE": file})
        scene = Scene(world, Scan(SECRETS))
        try:
            with listening_to(scene):
                play(scene)
            yield scene
        finally:
            for follower in scene.followers:
                follower.terminate()  # `up` then stops its worker
                follower.wait(30)


def listening_to(scene: Scene) -> Any:
    """Notes all that is sent to Redis; AUTH alone is not told to listeners."""

    class Listening:
        def __enter__(self) -> None:
            self.client = scene.redis
            self.monitor = self.client.monitor()
            self.monitor.__enter__()
            self.thread = threading.Thread(target=self.listen, daemon=True)
            self.thread.start()

        def listen(self) -> None:
            with suppress(redis_client.RedisError, ValueError, OSError, AttributeError):
                while line := self.monitor.connection.read_response():
                    scene.sent_to_redis.append(line)

        def __exit__(self, *_: object) -> None:
            # Ended from the other side: a blocked read does not notice that its socket is closed here.
            with scene.redis as admin:
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            self.thread.join(10)
            self.client.close()

    return Listening()


def play(scene: Scene) -> None:
    world = scene.world
    debug = ["-m", "launchq", "worker", "--processes", "1", "--log-level", "debug"]

    # The token of the settings is refused, and so is the login: the account is blocked.
    world.cloud.set_password("another-password")
    world.worker(command=debug)
    first = world.launcher.submit(secretive("first"))
    wait_until(lambda: world.launcher.account().state == "blocked", description="the account is blocked")
    for command in ("status", "list", "doctor", "auth status"):
        scene.run(*command.split(), note="blocked")
    world.cloud.set_password(SECRETS["password"])
    wait_until(lambda: ended(world, first.id), description="the next login works")

    # Every end of a call, by the file door.
    for name, fault in FAULTS.items():
        world.cloud.script_faults(fault, name=f"{name}-*")
    many = json.dumps([secretive(name) for name in FAULTS])
    scene.run("submit", "-", "--batch", "b", "--count", "2", "--wait", "--timeout", "15s", stdin=many)
    scene.run("submit", "-", "--batch", "b", "--count", "2", "--json", stdin=many)
    # By a curl command, whose token is none that the cloud knows.
    curl = (
        f"curl -X POST 'https://cloud.luchentech.com/api/instance/create' -b 'AccessToken={SECRETS['pasted token']}' "
        f"-H 'Content-Type: application/json' -d '{json.dumps(secretive('by-curl'))}'"
    )
    scene.run("plan", "-", stdin=curl)
    scene.run("plan", "-", "--json", stdin=curl)
    scene.run("submit", "-", "--use-token", "--wait", "--timeout", "15s", stdin=curl)
    scene.run("auth", "set-token", "--json", stdin=SECRETS["pasted token"])
    # Bodies that are wrong, in ways that tempt to quote them.
    for wrong in (
        {**secretive("wrong"), "extra": SECRETS["init script"]},
        {**secretive("wrong"), "instanceConfiguration": {**CONFIGURATION, "initScript": [SCRIPT]}},
        {**secretive("wrong"), "nodePorts": SCRIPT},
    ):
        scene.run("submit", "-", stdin=json.dumps(wrong), note="wrong")
        scene.run("submit", "-", "--json", stdin=json.dumps(wrong), note="wrong json")
    scene.run("submit", "-", stdin=f'{{"name": "{SCRIPT}', note="cut off")
    scene.run(
        "submit", "-", "--batch", "b", "--count", "2", stdin=many.replace("KEY=", "OTHER="), note="conflict"
    )

    # The Celery door, sealed: well, wrong inside, and with another key.
    fernets = [Fernet(SECRETS["secret key"]), Fernet(Fernet.generate_key())]
    sent = []
    with make_app(world.settings) as app:
        for fernet, given in (
            (fernets[0], secretive("by-celery")),
            (fernets[0], secretive("wrong", nodePorts=[SCRIPT])),
            (fernets[1], secretive("other-key")),
        ):
            sealed = fernet.encrypt(json.dumps(given).encode()).decode()
            sent.append(app.send_task("launchq.submit", [sealed], queue=world.prefix).id)
    for job_id in sent:
        wait_until(lambda one=job_id: ended(world, one), description="the Celery door's jobs end")

    # Out of reach, and with the wrong password.
    host, password = f"127.0.0.1:{world.redis.port}", SECRETS["redis password"]
    for note, url in {
        "unreachable": f"redis://:{password}@127.0.0.1:1/0",
        "denied": f"redis://:{password}-wrong@{host}/0",
        "no url": f"redis://:{password}]@[{host}/0",
    }.items():
        for command in (["list"], ["doctor", "--json"]):
            scene.run(*command, note=note, redis_url=url)
    scene.run(
        "list",
        note="wrong settings",
        secret_key=SECRETS["password"],
        api_url=f"ftp://x:{SECRETS['password']}@h",
        notify=f"feishu:ftp://h/{SECRETS['address']} json:https://h/#secret={SECRETS['secret of an address']}",
    )
    scene.run("notify", "test")
    lost = world.worker(command=debug, ready=False, redis_url=f"redis://:{password}@127.0.0.1:1/0")
    wait_until(lambda: "refused" in lost.log(), description="a worker without Redis says so")
    lost.kill_all()
    keyed = world.worker(
        command=debug, prefix=f"{world.prefix}-keyed", ready=False, api_key=SECRETS["api key"], username=""
    )

    # Tracebacks, with the secret in hand: a record that breaks a command, then one that breaks a shift.
    [broken, heavy] = (world.launcher.submit(secretive(name)).id for name in ("broken", "heavy"))
    for job_id in (broken, heavy):
        wait_until(lambda one=job_id: ended(world, one), description="jobs that are broken on purpose")
    ledger = world.launcher.ledger
    ledger.redis.hset(ledger.keys.job(broken), "request", ledger.vault.seal(f'{{"initScript": "{SCRIPT}'))
    assert "Traceback" in scene.run("status", broken).err
    ledger.redis.hset(ledger.keys.job(broken), "request", ledger.vault.seal("{}"))
    world.cloud.pause_listening()
    for number in range(5):
        world.launcher.submit(secretive(f"waits-{number}"))
    breaks = world.launcher.submit(secretive("breaks"), max_attempts=1000).id
    ledger.redis.hset(ledger.keys.job(breaks), "maxAttempts", "no number")
    wait_until(
        lambda: "invalid literal for int()" in world.logs(), description="a shift ends with a traceback"
    )
    ledger.redis.hset(ledger.keys.job(breaks), "maxAttempts", "1000")
    world.cloud.resume_listening()

    for command in ("list", "list --json", "status", "status --json", "status b", f"status {first.id}", "doctor",
                    f"status {first.id} --json", "events", "events --json", "wait b --timeout 1s --json", "cancel b",
                    "retry b --json", "auth status --json", "doctor --json"):  # fmt: skip
        scene.run(*command.split())
    for words in (["events", "--follow"], ["up", "--processes", "1"]):
        with (world.folder / f"{words[0]}.out").open("wb") as out:
            command = [sys.executable, "-m", "launchq", *words]
            options: dict[str, Any] = {"env": world.environment, "cwd": world.folder}
            scene.followers.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **options))
    up = scene.followers[-1]
    wait_until(
        lambda: len(psutil.Process(up.pid).children(recursive=True)) >= 2, description="`up` has a worker"
    )
    assert not keyed.ended


def ended(world: World, job_id: str) -> bool:
    """Whether the job is there and its last attempt has an end, whichever."""
    [job] = world.launcher.ledger.jobs([job_id])
    return job is not None and (job.ended or job.error is not None)


def test_the_scene_is_what_it_should_be(scene: Scene) -> None:
    """A scan of a scene in which little happened would prove nothing."""
    log = scene.world.logs()
    for sign in (
        "login was refused",
        "DEBUG",
        "Traceback",
        "logged in as",
        "cannot be launched",
        "a notice to feishu-",
    ):
        assert sign in log, sign
    assert {request["outcome"] for request in scene.world.cloud.requests()} >= {"created", "unauthorized"}
    arrived = {request["body"]["name"] for request in scene.world.cloud.requests()}
    assert {"first", "by-curl", "by-celery", *(f"{name}-01" for name in FAULTS)} <= arrived
    created = [
        request["body"]["instanceConfiguration"]["initScript"] for request in scene.world.cloud.requests()
    ]
    assert set(created) == {SCRIPT}
    assert any(job.name == "by-celery" for job in scene.world.launcher.list_jobs(limit=0))
    assert scene.sent_to_redis


def test_no_log_of_a_worker_holds_a_secret(scene: Scene) -> None:
    for worker in scene.world.workers:
        assert scene.scan.found_in(worker.log()) == set()


def test_no_command_says_a_secret(scene: Scene) -> None:
    told = {words: scene.scan.found_in(ran.out + ran.err) for words, ran in scene.ran.items()}
    assert {words: names for words, names in told.items() if names} == {}
    for file in scene.world.folder.glob("*.out"):
        assert scene.scan.found_in(file.read_bytes()) == set(), file.name


def test_redis_neither_holds_a_secret_nor_is_ever_sent_one(scene: Scene) -> None:
    with scene.redis as client:
        assert scene.scan.found_in_redis(client) == {}
        held = client.hget(f"{{{scene.world.prefix}}}:token", "value")
        token = scene.world.launcher.ledger.vault.open((held or b"").decode())
        assert Scan({"token": token}).found_in_redis(client) == {}
    assert scene.scan.found_in(b"\n".join(scene.sent_to_redis)) == set()


def test_the_process_list_shows_no_secret(scene: Scene) -> None:
    assert scene.scan.found_in_processes(scene.pids(), "cmdline") == {}


def test_secrets_that_come_by_file_are_in_no_environment(scene: Scene) -> None:
    """The API key was given in the environment, to one worker: there it is."""
    found = scene.scan.found_in_processes(scene.pids(), "environ")
    assert {name for names in found.values() for name in names} == {"api key"}
    keyed = scene.world.workers[-1]
    assert set(found) == {keyed.pid, *keyed.children()}


def test_no_repr_shows_a_secret(scene: Scene) -> None:
    settings, launcher = scene.world.settings, scene.world.launcher
    request = parse_request(secretive("shown"))
    submission = Submission.of(request, "id")
    curl = f"curl https://x/api/instance/create -b 'AccessToken={SECRETS['pasted token']}' -d '{json.dumps(secretive('shown'))}'"
    vault = Vault(settings.secret_keys)
    reply = ["", "0", "", "", [vault.seal(SECRETS["access token"]), "1", "", ""],
             [vault.seal(submission.body)], [["id", "1", "1", "0", "", "", "", "", "shown"]]]  # fmt: skip
    claiming = calls.claim(
        "c", limit=1, lease=1, worker="w", api_key="", first=True, watching=True, vault=vault
    )
    claim = claiming.parse(reply)
    assert claim.token is not None
    assert SECRETS["init script"] in str(claim.jobs[0].request)
    carriers = [
        settings, launcher, launcher.ledger, launcher.ledger.redis, vault, vault._fernet, request,
        request.instance_configuration, submission, claim, claim.token, claim.jobs[0], claiming,
        calls.enqueue([submission], vault=vault), calls.enqueue([submission], vault=Vault()),
        calls.store_token(SECRETS["pasted token"], source="x", vault=Vault()), read_input(curl, source="-"),
        Credential.token(SECRETS["pasted token"]), Credential.api_key(SECRETS["api key"]),
        *launcher.list_jobs(limit=0), launcher.account(), make_app(settings).connection(),
    ]  # fmt: skip
    for carrier in carriers:
        for shown in (repr(carrier), str(carrier)):
            assert scene.scan.found_in(shown) == set(), type(carrier)


def raising(scene: Scene) -> Iterator[Callable[[], Any]]:
    """Calls that fail with a secret in hand."""
    settings, password = scene.world.settings, SECRETS["redis password"]
    yield lambda: Ledger(f"redis://:{password}@127.0.0.1:1/0").server()
    yield lambda: Ledger(f"redis://:{password}-x@127.0.0.1:{scene.world.redis.port}/0").server()
    yield lambda: Launcher(settings).submit({**secretive("x"), "nodePorts": [SCRIPT]})
    yield lambda: Launcher(settings).submit(SCRIPT)  # type: ignore[arg-type]
    yield lambda: LaunchRequest(name=SCRIPT, image_id=[SCRIPT])  # type: ignore[arg-type, call-arg]
    yield lambda: Launcher(settings).set_token(SECRETS["pasted token"] + " x")
    yield lambda: Vault([Fernet.generate_key().decode()]).open(Vault(settings.secret_keys).seal(SCRIPT))
    yield lambda: Credential.token(SECRETS["pasted token"] + "\n")
    yield lambda: Vault([SECRETS["secret key"][1:]]).seal(SCRIPT)
    yield lambda: read_input(f'{{"initScript": "{SCRIPT}', source="-")


def test_no_traceback_shows_a_secret(scene: Scene) -> None:
    for call in raising(scene):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is, it must not tell)
            call()
        # Without the lines of this file, some of which hold one.
        error = traceback.TracebackException.from_exception(caught.value)
        assert scene.scan.found_in("".join(_said(error))) == set(), call


def _said(error: traceback.TracebackException | None) -> Iterator[str]:
    if error is not None:
        yield from error.format_exception_only()
        yield from _said(error.__cause__)
        yield from _said(error.__context__)


class TestTheScanItself:
    """It finds what is leaked on purpose, in every place it looks at."""

    @pytest.mark.parametrize("secret", SECRETS)
    def test_in_text_and_its_disguises(self, scene: Scene, secret: str) -> None:
        value = SECRETS[secret]
        for prefix in ("", "a", "ab", "abc"):
            assert scene.scan.found_in(f"x{prefix}{value}y") == {secret}
            coded = base64.b64encode(f"{prefix}{value} and more".encode())
            assert scene.scan.found_in(coded) == {secret}
            assert scene.scan.found_in(base64.urlsafe_b64encode(f"{prefix}{value}".encode())) == {secret}
        assert scene.scan.found_in(value[:-3]) == set()

    def test_in_every_type_of_key(self, scene: Scene) -> None:
        secret = SECRETS["init script"]
        with scene.redis as client:
            client.hset("leak:hash", "field", f"-{secret}-")
            client.hset("leak:field", secret, "value")
            client.set("leak:string", secret)
            client.rpush("leak:list", "x", secret)
            client.sadd("leak:set", secret)
            client.zadd("leak:zset", {secret: 1})
            client.xadd("leak:stream", {"field": secret})
            client.set(f"leak:{secret}", "x")
            with Celery(broker=scene.world.settings.redis_url) as app:
                app.send_task("launchq.submit", [secretive("leak")], queue="leak:queue")
            found = scene.scan.found_in_redis(client)
            names = {name for name in client.keys("leak:*") if b"." not in name}
            assert set(found) == {name.decode() for name in names}
            assert len(names) == 9
            client.delete(*names)
            assert scene.scan.found_in_redis(client) == {}

    def test_in_processes(self, scene: Scene) -> None:
        environment = {**os.environ, "LEAK": f"x={SECRETS['password']}"}
        words = [sys.executable, "-c", "input()", SECRETS["api key"]]
        with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE) as leaking:
            line = Path(f"/proc/{leaking.pid}/cmdline")
            wait_until(lambda: SECRETS["api key"] in line.read_text(), description="the program has begun")
            assert scene.scan.found_in_processes([leaking.pid], "cmdline") == {leaking.pid: {"api key"}}
            assert scene.scan.found_in_processes([leaking.pid], "environ") == {leaking.pid: {"password"}}
            leaking.communicate(b"\n")

    def test_in_what_is_sent_to_redis(self, scene: Scene) -> None:
        before = len(scene.sent_to_redis)
        with listening_to(scene), scene.redis as client:
            client.get(SECRETS["init script"])
            wait_until(
                lambda: scene.scan.found_in(b"\n".join(scene.sent_to_redis[before:])),
                description="it is heard",
            )
        del scene.sent_to_redis[before:]

    def test_in_redis_without_a_key_only_where_the_documents_say(self) -> None:
        """`request` of a template, `value` of the token, and a Celery message on its way."""
        scan = Scan(SECRETS)
        with World() as world:
            world.launcher.submit(secretive("plain"))
            world.launcher.set_token(SECRETS["pasted token"])
            with Celery(broker=world.redis.url) as app:
                app.send_task("launchq.submit", [secretive("plain")], queue=world.prefix)
            with redis_client.Redis.from_url(world.redis.url) as client:
                found = scan.found_in_redis(client)
                base = f"{{{world.prefix}}}:"
                [template] = [key for key in found if ":template:" in key]
                assert found == {
                    template: {"init script"},
                    f"{base}token": {"pasted token"},
                    world.prefix: {"init script"},
                }
                for key, secret in ((template, "request"), (f"{base}token", "value")):
                    holding = {name for name, value in client.hgetall(key).items() if scan.found_in(value)}
                    assert holding == {secret.encode()}
