"""Settings: where they come from, which win, what is refused, and that no secret shows."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from config import Settings, SettingsError, load, seconds
from config.celery_settings import celery_settings
from config.settings import is_given, unknown_names, without_password

SECRET = "s3cret-value"
FERNET_KEY = "A" * 43 + "="


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, and an environment without any of our settings."""
    import os

    for name in list(os.environ):
        if name.startswith("LAUNCHQ_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environment)
    return str(caught.value)


class TestDefaults:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("redis_url", "redis://127.0.0.1:6379/0"),
            ("broker", "redis://127.0.0.1:6379/0"),
            ("prefix", "launchq"),
            ("api_url", "https://cloud.luchentech.com/api"),
            ("access_token", None),
            ("username", ""),
            ("password", None),
            ("api_key", None),
            ("secret_key", None),
            ("request_timeout", 30),
            ("concurrency", 100),
            ("rate_limit", 10),
            ("max_attempts", 8),
            ("backoff_base", 1),
            ("backoff_cap", 60),
            ("verify_delays", (5, 15, 45)),
            ("capacity_interval", 30),
            ("stock", "on"),
            ("capacity_messages", ()),
            ("balance_messages", ()),
            ("shift_seconds", 30),
            ("retention", 7 * 24 * 3600),
            ("timezone", "Asia/Shanghai"),
            ("notify", None),
            ("notify_on", ("batchDone", "jobFailed", "needsPerson", "capacityArrived")),
            ("log_format", "text"),
            ("traces", ""),
        ],
    )
    def test_each(self, name: str, value: Any) -> None:
        assert getattr(load({}), name) == value

    def test_none_is_forgotten_here(self) -> None:
        tested = {
            mark.args[1][i][0] for mark in TestDefaults.test_each.pytestmark for i in range(len(mark.args[1]))
        }
        assert {one.name for one in fields(Settings)} == tested - {"broker"} | {"broker_url"}


class TestWhatIsSeen:
    def test_a_collector_is_named_by_its_url(self) -> None:
        assert load({"LAUNCHQ_TRACES": "http://otel:4318/"}).traces == "http://otel:4318"

    @pytest.mark.parametrize(
        "url", ["otel:4318", "grpc://otel:4317", "http://", "https://me:hunter2@otel:4318"]
    )
    def test_anything_else_is_refused_and_not_repeated(self, url: str) -> None:
        message = refused({"LAUNCHQ_TRACES": url})
        assert message.startswith("LAUNCHQ_TRACES: must ")
        assert "hunter2" not in message

    def test_logs_are_text_or_json(self) -> None:
        assert load({"LAUNCHQ_LOG_FORMAT": "json"}).log_format == "json"
        assert "'text' or 'json'" in refused({"LAUNCHQ_LOG_FORMAT": "xml"})


class TestWhereTheyComeFrom:
    def test_the_environment_wins_over_the_env_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("LAUNCHQ_PREFIX=of-file\nLAUNCHQ_CONCURRENCY=7\n")
        monkeypatch.setenv("LAUNCHQ_PREFIX", "of-environment")
        settings = load()
        assert (settings.prefix, settings.concurrency, settings.max_attempts) == ("of-environment", 7, 8)

    def test_an_environment_that_is_given_is_the_only_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("LAUNCHQ_PREFIX=of-file\n")
        monkeypatch.setenv("LAUNCHQ_PREFIX", "of-environment")
        assert load({}).prefix == "launchq"

    def test_an_empty_value_is_none_also_against_what_the_file_says(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path(".env").write_text("LAUNCHQ_PREFIX=of-file\nLAUNCHQ_CONCURRENCY=\nLAUNCHQ_API_KEY=\n")
        monkeypatch.setenv("LAUNCHQ_PREFIX", "")
        monkeypatch.setenv("LAUNCHQ_ACCESS_TOKEN", "")
        monkeypatch.setenv("LAUNCHQ_PASSWORD_FILE", "")
        settings = load()
        assert (settings.prefix, settings.concurrency, settings.access_token, settings.api_key) == (
            "launchq", 100, None, None,
        )  # fmt: skip
        monkeypatch.delenv("LAUNCHQ_PREFIX")
        assert load().prefix == "of-file"

    @pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"  {SECRET}\r\n"])
    def test_a_value_out_of_a_file(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "secret"
        file.write_text(text)
        for name in ("ACCESS_TOKEN", "PASSWORD", "API_KEY"):
            found = getattr(load({f"LAUNCHQ_{name}_FILE": str(file)}), name.lower())
            assert found.get_secret_value() == SECRET

    def test_any_setting_can_come_out_of_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "value"
        file.write_text("redis://:pw@host/1\n")
        assert load({"LAUNCHQ_REDIS_URL_FILE": str(file)}).redis_url == "redis://:pw@host/1"

    def test_a_value_wins_over_a_file_of_the_same_place(self, tmp_path: Path) -> None:
        file = tmp_path / "value"
        file.write_text("of-a-file")
        assert load({"LAUNCHQ_PREFIX": "outright", "LAUNCHQ_PREFIX_FILE": str(file)}).prefix == "outright"

    def test_a_file_named_by_the_environment_wins_over_a_value_in_the_env_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = tmp_path / "value"
        file.write_text("named-by-environment")
        Path(".env").write_text("LAUNCHQ_PREFIX=of-env-file\n")
        monkeypatch.setenv("LAUNCHQ_PREFIX_FILE", str(file))
        assert load().prefix == "named-by-environment"

    def test_the_env_file_may_name_files(self, tmp_path: Path) -> None:
        file = tmp_path / "value"
        file.write_text("deep")
        Path(".env").write_text(f"LAUNCHQ_PREFIX_FILE={file}\n")
        assert load().prefix == "deep"

    def test_an_empty_file_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / "value"
        file.write_text("\n")
        assert load({"LAUNCHQ_PASSWORD_FILE": str(file)}).password is None

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "missing")
        text = refused({"LAUNCHQ_API_KEY_FILE": missing})
        assert text == f"LAUNCHQ_API_KEY_FILE: cannot read {missing}: No such file or directory"

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        file = tmp_path / "value"
        file.write_bytes(b"\xff\xfe\x80")
        assert "not UTF-8 text" in refused({"LAUNCHQ_API_KEY_FILE": str(file)})

    def test_nothing_in_the_env_file_is_interpolated(self) -> None:
        """A password may hold a dollar sign."""
        Path(".env").write_text("LAUNCHQ_PASSWORD=a${HOME}b$c\n")
        password = load().password
        assert password is not None
        assert password.get_secret_value() == "a${HOME}b$c"

    def test_whether_one_is_given_at_all(self) -> None:
        Path(".env").write_text("LAUNCHQ_PREFIX=launchq\nLAUNCHQ_CONCURRENCY=\n")
        assert is_given("prefix")
        assert not is_given("concurrency")
        assert not is_given("prefix", {})

    def test_names_that_are_none_are_found(self) -> None:
        Path(".env").write_text("LAUNCHQ_CONCURENCY=7\nOTHER=1\n")
        assert unknown_names() == ["LAUNCHQ_CONCURENCY"]
        assert unknown_names({"LAUNCHQ_API_KEY_FILE": "x", "LAUNCHQ_PREFIX": "y", "PATH": "z"}) == []


class TestApiUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "https://cloud.luchentech.com/api",
            "https://www.hpc-ai.com/api",
            "https://10.0.0.7:8443/api",
            "http://localhost/api",
            "http://LOCALHOST:8080/api",
            "http://127.0.0.1:8080/api",
            "http://127.8.9.10/api",
            "http://[::1]:8080/api",
        ],
    )
    def test_https_or_this_machine(self, url: str) -> None:
        assert load({"LAUNCHQ_API_URL": url}).api_url == url

    def test_a_slash_at_its_end_is_dropped(self) -> None:
        assert load({"LAUNCHQ_API_URL": "http://localhost:1/api/"}).api_url == "http://localhost:1/api"

    @pytest.mark.parametrize(
        "url",
        [
            "http://cloud.luchentech.com/api",
            "http://localhost.evil.com/api",
            "http://evil.com/localhost",
            "http://evil.com/?x=http://localhost",
            "http://evil.com#localhost",
            "http://127.0.0.1.evil.com/",
            "http://127.0.0.1@evil.com/",
            "http://localhost:80@evil.com/",
            "http://user:pw@localhost/",
            "https://user:pw@cloud.luchentech.com/api",
            "http://localhost\\@evil.com/",
            "http://evil.com\\@localhost/",
            "http://localhostx/",
            "http://xlocalhost/",
            "http://0.0.0.0/",
            "http://10.0.0.1/",
            "http://192.168.1.2/",
            "http://169.254.169.254/",
            "http://[2001:db8::1]/",
            "http://128.0.0.1/",
            "http:///api",
            "https://",
            "//localhost/api",
            "localhost:8080",
            "ftp://localhost/",
            "file:///etc/passwd",
            "http://[::1/",
            "nonsense",
        ],
    )
    def test_a_token_never_travels_in_the_clear(self, url: str) -> None:
        assert refused({"LAUNCHQ_API_URL": url}).startswith("LAUNCHQ_API_URL: must ")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("REDIS_URL", "http://host"),
            ("REDIS_URL", "127.0.0.1:6379"),
            ("REDIS_URL", "redis://127.0.0.1:99999/0"),
            ("REDIS_URL", "redis://127.0.0.1:0/0"),
            ("REDIS_URL", "redis://127.0.0.1:six/0"),
            ("BROKER_URL", "redis://127.0.0.1:99999/0"),
            ("BROKER_URL", "redis://127.0.0.1:1;redis://127.0.0.1:99999"),
            ("API_URL", "http://127.0.0.1:99999/api"),
            ("PREFIX", "a b"),
            ("PREFIX", "a}b"),
            ("PREFIX", "{a"),
            ("PREFIX", "x" * 101),
            ("REQUEST_TIMEOUT", "0"),
            ("REQUEST_TIMEOUT", "601"),
            ("REQUEST_TIMEOUT", "soon"),
            ("REQUEST_TIMEOUT", "-1"),
            ("REQUEST_TIMEOUT", "nan"),
            ("CONCURRENCY", "0"),
            ("CONCURRENCY", "1.5"),
            ("CONCURRENCY", "many"),
            ("RATE_LIMIT", "10"),
            ("RATE_LIMIT", "-1/s"),
            ("RATE_LIMIT", "10/d"),
            ("RATE_LIMIT", "fast"),
            ("RATE_LIMIT", "100001/s"),
            ("TIMEZONE", "Beijing"),
            ("TIMEZONE", "../etc/passwd"),
            ("MAX_ATTEMPTS", "0"),
            ("BACKOFF_BASE", "0"),
            ("BACKOFF_CAP", "inf"),
            ("CAPACITY_INTERVAL", "0s"),
            ("STOCK", "maybe"),
            ("VERIFY_DELAYS", "0,5"),
            ("VERIFY_DELAYS", "5,,15"),
            ("VERIFY_DELAYS", "15,5"),
            ("VERIFY_DELAYS", "5,5"),
            ("VERIFY_DELAYS", "soon"),
            ("VERIFY_DELAYS", ",".join(map(str, range(1, 23)))),
            ("RETENTION", "7w"),
            ("RETENTION", "0"),
            ("SHIFT_SECONDS", "0"),
            ("CAPACITY_MESSAGES", "(unclosed"),
            ("BALANCE_MESSAGES", "fine\n*"),
            ("ACCESS_TOKEN", "a\nb"),
            ("PASSWORD", "a\x00b"),
            ("API_KEY", "a\rb"),
            ("SECRET_KEY", "too-short"),
            ("SECRET_KEY", f"{FERNET_KEY},"),
            ("SECRET_KEY", f"{FERNET_KEY} {FERNET_KEY}"),
            ("SECRET_KEY", FERNET_KEY[:-1]),
            ("SECRET_KEY", FERNET_KEY.replace("A", "+")),
        ],
    )
    def test_each_names_its_variable(self, name: str, value: str) -> None:
        text = refused({f"LAUNCHQ_{name}": value})
        assert text.startswith(f"LAUNCHQ_{name}: ")
        assert "\n" not in text

    def test_everything_that_is_wrong_is_told_at_once(self) -> None:
        text = refused(
            {"LAUNCHQ_PREFIX": "a b", "LAUNCHQ_CONCURRENCY": "x", "LAUNCHQ_PASSWORD_FILE": "/nowhere/at/all"}
        )
        assert sorted(line.partition(":")[0] for line in text.splitlines()) == [
            "LAUNCHQ_CONCURRENCY", "LAUNCHQ_PASSWORD_FILE", "LAUNCHQ_PREFIX",
        ]  # fmt: skip

    def test_a_setting_that_does_not_exist_cannot_be_made(self) -> None:
        with pytest.raises(TypeError):
            Settings(rate="10/s")  # type: ignore[call-arg]

    def test_they_can_be_made_of_values_as_they_are_or_as_text(self) -> None:
        settings = Settings(
            concurrency=7, request_timeout="2m", verify_delays=(1, 2), password="hush", notify_on=("jobFailed",)  # type: ignore[arg-type]
        )  # fmt: skip
        assert (settings.concurrency, settings.request_timeout, settings.verify_delays) == (7, 120, (1, 2))
        assert settings.password is not None
        assert settings.password.get_secret_value() == "hush"
        assert settings == replace(settings)

    @pytest.mark.parametrize(
        "given",
        [
            {"concurrency": 0},
            {"concurrency": True},
            {"concurrency": 1.5},
            {"rate_limit": -1.0},
            {"retention": math.inf},
            {"backoff_base": math.nan},
            {"password": 7},
            {"redis_url": None},
            {"stock": True},
        ],
        ids=str,
    )
    def test_a_value_that_no_text_could_give_is_refused_too(self, given: dict[str, Any]) -> None:
        [name] = given
        with pytest.raises(SettingsError, match=f"^LAUNCHQ_{name.upper()}: must "):
            Settings(**given)

    def test_settings_do_not_change(self) -> None:
        with pytest.raises(FrozenInstanceError):
            load({}).prefix = "other"  # type: ignore[misc]


class TestRate:
    @pytest.mark.parametrize(
        ("text", "rate"),
        [("10/s", 10), ("600/m", 10), ("0.5/s", 0.5), ("36 / h", 0.01), ("0", 0), ("0/s", 0)],
    )
    def test_is_a_number_of_calls_a_second(self, text: str, rate: float) -> None:
        assert load({"LAUNCHQ_RATE_LIMIT": text}).rate_limit == pytest.approx(rate)


class TestSecrets:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ACCESS_TOKEN", f"{SECRET}\nsecond line"),
            ("PASSWORD", f"{SECRET}\x07"),
            ("API_KEY", f"\t{SECRET}\n\n{SECRET}"),
            ("REDIS_URL", f"http://:{SECRET}@host"),
            ("REDIS_URL", f"redis://:[{SECRET}]@host"),
            ("REDIS_URL", f"redis://:[{SECRET}@host"),
            ("REDIS_URL", f"redis://:{SECRET}℀@host"),
            ("BROKER_URL", f"redis://:[{SECRET}]@host"),
            ("BROKER_URL", f"amqp://user:{SECRET}℀@host"),
            ("API_URL", f"https://user:{SECRET}@host"),
            ("API_URL", f"https://user:[{SECRET}]@host"),
            ("CONCURRENCY", SECRET),
            ("SECRET_KEY", SECRET),
            ("SECRET_KEY", f"{FERNET_KEY},{SECRET}"),
            ("PREFIX", f"{SECRET} pasted into the wrong line"),
        ],
    )
    def test_no_error_shows_one(self, name: str, value: str) -> None:
        text = refused({f"LAUNCHQ_{name}": value})
        assert text.startswith(f"LAUNCHQ_{name}: ")
        assert SECRET not in text

    def test_no_traceback_shows_one(self) -> None:
        """A chained exception would be printed with the error."""
        with pytest.raises(SettingsError) as caught:
            load(
                {"LAUNCHQ_PASSWORD": f"{SECRET}\n{SECRET}", "LAUNCHQ_REDIS_URL": f"redis://:[{SECRET}]@host"}
            )
        chain: BaseException | None = caught.value
        while chain is not None:
            assert SECRET not in str(chain)
            chain = chain.__cause__ or chain.__context__

    def test_repr_hides_secrets_and_urls(self) -> None:
        settings = load(
            {
                "LAUNCHQ_ACCESS_TOKEN": f"token-{SECRET}",
                "LAUNCHQ_PASSWORD": f"password-{SECRET}",
                "LAUNCHQ_API_KEY": f"key-{SECRET}",
                "LAUNCHQ_SECRET_KEY": FERNET_KEY,
                "LAUNCHQ_REDIS_URL": f"redis://:{SECRET}@host/0",
                "LAUNCHQ_BROKER_URL": f"amqp://user:{SECRET}@host",
            }
        )
        for shown in (repr(settings), str(settings), f"{settings.password}", f"{settings.secret_key}"):
            assert FERNET_KEY not in shown
            assert SECRET not in shown
            assert "@host" not in shown

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://host/0", "redis://host/0"),
            ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
            (f"redis://:{SECRET}@host:6379/0", "redis://:***@host:6379/0"),
            (f"redis://user:{SECRET}@host/0", "redis://user:***@host/0"),
            (f"redis://user:a@{SECRET}@host/0", "redis://user:***@host/0"),
            (f"redis://host/0?password={SECRET}", "redis://host/0?password=***"),
            (
                f"redis://host/0?db=1&password={SECRET}&username=u",
                "redis://host/0?db=1&password=***&username=u",
            ),
            (f"unix://:{SECRET}@/run/redis.sock", "unix://:***@/run/redis.sock"),
        ],
    )
    def test_a_url_can_be_shown_without_its_password(self, url: str, shown: str) -> None:
        assert without_password(url) == shown


class TestValues:
    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("30", 30),
            ("30s", 30),
            ("500ms", 0.5),
            ("10m", 600),
            ("12h", 43200),
            ("7d", 604800),
            (" 1.5 h ", 5400),
            (2, 2.0),
        ],
    )
    def test_lengths_of_time(self, text: Any, number: float) -> None:
        assert seconds(text) == number

    @pytest.mark.parametrize("text", ["", "1w", "m", "-5s", "1h30m", "1e3", "٣٠ s x", True, None])
    def test_what_is_no_length_of_time(self, text: Any) -> None:
        with pytest.raises(ValueError, match="length of time"):
            seconds(text)

    def test_rules_are_one_a_line(self) -> None:
        settings = load({"LAUNCHQ_CAPACITY_MESSAGES": "gpu busy\n\n  (?i)nothing left  \n"})
        assert settings.capacity_messages == ("gpu busy", "(?i)nothing left")

    def test_rules_that_settings_take_are_rules_that_verdicts_take(self) -> None:
        from tasks.verdicts import MessageRules

        settings = load({"LAUNCHQ_CAPACITY_MESSAGES": "(?i)a\n(?P<x>b)\n(?P<x>c)"})
        MessageRules.of(settings.capacity_messages, settings.balance_messages)

    def test_celery_uses_the_ledgers_redis_unless_another_broker_is_named(self) -> None:
        assert load({"LAUNCHQ_REDIS_URL": "redis://a/1"}).broker == "redis://a/1"
        named = load({"LAUNCHQ_REDIS_URL": "redis://a/1", "LAUNCHQ_BROKER_URL": "amqp://b"})
        assert (named.redis_url, named.broker) == ("redis://a/1", "amqp://b")

    def test_logging_in_takes_both_a_name_and_a_password(self) -> None:
        assert not load({"LAUNCHQ_USERNAME": "u"}).can_log_in
        assert not load({"LAUNCHQ_PASSWORD": "p"}).can_log_in
        assert load({"LAUNCHQ_USERNAME": "u", "LAUNCHQ_PASSWORD": "p"}).can_log_in


class TestSecretKeys:
    def test_none_is_none(self) -> None:
        assert load({}).secret_keys == ()
        assert load({"LAUNCHQ_SECRET_KEY": ""}).secret_keys == ()

    def test_several_keep_their_order(self) -> None:
        newer = FERNET_KEY.replace("A", "B")
        assert load({"LAUNCHQ_SECRET_KEY": f" {newer} , {FERNET_KEY}"}).secret_keys == (newer, FERNET_KEY)

    def test_what_is_taken_is_what_the_library_takes(self) -> None:
        key = Fernet.generate_key().decode()
        assert load({"LAUNCHQ_SECRET_KEY": key}).secret_keys == (key,)
        Fernet(FERNET_KEY)

    def test_the_refusal_says_how_to_make_one(self) -> None:
        assert "launchq auth new-key" in refused({"LAUNCHQ_SECRET_KEY": "password123"})

    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("rediss://u:p@host/0?ssl_password=p", "rediss://u:***@host/0?ssl_password=***"),
            (
                "rediss://host/0?ssl_ca_certs=ca&ssl_password=p&x=1",
                "rediss://host/0?ssl_ca_certs=ca&ssl_password=***&x=1",
            ),
        ],
    )
    def test_the_password_of_a_client_certificate_is_not_shown(self, given: str, shown: str) -> None:
        assert without_password(given) == shown


class TestBrokerOverTls:
    @pytest.mark.parametrize(
        ("url", "seen"),
        [
            ("redis://host/0", "redis://host/0"),
            ("amqps://host//", "amqps://host//"),
            ("rediss://:p%40@host/0", "rediss://:p%40@host/0?ssl_cert_reqs=required"),
            ("rediss://host?ssl_ca_certs=/a%20b", "rediss://host?ssl_ca_certs=/a%20b&ssl_cert_reqs=required"),
            ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
        ],
    )
    def test_certificates_are_checked_unless_somebody_says_that_they_are_not_to_be(
        self, url: str, seen: str
    ) -> None:
        assert celery_settings(load({"LAUNCHQ_BROKER_URL": url}))["broker_url"] == seen
