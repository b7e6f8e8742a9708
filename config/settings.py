"""Every setting: `LAUNCHQ_*` in the environment, then in `.env`, then the default.

`LAUNCHQ_X_FILE` names a file that holds the value of `LAUNCHQ_X`, so that secrets stay out of the environment.
An empty value is none, also against what `.env` says: container tools pass unset variables on as empty ones.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from config.addresses import KINDS, Address, addresses_in, kinds_in
from config.urls import is_local, split

PREFIX: Final = "LAUNCHQ_"

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SettingsError(Exception):
    """A setting cannot be used. The text names the variable and what would be right, never a secret's value."""


def seconds(value: Any) -> float:
    """`30`, `30s`, `10m`, `12h`, `7d` or `500ms`, in seconds; ValueError where it is none of these."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", str(value))
    if not match:
        raise ValueError("must be a length of time such as 30, 30s, 10m, 12h or 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def patience(value: Any) -> float:
    """A length of time, or `forever` (infinity)."""
    if str(value).strip().lower() in {"forever", "for ever"}:
        return math.inf
    return seconds(value)


def _one_line(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not secret.get_secret_value().isprintable():
        raise ValueError("must be one line of printable characters")
    return secret


def _one_word(secret: SecretStr | None) -> SecretStr | None:
    # It travels in a header, as it is: RFC 6265, 4.1.1.
    if secret is not None and not re.fullmatch(
        r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+", secret.get_secret_value()
    ):
        raise ValueError("must be one word, without quotes, commas, semicolons or characters outside ASCII")
    return secret


def _any_url(url: str) -> str:
    for one in url.split(";"):  # several brokers, each standing in for the one before
        split(one)
    return url


def _redis_url(url: str) -> str:
    if split(url).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must start with redis://, rediss:// or unix://")
    return url


def _api_url(url: str) -> str:
    parts = split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL such as https://cloud.luchentech.com/api")
    if parts.username or parts.password:
        raise ValueError("must hold no user name or password; use LAUNCHQ_USERNAME and LAUNCHQ_PASSWORD")
    if parts.scheme == "http" and not is_local(parts.hostname):
        raise ValueError("must be https, since the token travels with every call; http is for localhost only")
    return url.rstrip("/")


def _traces(url: str) -> str:
    if url:
        parts = split(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be the URL of an OTLP collector over HTTP, such as http://127.0.0.1:4318")
        if parts.username or parts.password:
            raise ValueError("must hold no user name or password; use OTEL_EXPORTER_OTLP_HEADERS")
    return url.rstrip("/")


def _prefix(prefix: str) -> str:
    if not re.fullmatch(r"[\w.:-]{1,100}", prefix):
        raise ValueError("must be letters, digits, '_', '.', ':' or '-', at most 100")
    return prefix


def _patterns(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    patterns = tuple(line.strip() for line in value.splitlines() if line.strip())
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"must be regular expressions, one a line ({error})") from None
    return patterns


def _delays(value: Any) -> Any:
    """`5,15,45`: lengths of time, each longer than the one before."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError("must be lengths of time, separated by commas: 5,15,45")
    delays = tuple(seconds(part) for part in value)
    if not 0 < len(delays) <= 20 or delays[0] <= 0 or any(a >= b for a, b in pairwise(delays)):
        raise ValueError("must be 1 to 20 lengths of time above 0, each longer than the one before: 5,15,45")
    return delays


def _fernet_keys(secret: SecretStr | None) -> SecretStr | None:
    # Fernet's own form: 32 bytes in URL-safe base64. Checked here by form alone, so that settings load no cryptography.
    if secret is not None and not all(
        re.fullmatch(r"[A-Za-z0-9_-]{43}=", key) for key in _keys_in(secret.get_secret_value())
    ):
        raise ValueError(
            "must be a Fernet key, or several separated by commas, the newest first; `launchq auth new-key` makes one"
        )
    return secret


def _addresses(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        addresses_in(secret.get_secret_value())
    return secret


def _kinds(value: Any) -> Any:
    return kinds_in(value) if isinstance(value, str) else value


def _keys_in(text: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in text.split(","))


def _rate(value: Any) -> Any:
    """`10/s`, `600/m`, `0.5/s`, or `0` for no limit, as calls a second."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(s|m|h))?\s*", str(value))
    if not match or (match[2] is None and float(match[1]) != 0):
        raise ValueError("must be a number of calls in a time, such as 10/s or 600/m, or 0 for no limit")
    return float(match[1]) / _UNITS[match[2] or "s"]


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("must be the name of a time zone, such as Asia/Shanghai or UTC") from None
    return name


Seconds = Annotated[float, BeforeValidator(seconds)]
Rate = Annotated[float, BeforeValidator(_rate)]
Delays = Annotated[tuple[float, ...], BeforeValidator(_delays)]
Secret = Annotated[SecretStr | None, AfterValidator(_one_line)]
HeaderSecret = Annotated[SecretStr | None, AfterValidator(_one_word)]
FernetKeys = Annotated[SecretStr | None, AfterValidator(_fernet_keys)]
Addresses = Annotated[SecretStr | None, AfterValidator(_addresses)]
Kinds = Annotated[tuple[str, ...], BeforeValidator(_kinds)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]


class Settings(BaseModel):
    """The settings, frozen. Times are in seconds. Secrets and URLs (they may hold passwords) are not in `repr`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field("redis://127.0.0.1:6379/0", repr=False)
    broker_url: Annotated[str, AfterValidator(_any_url)] = Field("", repr=False)
    prefix: Annotated[str, AfterValidator(_prefix)] = "launchq"
    api_url: Annotated[str, AfterValidator(_api_url)] = "https://cloud.luchentech.com/api"
    access_token: HeaderSecret = None
    username: str = ""
    password: Secret = None
    api_key: HeaderSecret = None
    secret_key: FernetKeys = None
    request_timeout: Seconds = Field(30.0, gt=0, le=600)
    concurrency: int = Field(100, ge=1, le=10_000)
    rate_limit: Rate = Field(10.0, ge=0, le=100_000)
    max_attempts: int = Field(8, ge=1, le=1000)
    backoff_base: Seconds = Field(1.0, gt=0)
    backoff_cap: Seconds = Field(60.0, gt=0)
    capacity_interval: Seconds = Field(30.0, gt=0)
    stock: Literal["on", "off"] = "on"
    capacity_messages: Patterns = ()
    balance_messages: Patterns = ()
    verify_delays: Delays = (5.0, 15.0, 45.0)
    shift_seconds: Seconds = Field(30.0, gt=0)
    retention: Seconds = Field(7 * 86400.0, gt=0)
    timezone: Annotated[str, AfterValidator(_timezone)] = "Asia/Shanghai"
    notify: Addresses = None
    notify_on: Kinds = KINDS
    log_format: Literal["text", "json"] = "text"
    traces: Annotated[str, AfterValidator(_traces)] = Field("", repr=False)

    @property
    def broker(self) -> str:
        """Where Celery's messages go: the ledger's Redis unless another place is named."""
        return self.broker_url or self.redis_url

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The keys that secrets are sealed with in Redis, the newest first; empty where they are not."""
        return _keys_in(self.secret_key.get_secret_value()) if self.secret_key else ()

    @property
    def notify_addresses(self) -> tuple[Address, ...]:
        """Where notifications go; empty: nowhere."""
        return addresses_in(self.notify.get_secret_value()) if self.notify else ()

    @property
    def can_log_in(self) -> bool:
        """Whether user name and password are set."""
        return bool(self.username and self.password)


_FIELD_OF: Final = {PREFIX + name.upper(): name for name in Settings.model_fields}


def load(environment: Mapping[str, str] | None = None, *, env_file: str | Path = ".env") -> Settings:
    """The settings of this process. SettingsError lists everything that is wrong, a line each."""
    values, problems = _read(environment, Path(env_file))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [_problem(detail["loc"], detail["msg"]) for detail in error.errors(include_input=False)]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def unknown_names(
    environment: Mapping[str, str] | None = None, *, env_file: str | Path = ".env"
) -> list[str]:
    """Variables that look like settings and are none: most likely misspelled."""
    names = {name for layer in _layers(environment, Path(env_file)) for name in layer}
    known = {*_FIELD_OF, *(name + "_FILE" for name in _FIELD_OF)}
    return sorted(name for name in names - known if name.startswith(PREFIX))


def without_password(url: str) -> str:
    """A URL that can be shown: its password, if any, is replaced by `***`."""
    url = re.sub(r"([?&](?:ssl_)?password=)[^&#]*", r"\1***", url)
    parts = urlsplit(url)
    if not parts.password:
        return url
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***{at}{host}"))


def _layers(environment: Mapping[str, str] | None, env_file: Path) -> list[Mapping[str, str | None]]:
    """Where settings are looked for, the strongest first."""
    if environment is not None:
        return [environment]
    if not env_file.is_file():
        return [os.environ]
    from dotenv import dotenv_values

    return [os.environ, dotenv_values(env_file, interpolate=False)]


def _read(environment: Mapping[str, str] | None, env_file: Path) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    problems: list[str] = []
    for layer in _layers(environment, env_file):
        for variable, name in _FIELD_OF.items():
            if name in values or not {variable, variable + "_FILE"} & layer.keys():
                continue
            # Within a layer, what is set outright wins over a file: one command can then override a container.
            value, file = layer.get(variable), layer.get(variable + "_FILE")
            if not value and file:
                try:
                    value = Path(file).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    why = getattr(error, "strerror", None) or "not UTF-8 text"
                    problems.append(f"{variable}_FILE: cannot read {file}: {why}")
            # An empty value is none, also against a weaker layer: so one command can do without what .env says.
            values[name] = value or ""
    return {name: value for name, value in values.items() if value}, problems


def _problem(location: tuple[int | str, ...], message: str) -> str:
    name = PREFIX + str(location[0]).upper() if location else "settings"
    message = message.removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"
